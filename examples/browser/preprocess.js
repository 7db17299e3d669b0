// From a grey image to a network's input, bit for bit as xrayedge does it: area averaging and
// equalisation as docs/embed.md describes them, "The file's contract". Float32 throughout, hence
// `fround`. It can't enlarge an image.

const LEVELS = 256;
const HALVE_FROM = 8;
const fround = Math.fround;

/** A grey image: `pixels` is a Uint8Array of `width * height`, bones bright. */
export class Grey {
  constructor(pixels, width, height) {
    if (pixels.length !== width * height) throw new RangeError("pixels do not fill the image");
    this.pixels = pixels;
    this.width = width;
    this.height = height;
  }

  /** A part of it; edges in whole pixels. */
  cut([left, top, right, bottom]) {
    const [width, height] = [right - left, bottom - top];
    const pixels = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const start = (top + y) * this.width + left;
      pixels.set(this.pixels.subarray(start, start + width), y * width);
    }
    return new Grey(pixels, width, height);
  }
}

const NARROWEST_RANGE = 96;
const TAIL = 200;
const ROWS_LOOKED_AT = 128;

/** The image; if it fills little of the grey range, stretched. Before any network sees it. */
export function fillRange(image) {
  const { pixels, width, height } = image;
  const step = Math.max(1, Math.floor(height / ROWS_LOOKED_AT));
  const counts = new Array(LEVELS).fill(0);
  let outside = 0;
  for (let y = 0; y < height; y += step) {
    for (let x = 0; x < width; x++) counts[pixels[y * width + x]]++;
    outside += width;
  }
  outside = Math.floor(outside / TAIL);
  let [low, high] = [0, LEVELS - 1];
  for (let sum = counts[low]; sum <= outside; sum += counts[low]) low++;
  for (let sum = counts[high]; sum <= outside; sum += counts[high]) high--;
  const span = high - low;
  if (span <= 0 || span >= NARROWEST_RANGE) return image;
  const table = counts.map((_, level) => {
    const inside = Math.min(Math.max(level - low, 0), span);
    return Math.floor((2 * (LEVELS - 1) * inside + span) / (2 * span));
  });
  return new Grey(pixels.map((level) => table[level]), width, height);
}

/** The input of a network, a Uint8Array of `size * size`; `settings` are the manifest's. */
export function prepare(image, settings) {
  const { size, fit } = settings;
  if (fit === "pad") return pad(image, settings);
  if (fit !== "stretch") throw new Error(`the page does not know the fit ${fit}`);
  return equalise(resize(image, size, size), settings);
}

function pad(image, settings) {
  const { size } = settings;
  const scale = size / Math.max(image.width, image.height);
  const width = Math.max(1, rounded(image.width * scale));
  const height = Math.max(1, rounded(image.height * scale));
  const inner = equalise(resize(image, width, height), settings);
  const square = new Uint8Array(size * size);
  const top = (size - height) >> 1;
  const left = (size - width) >> 1;
  for (let y = 0; y < height; y++) {
    square.set(inner.subarray(y * width, (y + 1) * width), (top + y) * size + left);
  }
  return square;
}

function equalise({ pixels, width, height }, { size, equalisation, clahe_clip, clahe_tiles }) {
  if (equalisation === "none") return pixels;
  if (equalisation === "global") return equaliseAsOne(pixels);
  // Tiles need a square, which an image with bars is not yet.
  if (equalisation !== "clahe" || size % clahe_tiles || width !== size || height !== size) {
    throw new Error(`the page does not know the equalisation ${equalisation}`);
  }
  return equaliseInTiles(pixels, size, clahe_clip, clahe_tiles);
}

/** To the nearest integer, halves to even. */
function rounded(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 ? up - 1 : up;
}

function resize(image, width, height) {
  while (image.width >= HALVE_FROM * width && image.height >= HALVE_FROM * height) {
    image = shrinkWhole(image, 2, 2, image.width >> 1, image.height >> 1);
  }
  if (image.width < width || image.height < height) {
    throw new Error(`the image has under ${width} x ${height} pixels, and this page can't enlarge it`);
  }
  if (image.width % width === 0 && image.height % height === 0) {
    return shrinkWhole(image, image.width / width, image.height / height, width, height);
  }
  return shrink(image, width, height);
}

/** Both ratios whole: a plain mean. What is left over to the right and below is dropped. */
function shrinkWhole(image, across, down, width, height) {
  const pixels = new Uint8Array(width * height);
  const share = fround(1 / (across * down));
  const halves = across === 2 && down === 2;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let j = 0; j < down; j++) {
        const start = (y * down + j) * image.width + x * across;
        for (let i = 0; i < across; i++) sum += image.pixels[start + i];
      }
      pixels[y * width + x] = halves ? (sum + 2) >> 2 : rounded(fround(fround(sum) * share));
    }
  }
  return new Grey(pixels, width, height);
}

/** For each target pixel its first source pixel and the weights from there on. */
function taps(source, target) {
  const scale = source / target;
  return Array.from({ length: target }, (_, place) => {
    const start = place * scale;
    const end = start + scale;
    const cell = Math.min(scale, source - start);
    const last = Math.min(Math.floor(end), source - 1);
    const first = Math.min(Math.ceil(start), last);
    const weights = [];
    if (first - start > 1e-3) weights.push(fround((first - start) / cell));
    for (let inside = first; inside < last; inside++) weights.push(fround(1 / cell));
    if (end - last > 1e-3) weights.push(fround(Math.min(end - last, 1, cell) / cell));
    return { first: first - start > 1e-3 ? first - 1 : first, weights };
  });
}

function shrink(image, width, height) {
  const across = taps(image.width, width);
  const pixels = new Uint8Array(width * height);
  taps(image.height, height).forEach(({ first, weights }, y) => {
    const sums = new Float32Array(width);
    weights.forEach((weight, j) => {
      const row = (first + j) * image.width;
      across.forEach((tap, x) => {
        let sum = 0;
        tap.weights.forEach((share, i) => {
          sum = fround(sum + fround(image.pixels[row + tap.first + i] * share));
        });
        sums[x] += fround(sum * weight);
      });
    });
    sums.forEach((sum, x) => {
      pixels[y * width + x] = rounded(sum);
    });
  });
  return new Grey(pixels, width, height);
}

function equaliseAsOne(pixels) {
  const counts = new Int32Array(LEVELS);
  for (const level of pixels) counts[level]++;
  const darkest = counts.findIndex((count) => count > 0);
  if (counts[darkest] === pixels.length) return pixels;
  const scale = fround((LEVELS - 1) / (pixels.length - counts[darkest]));
  let sum = 0;
  const table = Uint8Array.from(counts, (count, level) => {
    if (level <= darkest) return 0;
    sum += count;
    return rounded(fround(sum * scale));
  });
  return pixels.map((level) => table[level]);
}

function equaliseInTiles(pixels, size, clip, tiles) {
  const side = size / tiles;
  const tables = Array.from({ length: tiles * tiles }, (_, index) =>
    table(pixels, size, Math.floor(index / tiles) * side, (index % tiles) * side, side, clip),
  );
  const axis = Array.from({ length: size }, (_, place) => {
    const position = fround(fround(place * fround(1 / side)) - 0.5);
    const before = Math.floor(position);
    const share = fround(position - before);
    return {
      low: Math.max(before, 0),
      high: Math.min(before + 1, tiles - 1),
      share,
      rest: fround(1 - share),
    };
  });
  const mix = (a, b, { share, rest }) => fround(fround(a * rest) + fround(b * share));
  return pixels.map((level, index) => {
    const column = axis[index % size];
    const row = axis[Math.floor(index / size)];
    const at = (y, x) => tables[y * tiles + x][level];
    const upper = mix(at(row.low, column.low), at(row.low, column.high), column);
    const lower = mix(at(row.high, column.low), at(row.high, column.high), column);
    return rounded(mix(upper, lower, row));
  });
}

function table(pixels, size, top, left, side, clip) {
  const area = side * side;
  const limit = Math.max(1, Math.floor((clip * area) / LEVELS));
  const counts = new Int32Array(LEVELS);
  for (let y = top; y < top + side; y++) {
    for (let x = left; x < left + side; x++) counts[pixels[y * size + x]]++;
  }
  const over = counts.reduce((sum, count) => sum + Math.max(count - limit, 0), 0);
  const remaining = over % LEVELS;
  const step = Math.max(1, Math.floor(LEVELS / Math.max(remaining, 1)));
  const scale = fround((LEVELS - 1) / area);
  let sum = 0;
  return Uint8Array.from(counts, (count, level) => {
    const extra = level % step === 0 && level / step < remaining ? 1 : 0;
    sum += Math.min(count, limit) + Math.floor(over / LEVELS) + extra;
    return rounded(fround(sum * scale));
  });
}
