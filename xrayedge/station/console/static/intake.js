// Images that come by the browser: chosen or dropped, sent a few at a time, and what became of each.

import { ApiError, call } from "./api.js";
import { announce, find, make } from "./dom.js";
import * as words from "./words.js";

const AT_ONCE = 2;
const BUSY_TRIES = 20;
const BUSY_SECONDS = 2; // where the station doesn't say how long
const DONE = ["done", "refused", "set-aside", "not-sent"];

export class Intake {
  #screenings;
  #opened; // called with an id when one image alone was sent
  #follow;
  #items = [];
  #sending = 0;
  #names = false; // a file's name may hold a patient's

  constructor(screenings, { opened, follow }) {
    this.#screenings = screenings;
    this.#opened = opened;
    this.#follow = follow;
    screenings.addEventListener("change", () => this.#draw());
    find("choose").addEventListener("click", () => find("files").click());
    find("files").addEventListener("change", ({ target }) => {
      this.add([...target.files]);
      target.value = "";
    });
    find("example").addEventListener("click", () => this.#example());
    this.#takeDrops();
  }

  /** Whether this account may send images, and whether there is an example. */
  allow(may, example) {
    find("drop").hidden = !may;
    find("read-only").hidden = may;
    find("example").hidden = !example;
  }

  clear() {
    this.#items = [];
    this.#draw();
  }

  add(files, folders = 0) {
    if (!files.length && !folders) return;
    if (this.#items.every((one) => DONE.includes(this.#state(one)))) this.#items = [];
    const items = files.map((file) => ({ file, state: "queued", id: null, error: null }));
    if (folders) {
      const error = new ApiError(
        0,
        "A folder can't be dropped.",
        "Open it and drop the images in it.",
      );
      items.push({ file: null, state: "not-sent", id: null, error });
    }
    this.#items.push(...items);
    announce(`${files.length} ${files.length === 1 ? "image" : "images"} to send`);
    this.#follow();
    this.#draw();
    for (let one = 0; one < AT_ONCE; one += 1) this.#pump();
  }

  #takeDrops() {
    let depth = 0;
    const over = (on) => find("drop").classList.toggle("over", on);
    const may = () => !find("drop").hidden && !find("view-screening").hidden;
    const has = (event) => event.dataTransfer?.types.includes("Files");
    // Anywhere on the page: a file beside the drop zone must not replace the page.
    addEventListener("dragenter", (event) => {
      if (!has(event)) return;
      depth += 1;
      over(may());
    });
    addEventListener("dragleave", (event) => {
      if (!has(event)) return;
      depth = Math.max(0, depth - 1);
      over(may() && depth > 0);
    });
    addEventListener("dragover", (event) => {
      if (!has(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = may() ? "copy" : "none";
    });
    addEventListener("drop", (event) => {
      depth = 0;
      over(false);
      if (!has(event)) return;
      event.preventDefault();
      if (!may()) return;
      const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry?.());
      const all = [...event.dataTransfer.files];
      const files = all.filter((_, index) => !entries[index]?.isDirectory);
      this.add(files, all.length - files.length);
    });
  }

  async #pump() {
    if (this.#sending >= AT_ONCE) return;
    const item = this.#items.find((one) => one.state === "queued");
    if (!item) return;
    this.#sending += 1;
    item.state = "sending";
    this.#draw();
    try {
      const { id, new: fresh } = await this.#post("/screenings", item);
      Object.assign(item, { state: "sent", id, known: !fresh });
      await this.#look(item);
    } catch (error) {
      Object.assign(item, { state: "not-sent", error: await cause(error, item.file) });
    }
    this.#sending -= 1;
    this.#draw();
    this.#pump();
  }

  /** Send it; while the station is busy the item says so, and is tried again. */
  async #post(path, item) {
    const headers = { "Content-Type": "application/octet-stream" };
    for (let left = BUSY_TRIES; ; left -= 1) {
      try {
        return await call("POST", path, { body: item.file ?? undefined, headers });
      } catch (error) {
        if (error.status !== 503 || !left) throw error;
        item.error = error;
        this.#draw();
        const seconds = error.retryAfter || BUSY_SECONDS;
        await new Promise((done) => setTimeout(done, 1000 * seconds));
        item.error = null;
      }
    }
  }

  /** An image that the station has already makes no event. */
  async #look(item) {
    await this.#screenings.ask(item.id);
    if (this.#items.length === 1) this.#opened(item.id);
  }

  async #example() {
    find("example").disabled = true;
    this.#items = [];
    const item = { file: null, state: "sending", id: null, error: null };
    this.#items.push(item);
    this.#draw();
    try {
      item.id = (await this.#post("/example", item)).id;
      item.state = "sent";
      await this.#look(item);
    } catch (error) {
      Object.assign(item, { state: "not-sent", error });
    }
    find("example").disabled = false;
    this.#draw();
  }

  #state(item) {
    if (item.state !== "sent") return item.state;
    return this.#screenings.get(item.id)?.state ?? "received";
  }

  #draw() {
    const tray = find("uploads");
    // What became of a single image is shown large beside it.
    const alone =
      this.#items.length === 1 && ["done", "refused"].includes(this.#state(this.#items[0]));
    tray.hidden = alone || !this.#items.length;
    if (tray.hidden) return tray.replaceChildren();
    const count = (...states) =>
      this.#items.filter((one) => states.includes(this.#state(one))).length;
    const open = this.#items.length - count(...DONE);
    const summary = [
      [count("done"), "screened"],
      [count("refused", "set-aside"), "refused"],
      [count("not-sent"), "not received"],
      [open, "in work"],
    ].filter(([number]) => number);
    const focused = tray.contains(document.activeElement) ? document.activeElement.id : "";
    const bar = make("progress", {
      max: this.#items.length,
      value: this.#items.length - open,
      "aria-label": "Images finished",
    });
    tray.replaceChildren(
      make(
        "div",
        { class: "row spread" },
        make(
          "p",
          { class: "tray-sum" },
          summary.map(([number, text]) => `${number} ${text}`).join(", "),
        ),
        open
          ? null
          : make(
              "button",
              { type: "button", class: "small", id: "tray-close", onclick: () => this.clear() },
              "Close",
            ),
      ),
      open ? bar : "",
      make(
        "ul",
        { class: "tray" },
        this.#items.map((one, index) => this.#row(one, index)),
      ),
      this.#items.some((one) => one.file)
        ? make(
            "label",
            { class: "muted check" },
            make("input", {
              type: "checkbox",
              id: "tray-names",
              checked: this.#names,
              onchange: ({ target }) => this.#toggle(target.checked),
            }),
            "Show file names (they stay in this browser)",
          )
        : "",
    );
    if (focused) find(focused)?.focus();
    return undefined;
  }

  #toggle(names) {
    this.#names = names;
    this.#draw();
  }

  #row(item, index) {
    const state = this.#state(item);
    const screening = item.id && this.#screenings.get(item.id);
    const name =
      this.#names && item.file ? item.file.name : `Image ${index + 1} of ${this.#items.length}`;
    const told = {
      queued: "waiting",
      sending: "being sent",
      received: "received",
      screening: "being screened",
    };
    const cells = [make("span", {}, item.file || item.state !== "not-sent" ? name : "")];
    if (state === "not-sent") {
      cells.push(
        make("span", { class: "bad" }, make("b", {}, item.error.message), ` ${item.error.remedy}`),
        item.file
          ? make(
              "button",
              {
                type: "button",
                class: "small",
                id: `again-${index}`,
                onclick: () => this.#again(item),
              },
              "Try again",
            )
          : null,
      );
    } else if (state === "refused" || state === "set-aside") {
      const link = make("a", { href: `#/screening/${item.id}` }, "Not screened");
      cells.push(
        make(
          "span",
          { class: "bad" },
          link,
          `: ${words.refusal(screening)} ${screening.remedy ?? ""}`,
        ),
      );
    } else if (state === "done") {
      cells.push(make("a", { href: `#/screening/${item.id}` }, words.headline(screening)));
      if (item.known)
        cells.push(make("span", { class: "muted" }, "The station had this image already."));
    } else {
      const why = item.error
        ? `${item.error.message} ${item.error.remedy}`
        : (told[state] ?? state);
      cells.push(make("span", { class: "muted" }, why));
    }
    return make("li", { data: { state } }, cells);
  }

  #again(item) {
    Object.assign(item, { state: "queued", error: null });
    this.#draw();
    this.#pump();
  }
}

/** A file that was moved meanwhile fails as if there were no network. */
async function cause(error, file) {
  if (error.status !== 0) return error;
  try {
    await file.slice(0, 1).arrayBuffer();
    return error;
  } catch {
    return new ApiError(
      0,
      "The file can't be read.",
      "See that it is still there, then try again.",
    );
  }
}
