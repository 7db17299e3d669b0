// A screening as a line of a list.

import { icon, make } from "./dom.js";
import * as words from "./words.js";

export function card(screening, { current = false, fresh = false } = {}) {
  const link = make(
    "a",
    {
      href: `#/screening/${encodeURIComponent(screening.id)}`,
      class: "card",
      "aria-current": current ? "true" : null,
      data: { kind: words.kind(screening), id: screening.id },
    },
    make("span", { class: "badge" }, icon(words.iconOf(screening))),
    make(
      "span",
      { class: "card-text" },
      make("b", {}, words.headline(screening)),
      make(
        "span",
        { class: "muted" },
        make("time", { datetime: screening.received }, words.time(screening.received)),
        ` · ${words.ORIGINS[screening.origin] ?? screening.origin}${outcome(screening)}`,
      ),
    ),
  );
  if (fresh) link.append(make("span", { class: "fresh" }, "new"));
  return link;
}

function outcome({ state, result }) {
  if (state === "done" && result?.probabilities) {
    return ` · ${words.percent(result.probabilities[result.label])}`;
  }
  return "";
}

/** Show these cards in a list; a card that had the focus keeps it. */
export function fill(list, screenings, options) {
  const focused = list.contains(document.activeElement) && document.activeElement.dataset.id;
  const items = screenings.map((one) => make("li", {}, card(one, options(one))));
  list.replaceChildren(...items);
  if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}
