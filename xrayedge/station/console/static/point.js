// The operating point: what each costs, and the choice for an administrator.

import { call } from "./api.js";
import { announce, find, make, problem } from "./dom.js";
import * as words from "./words.js";

export class OperatingPoint {
  #may = false;

  /** Whether this account may change it. */
  allow(may) {
    this.#may = may;
  }

  clear() {
    find("point").replaceChildren();
  }

  async load() {
    try {
      this.show(await call("GET", "/operating-point"));
    } catch (error) {
      find("point").replaceChildren(problem(error));
    }
  }

  show({ current, choices }) {
    const tiles = choices.map((one) => this.#tile(one, one.name === current));
    find("point").replaceChildren(
      make("div", { class: "tiles" }, tiles),
      make(
        "p",
        { class: "muted" },
        "Measured on images that were kept apart from training; lines show 95 % intervals. ",
        "At another hospital the values can differ: xrayedge calibrate measures them there.",
      ),
      this.#may
        ? ""
        : make("p", { class: "muted" }, "Only an administrator can change the operating point."),
    );
  }

  #tile(choice, current) {
    return make(
      "section",
      { class: "panel tile", data: { current: String(current), name: choice.name } },
      make(
        "div",
        { class: "row spread" },
        make("h2", {}, choice.name),
        current ? make("span", { class: "chip" }, "in use") : null,
      ),
      make("p", {}, choice.description ?? ""),
      measure("Sensitivity", "of the cases are found", choice.sensitivity),
      measure("Specificity", "of the others raise no alarm", choice.specificity),
      !current && this.#may
        ? make(
            "button",
            { type: "button", id: `use-${choice.name}`, onclick: () => this.#ask(choice) },
            `Use “${choice.name}”`,
          )
        : null,
    );
  }

  async #ask(choice) {
    const told = ["sensitivity", "specificity"]
      .filter((name) => choice[name])
      .map((name) => `${name} ${words.percent(choice[name].value)}`);
    const agreed = await confirm(
      `Use “${choice.name}” from now on?`,
      `${told.length ? `It has a ${told.join(" and a ")}. ` : ""}Images that arrive later are judged by it. The change is entered in the audit.`,
      "Use it",
    );
    if (!agreed) return find(`use-${choice.name}`)?.focus();
    try {
      await call("PUT", "/operating-point", { json: { name: choice.name } });
      announce(`Operating point ${choice.name} in use`);
      await this.load();
      find("point-title").focus();
    } catch (error) {
      find("point").prepend(problem(error));
    }
    return undefined;
  }
}

function measure(name, meaning, found) {
  if (!found) return make("p", { class: "muted" }, `${name}: not measured`);
  const track = make("span", { class: "interval", "aria-hidden": "true" });
  const [line, dot] = [make("i", {}), make("b", {})];
  line.style.left = `${100 * found.low}%`;
  line.style.width = `${100 * (found.high - found.low)}%`;
  dot.style.left = `${100 * found.value}%`;
  track.append(line, dot);
  return make(
    "div",
    { class: "measure" },
    make("p", {}, make("b", { class: "figure" }, words.percent(found.value)), ` ${meaning}`),
    track,
    make(
      "p",
      { class: "muted" },
      `${name}, ${words.percent(found.low)} to ${words.percent(found.high)}`,
    ),
  );
}

/** Ask in the page's dialog; whether it was agreed to. */
function confirm(title, text, yes) {
  const dialog = find("confirm");
  find("confirm-title").textContent = title;
  find("confirm-text").textContent = text;
  find("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}
