// Whether a unit's images have changed, and how the station does.

import { call, query, ROOT } from "./api.js";
import { announce, find, icon, make, problem } from "./dom.js";
import * as words from "./words.js";

const STATES = { learning: "learning", waiting: "waiting", steady: "steady", changed: "changed" };

export class Monitor {
  #may = false;
  #unit = "";

  /** Whether this account may take changed images as the new reference. */
  allow(may) {
    this.#may = may;
  }

  clear() {
    this.#unit = "";
    find("monitor").replaceChildren();
  }

  async load() {
    try {
      this.#show(await call("GET", query("/monitor", { unit: this.#unit })));
    } catch (error) {
      this.#unit = "";
      find("monitor").replaceChildren(problem(error));
    }
  }

  #show(told) {
    const changed = (one) => Number(one.state === "changed");
    const units = (told.units ?? []).sort((one, other) => changed(other) - changed(one));
    const titles = new Map((told.measures ?? []).map((one) => [one.name, one]));
    find("monitor").replaceChildren(
      sentence(told.sentence, units),
      make(
        "div",
        { class: "tiles" },
        units.map((one) => this.#tile(one, units.length > 1)),
      ),
      make("dl", { class: "tiles numbers" }, numbers(told).map(number)),
      make("h2", {}, told.unit ? `Images of ${told.unit}` : "Images"),
      make(
        "p",
        { class: "muted" },
        "Filled: the last images. Outlined: the unit's first ones. Dotted: images that the model was made from.",
      ),
      make(
        "div",
        { class: "tiles plots" },
        (told.plots ?? [...titles.keys()]).map((name) => plot(name, titles.get(name), told.unit)),
      ),
    );
  }

  #tile(unit, several) {
    const parts = [
      make(
        "div",
        { class: "row spread" },
        make("h2", {}, unit.name || "This machine"),
        make("span", { class: "chip" }, STATES[unit.state] ?? unit.state),
      ),
      make("p", {}, unit.advice),
      unit.note ? make("p", { class: "muted" }, unit.note) : null,
      make(
        "p",
        { class: "muted" },
        `${unit.reference_images} of ${unit.reference_wanted} first images, ${unit.recent_images} after them`,
      ),
    ];
    const button = (text, onclick) =>
      make("button", { type: "button", class: "small", onclick }, text);
    const buttons = make("div", { class: "row" });
    if (several) {
      const show = () => {
        this.#unit = unit.name;
        this.load();
      };
      buttons.append(button("Show its charts", show));
    }
    if (this.#may && unit.state === "changed") {
      const accept = () => this.#accept(unit.name);
      buttons.append(button("Take them as the new reference", accept));
    }
    if (buttons.children.length) parts.push(buttons);
    return make("section", { class: "panel tile", data: { state: unit.state } }, parts);
  }

  async #accept(unit) {
    try {
      await call("POST", "/monitor/accept", { json: { unit } });
      announce("The last images are the new reference");
      await this.load();
    } catch (error) {
      find("monitor").prepend(problem(error));
    }
  }
}

function sentence(changed, units) {
  const steady = units.some((one) => one.state === "steady");
  const calm = steady
    ? "No change of the images has been seen."
    : "Too few images yet to say whether they change.";
  return make(
    "p",
    { class: "panel sentence", data: { changed: String(Boolean(changed)) } },
    icon(changed ? "alert" : steady ? "check" : "wait"),
    make("span", {}, changed ?? calm),
  );
}

function numbers({ reject_rate: rejected, latency_ms: latency, disk_free_mb: disk, queue }) {
  const milliseconds = (value) => (typeof value === "number" ? words.milliseconds(value) : "–");
  const waiting = queue?.waiting ?? queue;
  return [
    ["Not screened today", typeof rejected === "number" ? words.percent(rejected) : "–"],
    ["Time for an image, half of them within", milliseconds(latency?.p50)],
    ["95 of 100 within", milliseconds(latency?.p95)],
    ["Room on the disk", typeof disk === "number" ? `${(disk / 1000).toFixed(1)} GB` : "–"],
    ["Waiting to be screened", typeof waiting === "number" ? String(waiting) : "–"],
  ];
}

const number = ([name, value]) =>
  make(
    "div",
    { class: "panel tile" },
    make("dt", {}, name),
    make("dd", { class: "figure" }, value),
  );

/** A chart of the station, in the page so that it takes the page's colours. */
function plot(name, measure, unit) {
  const place = make("div", { class: "chart" });
  const index = typeof measure?.psi === "number" ? `stability index ${measure.psi.toFixed(2)}` : "";
  const path = query(`${ROOT}/monitor/${encodeURIComponent(name)}.svg`, { unit });
  fetch(path, { cache: "no-store" })
    .then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
    .then((text) => {
      const chart = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
      if (chart.localName === "svg") place.replaceChildren(document.importNode(chart, true));
    })
    .catch(() => place.replaceChildren(make("p", { class: "muted" }, "The chart can't be shown.")));
  const title = measure?.title ?? { latency: "Latency", days: "Days" }[name] ?? name;
  return make(
    "figure",
    { class: "panel plot", data: { changed: String(Boolean(measure?.changed)) } },
    make("figcaption", {}, make("b", {}, title), index ? ` ${index}` : ""),
    place,
  );
}
