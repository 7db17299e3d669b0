// The viewer's buttons and sliders.

import { make, memory } from "./dom.js";
import { Viewer } from "./viewer.js";

const HEAT = "heatmap-opacity";
const KEYS = [
  ["← →", "narrower, wider window"],
  ["↑ ↓", "lower, higher level"],
  ["+ −", "zoom"],
  ["Shift and arrows", "move"],
  ["0", "fit"],
  ["I", "invert"],
  ["O", "outlines"],
  ["R", "reset"],
];

/** Make the viewer with all that belongs to it; `element` goes into the page. */
export function viewerWithTools() {
  const canvas = make("canvas", {
    class: "image",
    tabindex: "0",
    role: "application",
    "aria-label": "Radiograph",
    "aria-describedby": "viewer-keys",
  });
  const viewer = new Viewer(canvas);
  viewer.heat = Number(memory.get(HEAT, "40")) / 100;

  const tools = { window: "Window", move: "Move" };
  const choices = Object.entries(tools).map(([name, text]) =>
    make(
      "button",
      { type: "button", data: { tool: name }, onclick: () => viewer.set("tool", name) },
      text,
    ),
  );
  const button = (text, label, action) =>
    make("button", { type: "button", "aria-label": label, onclick: action }, text);
  const zoom = make("span", { class: "zoom" }, "100 %");
  const invert = button("Invert", null, () => viewer.set("inverted", !viewer.inverted));
  const outlines = button("Outlines", null, () => viewer.set("outlines", !viewer.outlines));

  const width = slider("Window", 2, 510, () =>
    viewer.setWindow(Number(width.input.value), viewer.window.level),
  );
  const level = slider("Level", 0, 255, () =>
    viewer.setWindow(viewer.window.width, Number(level.input.value)),
  );
  const heat = slider("Heatmap", 0, 100, () => {
    memory.set(HEAT, heat.input.value);
    viewer.set("heat", Number(heat.input.value) / 100);
  });

  viewer.addEventListener("change", () => {
    for (const one of choices)
      one.setAttribute("aria-pressed", String(one.dataset.tool === viewer.tool));
    canvas.dataset.tool = viewer.tool;
    invert.setAttribute("aria-pressed", String(viewer.inverted));
    outlines.setAttribute("aria-pressed", String(viewer.outlines));
    zoom.textContent = `${Math.round(100 * viewer.zoom)} %`;
    width.show(viewer.window.width);
    level.show(viewer.window.level);
    heat.show(100 * viewer.heat, " %");
  });
  viewer.dispatchEvent(new Event("change"));

  const element = make(
    "div",
    { class: "viewer" },
    make(
      "div",
      { class: "stage" },
      canvas,
      make("p", { class: "no-image", id: "no-image", hidden: true }),
    ),
    make(
      "div",
      { class: "viewer-tools", role: "toolbar", "aria-label": "Image" },
      make("div", { class: "group", role: "group", "aria-label": "Dragging" }, choices),
      make(
        "div",
        { class: "group" },
        button("−", "Zoom out", () => viewer.zoomBy(0.8)),
        zoom,
        button("+", "Zoom in", () => viewer.zoomBy(1.25)),
      ),
      make(
        "div",
        { class: "group" },
        invert,
        outlines,
        button("Reset", "Reset the view", () => viewer.reset()),
      ),
      make("div", { class: "sliders" }, width.element, level.element, heat.element),
      make(
        "details",
        {},
        make("summary", {}, "Keys"),
        make(
          "div",
          { id: "viewer-keys" },
          make("p", {}, "While the image has the focus:"),
          make(
            "dl",
            { class: "pairs" },
            KEYS.flatMap(([key, text]) => [
              make("dt", {}, make("kbd", {}, key)),
              make("dd", {}, text),
            ]),
          ),
        ),
      ),
    ),
  );
  return { viewer, canvas, element, heat: heat.input };
}

function slider(text, min, max, changed) {
  const output = make("output", {});
  const input = make("input", {
    type: "range",
    min,
    max,
    step: 1,
    "aria-label": text,
    oninput: changed,
  });
  return {
    input,
    element: make("label", { class: "slider" }, make("span", {}, text), input, output),
    show(value, unit = "") {
      input.value = value;
      output.textContent = `${Math.round(value)}${unit}`;
    },
  };
}
