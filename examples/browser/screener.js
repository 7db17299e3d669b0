// A bundle in the browser: its files checked against the manifest, run by ONNX Runtime Web.

import * as ort from "./ort/ort.wasm.min.mjs";
import { fillRange, prepare } from "./preprocess.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.logLevel = "error";

/** One network of a bundle. */
class Network {
  constructor(session, description) {
    this.session = session;
    this.description = description;
  }

  static async open(folder, description) {
    const variant = description.variants.find(
      ({ format, precision }) => format === "onnx" && precision === "int8",
    );
    if (!variant) throw new Error("the bundle has no int8 ONNX file");
    const content = await download(new URL(variant.file, folder));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== variant.sha256) throw new Error(`${variant.file} is not the manifest's file`);
    const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
    return new Network(session, description);
  }

  /** Mean of the map over its places, by the temperature: a number for each class. */
  async logits(image) {
    const { classes, preprocessing, temperature } = this.description;
    const { size } = preprocessing;
    const input = new ort.Tensor("uint8", prepare(image, preprocessing), [1, size, size, 1]);
    const results = await this.session.run({ [this.session.inputNames[0]]: input });
    const { data, dims } = results[this.session.outputNames[0]];
    const channels = dims[3];
    const places = data.length / channels;
    return classes.map((_, channel) => {
      let sum = 0;
      for (let place = 0; place < places; place++) sum += data[place * channels + channel];
      return sum / places / temperature;
    });
  }

  /** Probability of each class, by its name. */
  async scores(image) {
    const { classes } = this.description;
    const logits = await this.logits(image);
    const largest = Math.max(...logits);
    const exponentials = logits.map((logit) => Math.exp(logit - largest));
    const total = exponentials.reduce((sum, one) => sum + one, 0);
    return Object.fromEntries(classes.map((name, index) => [name, exponentials[index] / total]));
  }
}

// Of a side: a smaller box is no pair of lungs, and the whole image is used.
const SMALLEST_SHARE = 0.3;

/** Left, top, right and bottom of the part that the classifier sees, in whole pixels. */
function frame(logits, margin, { width, height }) {
  const [left, top, right, bottom] = logits.map((one) => 0.5 * (1 + Math.tanh(one / 2)));
  if (right - left < SMALLEST_SHARE || bottom - top < SMALLEST_SHARE) return [0, 0, width, height];
  const pixel = (share, side) => Math.floor(Math.min(Math.max(share, 0), 1) * side + 0.5);
  return [
    pixel(left - margin, width),
    pixel(top - margin, height),
    pixel(right + margin, width),
    pixel(bottom + margin, height),
  ];
}

export class Screener {
  constructor(manifest, classifier, frontal, lungs) {
    this.manifest = manifest;
    this.classifier = classifier;
    this.frontal = frontal;
    this.lungs = lungs; // null where the classifier sees the whole image
  }

  /** Load a bundle from its folder's address, which ends in a slash. */
  static async open(folder) {
    const manifest = JSON.parse(
      new TextDecoder().decode(await download(new URL("manifest.json", folder))),
    );
    return new Screener(
      manifest,
      await Network.open(folder, manifest.classifier),
      await Network.open(folder, manifest.frontal.network),
      manifest.lungs ? await Network.open(folder, manifest.lungs.network) : null,
    );
  }

  /** What `xrayedge screen --json` says of an image, as far as this page goes. */
  async screen(asRead) {
    const image = fillRange(asRead);
    const { label: wanted, threshold } = this.manifest.frontal;
    const frontalScore = (await this.frontal.scores(image))[wanted];
    if (frontalScore < threshold) {
      return { status: "rejected", reason: "not-frontal", frontal_score: frontalScore };
    }
    let lungs = null;
    if (this.lungs) {
      lungs = frame(await this.lungs.logits(image), this.manifest.lungs.margin, image);
    }
    const probabilities = await this.classifier.scores(lungs ? image.cut(lungs) : image);
    const point = this.manifest.classifier.operating_points[0];
    const weighted = Object.entries(probabilities).map(([name, value]) => [
      name,
      value * point.weights[name],
    ]);
    const [label, strongest] = weighted.reduce((a, b) => (b[1] > a[1] ? b : a));
    const total = weighted.reduce((sum, [, value]) => sum + value, 0);
    return {
      status: "screened",
      label,
      certain: strongest / total >= point.abstain_below,
      probabilities,
      lungs,
      frontal_score: frontalScore,
      model: this.manifest.name,
      version: this.manifest.version,
      operating_point: point.name,
    };
  }
}

async function download(address) {
  // A new bundle counts from the next visit on, whatever the browser kept of the old one.
  const response = await fetch(address, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${address.pathname}: ${response.status}`);
  return response.arrayBuffer();
}
