// The latest screenings that this page knows of, newest first.

const KEPT = 200;

/** Dispatches `change` with the changed screening, or `null` where all may have changed. */
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
    this.#all.set(screening.id, screening);
    for (const old of this.latest.slice(KEPT)) this.#all.delete(old.id);
    this.dispatchEvent(new CustomEvent("change", { detail: screening }));
  }

  /** What the station has now; whatever else was known is no longer true. */
  replace(screenings) {
    this.#all = new Map(screenings.map((one) => [one.id, one]));
    this.dispatchEvent(new CustomEvent("change", { detail: null }));
  }
}
