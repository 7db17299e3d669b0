// What waits for which destination, what failed, and trying it again.

import { call } from "./api.js";
import { announce, find, make, problem } from "./dom.js";
import * as words from "./words.js";

export class Sending {
  #may = false;

  /** Whether this account may send again. */
  allow(may) {
    this.#may = may;
  }

  clear() {
    find("sending").replaceChildren();
    this.#count(0);
  }

  async load() {
    try {
      this.show(await call("GET", "/queue"));
    } catch (error) {
      find("sending").replaceChildren(problem(error));
    }
  }

  show({ waiting, destinations, failed }) {
    this.#count(failed.length);
    const place = find("sending");
    const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
    place.replaceChildren(
      make(
        "p",
        { class: "lead" },
        waiting ? `${images(waiting)} to be screened.` : "No image waits to be screened.",
      ),
      destinations.length
        ? make("div", { class: "tiles" }, destinations.map(destination))
        : make(
            "p",
            { class: "muted" },
            "No destination is set up. Results stay in this station; add a [[destination]] to its configuration to send them to a PACS.",
          ),
      ...(failed.length ? [make("h2", {}, "Failed"), this.#table(failed)] : []),
    );
    if (focused) find(focused)?.focus();
  }

  #count(failed) {
    const badge = find("sending-count");
    badge.hidden = !failed;
    badge.textContent = failed || "";
    badge.setAttribute("aria-label", `${failed} failed`);
  }

  #table(failed) {
    const rows = failed.map((one) =>
      make(
        "tr",
        {},
        make("td", { data: { title: "To" } }, one.destination),
        make("td", { data: { title: "What" } }, words.KINDS[one.kind] ?? one.kind),
        make("td", { data: { title: "Why" } }, one.error ?? "no reason given"),
        make("td", { data: { title: "Tries" } }, String(one.tries)),
        make("td", {}, this.#may ? this.#retry(one) : ""),
      ),
    );
    const titles = ["To", "What", "Why", "Tries", ""].map((text) =>
      text ? make("th", { scope: "col" }, text) : make("td", {}),
    );
    return make(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Failed objects" },
      make(
        "table",
        { class: "stack" },
        make("thead", {}, make("tr", {}, titles)),
        make("tbody", {}, rows),
      ),
    );
  }

  #retry({ send, destination }) {
    return make(
      "button",
      {
        type: "button",
        class: "small",
        id: `retry-${send}`,
        "aria-label": `Send again to ${destination}`,
        onclick: async ({ target }) => {
          target.disabled = true;
          try {
            await call("POST", `/queue/${encodeURIComponent(send)}/retry`);
            announce("Queued again");
            await this.load();
          } catch (error) {
            target.disabled = false;
            find("sending").prepend(problem(error));
          }
        },
      },
      "Send again",
    );
  }
}

const images = (count) => (count === 1 ? "1 image waits" : `${count} images wait`);

function destination({ name, waiting, failed, oldest, last_error: error }) {
  const state = failed ? "failed" : waiting ? "waiting" : "ok";
  return make(
    "section",
    { class: "panel tile", data: { state } },
    make("h2", {}, name),
    make("p", { class: "figure" }, String(waiting), make("span", {}, " waiting")),
    failed ? make("p", { class: "bad" }, `${failed} failed`) : null,
    oldest
      ? make("p", { class: "muted" }, `The oldest waits since ${words.moment(oldest)}.`)
      : null,
    error ? make("p", {}, make("b", {}, "Last answer: "), error) : null,
    !waiting && !failed ? make("p", { class: "good" }, "Everything has been sent.") : null,
  );
}
