// The record of changes, for an administrator.

import { call, query } from "./api.js";
import { find, make, problem } from "./dom.js";
import * as words from "./words.js";

export class Audit {
  #next = null;
  #rows = null;

  constructor() {
    find("audit-more").addEventListener("click", () => this.#page(this.#next));
    find("verify").addEventListener("click", () => this.#verify());
  }

  clear() {
    find("audit").replaceChildren();
    find("verified").replaceChildren();
    find("audit-more").hidden = true;
  }

  load() {
    this.clear();
    this.#rows = make("tbody", {});
    return this.#page(null);
  }

  async #page(before) {
    try {
      const { entries, next } = await call("GET", query("/audit", { before }));
      this.#rows.append(...entries.map(row));
      this.#next = next;
      find("audit-more").hidden = next === null;
      find("audit").replaceChildren(
        this.#rows.children.length
          ? this.#table()
          : make("p", { class: "muted" }, "Nothing was changed yet."),
      );
    } catch (error) {
      find("audit").replaceChildren(problem(error));
    }
  }

  #table() {
    const titles = ["When", "Who", "What", "Old", "New"].map((text) =>
      make("th", { scope: "col" }, text),
    );
    return make(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Entries" },
      make("table", { class: "stack" }, make("thead", {}, make("tr", {}, titles)), this.#rows),
    );
  }

  async #verify() {
    const told = find("verified");
    told.replaceChildren("Checking …");
    try {
      const { ok, first_bad: bad, entries } = await call("GET", "/audit/verify");
      told.replaceChildren(
        ok
          ? make("span", { class: "good" }, `${entries} entries, none altered`)
          : make(
              "span",
              { class: "bad" },
              `Altered at entry ${bad}. Keep a copy of the state folder and tell the administrator.`,
            ),
      );
    } catch (error) {
      told.replaceChildren(problem(error));
    }
  }
}

function row({ when, who, what, old, new: now }) {
  const cells = [words.moment(when), who, what, old ?? "", now ?? ""];
  const titles = ["When", "Who", "What", "Old", "New"];
  return make(
    "tr",
    {},
    cells.map((text, index) => make("td", { data: { title: titles[index] } }, text)),
  );
}
