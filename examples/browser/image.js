// A file to a grey image. Only what a browser decodes as it stands in the file: 8 bits, no DICOM.
// The file's own header is read first, so that a small file can't claim a huge image.

import { Grey } from "./preprocess.js";

const MIN_SIDE = 112; // xrayedge's own limit; `prepare` needs as many as the network's input has
const MAX_BYTES = 100_000_000;
const MAX_PIXELS = 50_000_000; // 200 MB while the browser decodes it

/** An image that can't be screened; `message` is for a person. */
export class ImageError extends Error {}

export async function readGrey(file) {
  if (file.size > MAX_BYTES) throw new ImageError("The file is larger than 100 MB.");
  const bytes = new Uint8Array(await file.arrayBuffer());
  const { type, width, height } = header(bytes);
  if (width * height > MAX_PIXELS) throw new ImageError("The image has over 50 million pixels.");
  if (Math.min(width, height) < MIN_SIDE) {
    throw new ImageError(`The shorter side has under ${MIN_SIDE} pixels.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type }), {
      colorSpaceConversion: "none", // grey levels as the file has them
      premultiplyAlpha: "none",
      imageOrientation: "from-image",
    });
  } catch {
    throw new ImageError("The file is damaged; export it again.");
  }
  try {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    return new Grey(toGrey(data), bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/** ITU-R BT.601 luma; grey stays what it is. */
function toGrey(rgba) {
  const grey = new Uint8Array(rgba.length / 4);
  for (let i = 0, j = 0; i < grey.length; i++, j += 4) {
    grey[i] = (rgba[j] * 299 + rgba[j + 1] * 587 + rgba[j + 2] * 114 + 500) / 1000;
  }
  return grey;
}

function header(bytes) {
  const view = new DataView(bytes.buffer);
  const begins = (...values) => values.every((value, index) => bytes[index] === value);
  const ends = (...values) =>
    values.every((value, index) => bytes[bytes.length - values.length + index] === value);
  // First: what stands before this mark may look like another format (PS3.10, 7.1).
  if (String.fromCharCode(...bytes.subarray(128, 132)) === "DICM") {
    throw new ImageError("DICOM: export the image as PNG or JPEG with bones bright.");
  }
  try {
    if (begins(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) {
      if (bytes[24] === 16) {
        throw new ImageError("16 bits a pixel: browsers drop half of them. Export 8 bits.");
      }
      if (!ends(0xae, 0x42, 0x60, 0x82)) throw new ImageError("The file is cut off.");
      return { type: "image/png", width: view.getUint32(16), height: view.getUint32(20) };
    }
    if (begins(0xff, 0xd8, 0xff)) {
      if (!ends(0xff, 0xd9)) throw new ImageError("The file is cut off.");
      return { type: "image/jpeg", ...jpegSize(view) };
    }
    if (begins(0x42, 0x4d)) {
      if (view.getUint32(2, true) > bytes.length) throw new ImageError("The file is cut off.");
      const height = Math.abs(view.getInt32(22, true)); // negative: from top to bottom
      return { type: "image/bmp", width: view.getInt32(18, true), height };
    }
  } catch (error) {
    if (error instanceof RangeError) throw new ImageError("The file is damaged or cut off.");
    throw error;
  }
  if (begins(0x49, 0x49, 0x2a, 0) || begins(0x4d, 0x4d, 0, 0x2a)) {
    throw new ImageError("TIFF: browsers can't read it. Export PNG or JPEG.");
  }
  throw new ImageError("Not a PNG, JPEG or BMP file.");
}

/** Of the frame header (ITU-T T.81, B.2.2). */
function jpegSize(view) {
  for (let offset = 2; ; offset += 2 + view.getUint16(offset + 2)) {
    const marker = view.getUint8(offset + 1);
    if (view.getUint8(offset) !== 0xff) throw new RangeError("no marker");
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { height: view.getUint16(offset + 5), width: view.getUint16(offset + 7) };
    }
  }
}
