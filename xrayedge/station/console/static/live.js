// The stream of events. Read with fetch, because an EventSource hides the heartbeat, without which
// a server whose cable was pulled looks like a quiet one.

import { ROOT } from "./api.js";

const SILENCE_MS = 25_000; // the heartbeat comes every 10 s
const RETRY_MS = [500, 1000, 2000, 4000];

/** Dispatches `open`, `lost` (detail: when something was heard last), and `news` ({event, data}). */
export class Live extends EventTarget {
  #last = null;
  #abort = null;
  #running = false;
  #heard = new Date();

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#run();
  }

  stop() {
    this.#running = false;
    this.#abort?.abort();
  }

  async #run() {
    for (let attempt = 0; this.#running; attempt += 1) {
      if (attempt) await pause(RETRY_MS[Math.min(attempt, RETRY_MS.length) - 1]);
      if (!this.#running) return;
      try {
        await this.#read(() => {
          attempt = 0;
        });
      } catch {
        // Whatever ended the stream, it is lost.
      }
      if (this.#running) this.dispatchEvent(new CustomEvent("lost", { detail: this.#heard }));
    }
  }

  async #read(opened) {
    this.#abort = new AbortController();
    const headers = this.#last === null ? {} : { "Last-Event-ID": this.#last };
    const silence = () => setTimeout(() => this.#abort.abort(), SILENCE_MS);
    let watchdog = silence();
    try {
      const response = await fetch(`${ROOT}/events`, {
        headers,
        cache: "no-store",
        signal: this.#abort.signal,
      });
      if (response.status === 401) {
        this.stop();
        dispatchEvent(new Event("signed-out"));
        return;
      }
      if (!response.ok) return;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let first = true;
      for (let text = ""; ;) {
        const { done, value } = await reader.read();
        if (done) return;
        this.#heard = new Date();
        // Not before: what happens is told from the first words on, not from the answer's head on.
        if (first) {
          first = false;
          opened();
          this.dispatchEvent(new Event("open"));
        }
        clearTimeout(watchdog);
        watchdog = silence();
        const blocks = (text + value).split(/\r?\n\r?\n/);
        text = blocks.pop();
        blocks.forEach((block) => this.#take(block));
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  #take(block) {
    const fields = { event: "message", data: [] };
    for (const line of block.split(/\r?\n/)) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === "data") fields.data.push(value);
      else if (name) fields[name] = value;
    }
    if (fields.id) this.#last = fields.id;
    if (!fields.data.length) return;
    const data = JSON.parse(fields.data.join("\n"));
    this.dispatchEvent(new CustomEvent("news", { detail: { event: fields.event, data } }));
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
