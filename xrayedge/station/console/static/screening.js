// The view where images arrive and one of them is shown.

import { ApiError, ROOT } from "./api.js";
import { fill } from "./cards.js";
import { announce, find, icon, make, problem } from "./dom.js";
import { facts, head } from "./result.js";
import { viewerWithTools } from "./viewer-tools.js";
import * as words from "./words.js";

const SHOWN = 50;

export class ScreeningView {
  #screenings;
  #selected = null;
  #shown = ""; // the selected screening as it was drawn
  #picture = ""; // whose image is on the canvas
  #size = null;
  #following = true; // the newest image is shown until somebody chooses an older one
  #fresh = new Set();
  #lost = null;
  #parts;

  constructor(screenings) {
    this.#screenings = screenings;
    this.#parts = this.#build();
    screenings.addEventListener("change", ({ detail }) => this.#changed(detail));
    find("newest").addEventListener("click", () => {
      this.follow();
      location.hash = `#/screening/${screenings.newest.id}`;
      find("arrivals").querySelector("a")?.focus();
    });
  }

  #build() {
    const tools = viewerWithTools();
    const stale = make("p", { class: "stale", hidden: true });
    const top = make("div", { class: "verdict-place" });
    const told = make("div", { class: "facts" });
    const print = make(
      "button",
      { type: "button", class: "print", onclick: () => window.print() },
      icon("print"),
      "Print",
    );
    find("screen").append(
      stale,
      make("header", { class: "row spread" }, top, print),
      tools.element,
      told,
    );
    return { ...tools, stale, top, told, print };
  }

  /** Show each image that comes from now on. */
  follow() {
    this.#following = true;
    this.#draw();
  }

  /** Somebody chose an image, or none. */
  async open(id) {
    const newest = this.#screenings.newest;
    if (!id) {
      if (newest && this.#following) location.replace(`#/screening/${newest.id}`);
      return this.#draw();
    }
    this.#following = newest === null || newest.id === id;
    this.#fresh.delete(id);
    const another = this.#selected !== id;
    this.#selected = id;
    this.#draw();
    if (another && find("screen").getBoundingClientRect().top < 0) find("screen").scrollIntoView();
    try {
      await this.#screenings.ask(id);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.#selected === id) this.#failed(error);
    }
    return undefined;
  }

  /** `since`: when the station was heard last, or `null` when it is there. */
  setLost(since) {
    this.#lost = since;
    const { stale } = this.#parts;
    stale.hidden = since === null;
    stale.textContent = since
      ? `Stale: as of ${words.time(since.toISOString())}. The station has not been heard since.`
      : "";
  }

  clear() {
    this.#selected = null;
    this.#fresh.clear();
    this.#following = true;
    this.setLost(null);
    this.#blank();
    this.#draw();
  }

  #changed({ screening, arrived }) {
    const newest = this.#screenings.newest;
    if (arrived && screening.id !== this.#selected) this.#fresh.add(screening.id);
    const visible = !find("view-screening").hidden;
    if (visible && this.#following && newest && newest.id !== this.#selected) {
      location.replace(`#/screening/${newest.id}`);
    }
    if (screening && ["done", "refused", "set-aside"].includes(screening.state)) {
      announce(`${words.headline(screening)}, received ${words.time(screening.received)}`);
    }
    this.#draw();
  }

  #draw() {
    const latest = this.#screenings.latest.slice(0, SHOWN);
    fill(find("arrivals"), latest, ({ id }) => ({
      current: id === this.#selected,
      fresh: this.#fresh.has(id),
    }));
    find("arrivals-empty").hidden = latest.length > 0;
    find("newest").hidden = this.#following || !latest.length;
    document.body.dataset.empty = String(!latest.length && !this.#selected);
    this.#show(this.#selected && this.#screenings.get(this.#selected));
  }

  #blank() {
    this.#shown = this.#picture = "";
    this.#size = null;
    this.#parts.viewer.clear();
    this.#parts.top.replaceChildren();
    this.#parts.told.replaceChildren();
    find("screen").hidden = true;
    delete find("screen").dataset.id;
    delete find("screen").dataset.state;
  }

  #show(screening) {
    if (!screening) return this.#blank();
    const text = JSON.stringify(screening);
    if (text === this.#shown) return undefined;
    this.#shown = text;
    find("screen").hidden = false;
    find("screen").dataset.id = screening.id;
    find("screen").dataset.state = screening.state;
    if (this.#picture && this.#picture !== screening.id) {
      this.#picture = "";
      this.#size = null;
      this.#parts.viewer.clear();
    }
    this.#write(screening);
    return this.#paint(screening);
  }

  #write(screening) {
    this.#parts.top.replaceChildren(head(screening));
    this.#parts.told.replaceChildren(...facts(screening, this.#size));
    this.#parts.print.hidden = !screening.result;
  }

  /** Fetch the image once there is something to show: a file that can't be read has none. */
  async #paint(screening) {
    const status = screening.result?.status;
    const has = status === "screened" || status === "rejected";
    const waiting = screening.state === "received" || screening.state === "screening";
    find("screen").dataset.image = String(has || waiting);
    this.#note(has ? "" : waiting ? "The image is being screened." : "There is no image to show.");
    if (!has || this.#picture === screening.id) return;
    this.#picture = screening.id;
    const base = `${ROOT}/screenings/${encodeURIComponent(screening.id)}`;
    const heat = status === "screened" ? `${base}/heatmap.png` : null;
    this.#note("Loading the image …");
    try {
      const size = await this.#parts.viewer.show(
        `${base}/image.png`,
        heat,
        screening.result.opacities ?? [],
      );
      if (!size || this.#picture !== screening.id) return;
      this.#size = size;
      this.#parts.heat.disabled = !size.heatmap;
      this.#note("");
      this.#parts.canvas.setAttribute("aria-label", `Radiograph: ${words.headline(screening)}`);
      this.#write(this.#screenings.get(screening.id) ?? screening);
    } catch {
      if (this.#picture !== screening.id) return;
      this.#picture = "";
      this.#note("The image could not be loaded.");
    }
  }

  #note(text) {
    const note = find("no-image");
    note.textContent = text;
    note.hidden = !text;
  }

  #failed(error) {
    find("screen").hidden = false;
    find("screen").dataset.image = "false";
    this.#parts.viewer.clear();
    this.#parts.top.replaceChildren(problem(error));
    this.#parts.told.replaceChildren();
    this.#parts.print.hidden = true;
    this.#note("There is no image to show.");
  }
}
