// Elements without markup in strings: text of the station can't become script.

/**
 * Make an element. `on…` attributes are listeners, `data` goes to its dataset, `null` and `false`
 * are left out.
 */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "data") Object.assign(made.dataset, value);
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined));
  return made;
}

export const find = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** A picture of the sprite; decoration, since words stand beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Say it to screen readers. */
export function announce(text) {
  const region = find("announce");
  region.textContent = "";
  // The same text twice is only spoken twice if it was gone in between.
  setTimeout(() => {
    region.textContent = text;
  }, 50);
}

/** Show an error of `api.js`, with its remedy, in a box that is read out. */
export function problem(error) {
  return make(
    "div",
    { class: "problem", role: "alert" },
    icon("alert"),
    make("p", {}, make("strong", {}, error.message), error.remedy ? ` ${error.remedy}` : ""),
  );
}

/** What this browser remembers, if it remembers anything. */
export const memory = {
  get(name, otherwise) {
    try {
      return localStorage.getItem(name) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      // Private windows keep nothing; the setting holds until the page is closed.
    }
  },
};
