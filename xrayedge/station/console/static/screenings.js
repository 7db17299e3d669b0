// The latest screenings that this page knows of, newest first.

import { call } from "./api.js";

const KEPT = 200;

/**
 * Dispatches `change` with detail `{screening, arrived}`: what changed, and whether it came just
 * now. `screening` is `null` where all may have changed.
 */
export class Screenings extends EventTarget {
  #all = new Map();

  get newest() {
    return this.latest[0] ?? null;
  }

  get latest() {
    return [...this.#all.values()].sort((one, other) => (one.received < other.received ? 1 : -1));
  }

  get(id) {
    return this.#all.get(id) ?? null;
  }

  put(screening) {
    const { newest } = this;
    const arrived =
      !this.#all.has(screening.id) && !(newest && screening.received < newest.received);
    this.#all.set(screening.id, screening);
    for (const old of this.latest.slice(KEPT)) this.#all.delete(old.id);
    this.#tell(screening, arrived);
  }

  /** Ask the station for one that is not known. What events told meanwhile is newer than the answer. */
  async ask(id) {
    if (this.#all.has(id)) return;
    const answer = await call("GET", `/screenings/${encodeURIComponent(id)}`);
    if (!this.#all.has(id)) this.put(answer);
  }

  /** What the station has now; whatever else was known is no longer true. */
  replace(screenings) {
    this.#all = new Map(screenings.map((one) => [one.id, one]));
    this.#tell(null, false);
  }

  #tell(screening, arrived) {
    this.dispatchEvent(new CustomEvent("change", { detail: { screening, arrived } }));
  }
}
