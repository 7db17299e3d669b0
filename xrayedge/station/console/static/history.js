// What was screened, by day, searched by time and result.

import { call, query, ROOT } from "./api.js";
import { card } from "./cards.js";
import { announce, find, make, problem } from "./dom.js";
import * as words from "./words.js";

const PAGE = 50;

export class History {
  #next = null;
  #days = new Map();
  #token = 0;

  constructor() {
    const form = find("search");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.load();
    });
    // Once the form is empty; it is emptied at the end of a session too, when nobody looks.
    form.addEventListener("reset", () =>
      setTimeout(() => find("view-history").hidden || this.load()),
    );
    find("more").addEventListener("click", () => this.#page(this.#next));
  }

  load() {
    const wanted = this.#wanted();
    find("csv").href = ROOT + query("/screenings.csv", wanted);
    this.#days.clear();
    find("days").replaceChildren();
    return this.#page(null);
  }

  clear() {
    this.#token += 1;
    this.#days.clear();
    find("days").replaceChildren();
    find("more").hidden = true;
    find("search").reset();
  }

  #wanted() {
    const form = new FormData(find("search"));
    const iso = (name) => (form.get(name) ? new Date(form.get(name)).toISOString() : "");
    return { since: iso("since"), until: iso("until"), result: form.getAll("result").join(",") };
  }

  async #page(before) {
    const token = ++this.#token;
    try {
      const path = query("/screenings", { ...this.#wanted(), limit: PAGE, before });
      const { screenings, next } = await call("GET", path);
      if (token !== this.#token) return;
      screenings.forEach((one) => this.#add(one));
      this.#next = next;
      find("more").hidden = next === null;
      if (!this.#days.size)
        find("days").replaceChildren(make("p", { class: "muted" }, "No images match."));
      announce(`${find("days").querySelectorAll(".card").length} images shown`);
    } catch (error) {
      if (token === this.#token) find("days").replaceChildren(problem(error));
    }
  }

  #add(screening) {
    const day = words.day(screening.received);
    if (!this.#days.has(day)) {
      const list = make("ol", { class: "cards wide" });
      this.#days.set(day, list);
      find("days").append(make("section", { class: "day" }, make("h2", {}, day), list));
    }
    this.#days.get(day).append(make("li", {}, card(screening)));
  }
}
