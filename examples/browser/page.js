// The page itself: a file in, a result out. Nothing is sent anywhere.

import { ImageError, readGrey } from "./image.js";
import { Screener } from "./screener.js";

const input = document.querySelector("#file");
const message = document.querySelector("#message");
const result = document.querySelector("#result");

function say(text, state) {
  message.textContent = text;
  document.body.dataset.state = state;
}

function show(screening) {
  result.replaceChildren();
  if (screening.status !== "screened") {
    say("Not screened: not an upright frontal chest radiograph.", "rejected");
    return;
  }
  for (const [name, value] of Object.entries(screening.probabilities)) {
    const row = result.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = `${(100 * value).toFixed(1)} %`;
  }
  const uncertain = screening.certain ? "" : " (uncertain)";
  say(`${screening.label}${uncertain}, ${screening.model} ${screening.version}`, "screened");
}

async function screen(screener, file) {
  say("Screening ...", "busy");
  result.replaceChildren();
  try {
    const screening = await screener.screen(await readGrey(file));
    show(screening);
    result.dataset.json = JSON.stringify(screening);
  } catch (error) {
    say(error instanceof ImageError ? error.message : `It went wrong: ${error.message}`, "failed");
  }
}

// A dropped file must not replace the page, loaded or not.
for (const event of ["dragover", "drop"]) {
  document.body.addEventListener(event, (dropped) => dropped.preventDefault());
}

try {
  const screener = await Screener.open(new URL("./bundle/", import.meta.url));
  let last = Promise.resolve(); // one after another: an engine's session runs one image at a time
  const queue = ([file]) => {
    if (file) last = last.then(() => screen(screener, file));
  };
  input.addEventListener("change", () => queue(input.files));
  document.body.addEventListener("drop", (dropped) => queue(dropped.dataTransfer.files));
  input.disabled = false;
  say("Choose an image, or drop one here.", "ready");
} catch (error) {
  say(`The model can't be loaded: ${error.message}`, "failed");
}
