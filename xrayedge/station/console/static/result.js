// What a screening found, in words, bars and tables.

import { icon, make } from "./dom.js";
import * as words from "./words.js";

/** The headline with its certainty, and the buttons that go with it. */
export function head(screening) {
  const kind = words.kind(screening);
  return make(
    "div",
    { class: "verdict", data: { kind } },
    make("span", { class: "badge large" }, icon(words.iconOf(screening))),
    make(
      "div",
      {},
      make("h2", { id: "verdict" }, words.headline(screening)),
      make("p", { class: "certainty" }, certainty(screening)),
      make(
        "p",
        { class: "muted" },
        "Received ",
        make("time", { datetime: screening.received }, words.moment(screening.received)),
        ` · ${words.ORIGINS[screening.origin] ?? screening.origin} · image ${screening.id.slice(0, 8)}`,
      ),
    ),
  );
}

function certainty({ state, result }) {
  if (state === "refused") return "The image was refused; there is no result.";
  if (state === "set-aside") return "There is no result.";
  if (state !== "done" || !result) return "The result appears here.";
  const share = words.percent(result.probabilities[result.label]);
  return result.certain
    ? `Certain at this operating point · probability ${share}`
    : `The other classes together are more probable · probability ${share}`;
}

/** Probabilities, opacities, reasons, deliveries and what made the result. */
export function facts(screening, size) {
  const { result } = screening;
  const parts = [];
  if (screening.state === "refused" || screening.state === "set-aside") {
    parts.push(refusal(screening));
  }
  if (result?.probabilities) parts.push(probabilities(result));
  if (result?.status === "screened") parts.push(opacities(result.opacities ?? [], size));
  // Of an image without a result the age is no matter; that it is another view may be the reason.
  const codes = (result?.warnings ?? []).filter(
    (code) => screening.state === "done" || code !== "age-unknown",
  );
  if (codes.length) parts.push(warnings(codes));
  if (screening.deliveries.length) parts.push(deliveries(screening.deliveries));
  if (result?.model) parts.push(made(result));
  return parts;
}

const part = (title, ...children) =>
  make("section", { class: "part" }, make("h3", {}, title), ...children);

function refusal(screening) {
  return part(
    "Why there is no result",
    make("p", { class: "reason" }, words.refusal(screening)),
    screening.remedy ? make("p", {}, make("b", {}, "What to do: "), screening.remedy) : null,
  );
}

function probabilities({ probabilities: shares, label, operating_point: point }) {
  const rows = Object.entries(shares).map(([name, share]) => {
    const bar = make("i", { class: "bar-fill", data: { kind: name } });
    bar.style.width = `${100 * share}%`;
    return make(
      "li",
      { class: name === label ? "chosen" : null },
      make("span", {}, words.className(name)),
      make("span", { class: "bar-track", "aria-hidden": "true" }, bar),
      make("span", { class: "number" }, words.percent(share)),
    );
  });
  const longest = Object.entries(shares).sort(([, one], [, other]) => other - one)[0][0];
  const note =
    longest === label
      ? null
      : `The operating point “${point}” weighs the classes: its choice is not the most probable one.`;
  return part("Probabilities", make("ul", { class: "bars" }, rows), note && make("p", {}, note));
}

function opacities(found, size) {
  if (!found.length) {
    return part("Opacities", make("p", { class: "muted" }, "None found in this image."));
  }
  const rows = found.map(({ box, score }, index) =>
    make(
      "li",
      {},
      make("b", { class: "mark" }, String(index + 1)),
      make("span", {}, size ? words.place(box, size.width, size.height) : "outlined"),
      make("span", { class: "number" }, `score ${words.score(score)}`),
    ),
  );
  return part("Opacities", make("ol", { class: "opacities" }, rows));
}

function warnings(codes) {
  const rows = codes.map((code) => make("li", {}, words.warning(code)));
  return part("Note", make("ul", {}, rows));
}

function deliveries(all) {
  const rows = all.map(({ destination, kind, state, error }) =>
    make(
      "li",
      { data: { state } },
      `${words.KINDS[kind] ?? kind} to ${destination}: ${words.delivery(state)}`,
      error && state !== "sent" && state !== "committed"
        ? make("span", { class: "muted" }, ` (${error})`)
        : null,
    ),
  );
  return part("Sent to", make("ul", { class: "deliveries" }, rows));
}

function made(result) {
  const pairs = [
    ["Model", `${result.model} ${result.version}`],
    ["Operating point", result.operating_point],
    ["Engine", `${result.engine}, ${result.precision}`],
    ["Time", result.timings_ms?.total ? words.milliseconds(result.timings_ms.total) : null],
    [
      "Frontal score",
      typeof result.frontal_score === "number" ? words.percent(result.frontal_score) : null,
    ],
  ].filter(([, value]) => value);
  return make(
    "section",
    { class: "part" },
    make("h3", {}, "Made by"),
    make(
      "dl",
      { class: "pairs" },
      pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
    ),
  );
}
