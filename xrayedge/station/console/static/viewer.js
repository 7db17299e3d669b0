// The image on a canvas: window and level, zoom and pan, heatmap and outlines above it.

const FULL = { width: 255, level: 127.5 };
const MAX_ZOOM = 16;
const MAX_RATIO = 2; // finer screens gain nothing visible and cost four times the time
const STEP = { window: 10, zoom: 1.25, pan: 40 };
const LABEL_PX = 14;

/** Dispatches `change` when window, level, zoom or a switch changed. */
export class Viewer extends EventTarget {
  #canvas;
  #context;
  #base = document.createElement("canvas");
  #grey = null; // what is seen of the image, before window and level
  #image = null;
  #heatmap = null;
  #opacities = [];
  #token = 0;
  #frame = 0;
  #pointers = new Map();
  #pinch = 0;
  #centre = { x: 0, y: 0 };

  window = { ...FULL };
  zoom = 1;
  inverted = false;
  heat = 0;
  outlines = true;
  tool = "window";

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    canvas.addEventListener("dblclick", () => this.reset());
  }

  /** Show an image by its address, and its heatmap's if it has one. */
  async show(address, heatmapAddress, opacities) {
    const token = ++this.#token;
    this.#forget();
    const [image, heatmap] = await Promise.all([
      load(address),
      heatmapAddress ? load(heatmapAddress).catch(() => null) : null,
    ]);
    if (token !== this.#token) return null; // another image was asked for meanwhile
    [this.#image, this.#heatmap, this.#opacities] = [image, heatmap, opacities];
    this.reset();
    return { width: image.naturalWidth, height: image.naturalHeight, heatmap: heatmap !== null };
  }

  clear() {
    this.#token += 1;
    this.#forget();
    this.#draw();
  }

  #forget() {
    [this.#image, this.#heatmap, this.#opacities, this.#grey] = [null, null, [], null];
  }

  reset() {
    this.window = { ...FULL };
    this.inverted = false;
    this.fit();
  }

  fit() {
    this.zoom = 1;
    if (this.#image) {
      this.#centre = { x: this.#image.naturalWidth / 2, y: this.#image.naturalHeight / 2 };
    }
    this.#looked();
  }

  /** Zoom by a factor about a point of the canvas, its middle by default. */
  zoomBy(factor, x = this.#canvas.width / 2, y = this.#canvas.height / 2) {
    const before = this.#toImage(x, y);
    this.zoom = Math.min(MAX_ZOOM, Math.max(1, this.zoom * factor));
    const after = this.#toImage(x, y);
    this.#centre.x += before.x - after.x;
    this.#centre.y += before.y - after.y;
    this.#looked();
  }

  pan(dx, dy) {
    this.#centre.x -= dx / this.#scale;
    this.#centre.y -= dy / this.#scale;
    this.#looked();
  }

  setWindow(width, level) {
    this.window.width = Math.min(510, Math.max(2, width));
    this.window.level = Math.min(255, Math.max(0, level));
    this.#changed();
  }

  set(name, value) {
    this[name] = value;
    this.#changed();
  }

  get #scale() {
    if (!this.#image) return 1;
    const { width, height } = this.#canvas;
    const fit = Math.min(width / this.#image.naturalWidth, height / this.#image.naturalHeight);
    return fit * this.zoom;
  }

  #toImage(x, y) {
    return {
      x: this.#centre.x + (x - this.#canvas.width / 2) / this.#scale,
      y: this.#centre.y + (y - this.#canvas.height / 2) / this.#scale,
    };
  }

  #toCanvas(x, y) {
    return [
      (x - this.#centre.x) * this.#scale + this.#canvas.width / 2,
      (y - this.#centre.y) * this.#scale + this.#canvas.height / 2,
    ];
  }

  #resize() {
    const ratio = Math.min(devicePixelRatio || 1, MAX_RATIO);
    const width = Math.round(this.#canvas.clientWidth * ratio);
    const height = Math.round(this.#canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (width === this.#canvas.width && height === this.#canvas.height) return;
    Object.assign(this.#canvas, { width, height });
    this.#grey = null;
    this.#draw(); // at once: a resized canvas is empty
  }

  /** Where one looks has changed. */
  #looked() {
    if (this.#image) {
      const { naturalWidth, naturalHeight } = this.#image;
      this.#centre.x = Math.min(naturalWidth, Math.max(0, this.#centre.x));
      this.#centre.y = Math.min(naturalHeight, Math.max(0, this.#centre.y));
    }
    this.#canvas.dataset.zoomed = String(this.zoom > 1);
    this.#grey = null;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const { width, height } = this.#canvas;
    this.#context.clearRect(0, 0, width, height);
    if (!this.#image || !width || !height) return;
    this.#grey ??= this.#seen(width, height);
    this.#context.putImageData(this.#windowed(this.#grey), 0, 0);
    const [x, y] = this.#toCanvas(0, 0);
    if (this.#heatmap && this.heat > 0) {
      const size = [this.#image.naturalWidth, this.#image.naturalHeight];
      this.#context.globalAlpha = this.heat;
      this.#context.drawImage(this.#heatmap, x, y, ...size.map((one) => one * this.#scale));
      this.#context.globalAlpha = 1;
    }
    if (this.outlines) this.#opacities.forEach((one, index) => this.#outline(one, index));
  }

  /** The part of the image that is seen, as pixels. */
  #seen(width, height) {
    Object.assign(this.#base, { width, height });
    const context = this.#base.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = this.#scale < 4; // far in, pixels are shown as they are
    context.imageSmoothingQuality = "high";
    const size = [this.#image.naturalWidth, this.#image.naturalHeight];
    const corner = this.#toCanvas(0, 0);
    context.drawImage(this.#image, ...corner, ...size.map((one) => one * this.#scale));
    return context.getImageData(0, 0, width, height);
  }

  #windowed(grey) {
    const { width, level } = this.window;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => {
      const shown = ((value - (level - width / 2)) / width) * 255;
      return this.inverted ? 255 - shown : shown;
    });
    const shown = new ImageData(new Uint8ClampedArray(grey.data), grey.width, grey.height);
    const { data } = shown;
    for (let at = 0; at < data.length; at += 4) {
      data[at] = data[at + 1] = data[at + 2] = table[data[at]];
    }
    return shown;
  }

  #outline({ box, score }, index) {
    const context = this.#context;
    const ratio = this.#canvas.width / this.#canvas.clientWidth;
    const [left, top] = this.#toCanvas(box[0], box[1]);
    const [right, bottom] = this.#toCanvas(box[2], box[3]);
    // Dark under light: seen on white bone as on black air, and no colour of the heatmap.
    for (const [colour, thickness] of [
      ["#001a1f", 4.5],
      ["#5ee7ff", 2],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = thickness * ratio;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    const text = `${index + 1}: ${score.toFixed(2)}`;
    context.font = `600 ${LABEL_PX * ratio}px system-ui, sans-serif`;
    const [pad, line] = [5 * ratio, (LABEL_PX + 7) * ratio];
    const wide = context.measureText(text).width + 2 * pad;
    const over = top - line < 0 ? top : top - line;
    context.fillStyle = "#001a1f";
    context.fillRect(left - 2 * ratio, over, wide, line);
    context.fillStyle = "#8defff";
    context.textBaseline = "middle";
    context.fillText(text, left - 2 * ratio + pad, over + line / 2);
  }

  #at(event) {
    const ratio = this.#canvas.width / this.#canvas.clientWidth;
    return { x: event.offsetX * ratio, y: event.offsetY * ratio };
  }

  #down(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#pinch = this.#spread();
  }

  #spread() {
    const [one, other] = this.#pointers.values();
    return other ? Math.hypot(one.x - other.x, one.y - other.y) : 0;
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    this.#pointers.set(event.pointerId, now);
    const [dx, dy] = [now.x - before.x, now.y - before.y];
    if (this.#pointers.size > 1) {
      const spread = this.#spread();
      if (this.#pinch) this.zoomBy(spread / this.#pinch, now.x, now.y);
      this.#pinch = spread;
    } else if (this.tool === "move" || event.buttons & 6) {
      this.pan(dx, dy);
    } else {
      const perPixel = 255 / Math.max(200, this.#canvas.width / 2);
      const { width, level } = this.window;
      this.setWindow(width + dx * perPixel, level + dy * perPixel);
    }
  }

  #wheel(event) {
    // Without Ctrl a wheel over an image that fits scrolls the page, as anywhere else.
    if (!event.ctrlKey && document.activeElement !== this.#canvas) return;
    event.preventDefault();
    const { x, y } = this.#at(event);
    this.zoomBy(event.deltaY < 0 ? STEP.zoom : 1 / STEP.zoom, x, y);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, level } = this.window;
    const arrows = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const keys = {
      "+": () => this.zoomBy(STEP.zoom),
      "=": () => this.zoomBy(STEP.zoom),
      "-": () => this.zoomBy(1 / STEP.zoom),
      0: () => this.fit(),
      r: () => this.reset(),
      i: () => this.set("inverted", !this.inverted),
      o: () => this.set("outlines", !this.outlines),
    };
    const arrow = arrows[event.key];
    const action = keys[event.key.toLowerCase()];
    if (arrow && event.shiftKey) this.pan(-arrow[0] * STEP.pan, -arrow[1] * STEP.pan);
    else if (arrow) {
      this.setWindow(width + arrow[0] * STEP.window, level + arrow[1] * STEP.window);
    } else if (action) action();
    else return;
    event.preventDefault();
  }
}

async function load(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}
