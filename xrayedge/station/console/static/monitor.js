// Whether the images have changed, and how the station does.

import { call, ROOT } from "./api.js";
import { find, icon, make, problem } from "./dom.js";
import * as words from "./words.js";

export class Monitor {
  clear() {
    find("monitor").replaceChildren();
  }

  async load() {
    try {
      this.#show(await call("GET", "/monitor"));
    } catch (error) {
      find("monitor").replaceChildren(problem(error));
    }
  }

  #show(told) {
    const changed = Boolean(told.sentence);
    find("monitor").replaceChildren(
      make(
        "p",
        { class: "panel sentence", data: { changed: String(changed) } },
        icon(changed ? "alert" : "check"),
        make("span", {}, told.sentence ?? "No change of the images has been seen."),
      ),
      make("dl", { class: "tiles numbers" }, numbers(told).map(number)),
      make("h2", {}, "Images beside those that the model was tested with"),
      make("div", { class: "tiles plots" }, (told.measures ?? []).map(plot)),
    );
  }
}

function numbers({ reject_rate: rejected, latency_ms: latency, disk_free_mb: disk, queue }) {
  const times = Object.entries(latency ?? {}).filter(([, value]) => typeof value === "number");
  return [
    ["Not screened", typeof rejected === "number" ? words.percent(rejected) : "–"],
    ...times.map(([name, value]) => [`Time for an image, ${name}`, `${Math.round(value)} ms`]),
    ["Room on the disk", typeof disk === "number" ? `${(disk / 1000).toFixed(1)} GB` : "–"],
    ["Waiting to be screened", typeof queue === "number" ? String(queue) : "–"],
  ];
}

const number = ([name, value]) =>
  make(
    "div",
    { class: "panel tile" },
    make("dt", {}, name),
    make("dd", { class: "figure" }, value),
  );

function plot({ name, title, psi, count, changed }) {
  const told = title ?? name.replaceAll("-", " ");
  const index =
    typeof psi === "number" ? `stability index ${psi.toFixed(2)}` : "too few images for an index";
  return make(
    "figure",
    { class: "panel plot", data: { changed: String(Boolean(changed)) } },
    make("img", {
      src: `${ROOT}/monitor/${encodeURIComponent(name)}.svg`,
      alt: `Histogram of ${told}: recent images beside the reference`,
      loading: "lazy",
    }),
    make("figcaption", {}, make("b", {}, told), ` ${index}, ${count} images`),
  );
}
