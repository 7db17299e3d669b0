// What the page calls things, and how it writes numbers and times.

const CLASSES = {
  covid: { name: "COVID-19", finding: "COVID-19 suspected" },
  pneumonia: { name: "Pneumonia", finding: "Pneumonia suspected" },
  healthy: { name: "Healthy", finding: "No pneumonia suspected" },
};

const REASONS = {
  "not-frontal": "Not an upright frontal chest radiograph",
  turned: "The chest lies on its side or upside down",
  inverted: "The grey values are inverted: bones are dark",
  "too-small": "The image is too small",
  unreadable: "Damaged, or not an image",
  "too-large": "The image is too large",
  "multi-frame": "The file holds several frames",
  timeout: "Not finished in time",
  "dicom-not-installed": "This compressed DICOM can't be read here",
  "too-young": "The patient is younger than the model was made for",
  "device-not-allowed": "Images of this device are not screened here",
};

const WARNINGS = {
  "modality-not-radiography": "The DICOM tags name another modality than radiography.",
  "body-part-not-chest": "The DICOM tags name another part of the body than the chest.",
  "view-not-frontal": "The DICOM tags name a view that is not frontal.",
  "tags-say-frontal-chest": "The DICOM tags say that this is a frontal chest radiograph.",
  "age-unknown": "The DICOM tags do not tell the patient's age.",
};

const DELIVERIES = {
  queued: "waiting",
  sent: "sent",
  committed: "sent, and its safe keeping is confirmed",
  failed: "failed",
};

export const KINDS = { sr: "report", sc: "overlay" };
export const ORIGINS = { dicom: "DICOM", folder: "Folder", browser: "Browser", console: "Browser" };

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const className = (label) => CLASSES[label]?.name ?? capital(label);
export const warning = (code) => WARNINGS[code] ?? `${capital(code.replaceAll("-", " "))}.`;
export const delivery = (state) => DELIVERIES[state] ?? state;

/** A screening's kind for colour and filter: a class, `uncertain`, `refused` or `waiting`. */
export function kind(screening) {
  if (screening.state === "refused" || screening.state === "set-aside") return "refused";
  if (screening.state !== "done" || !screening.result) return "waiting";
  return screening.result.certain ? screening.result.label : "uncertain";
}

export function iconOf(screening) {
  const found = kind(screening);
  const own = { healthy: "check", uncertain: "unsure", refused: "refuse", waiting: "wait" };
  return own[found] ?? "alert";
}

/** The result as a headline. */
export function headline(screening) {
  const result = screening.result;
  if (screening.state === "set-aside") return "Set aside";
  if (screening.state === "refused") return "Not screened";
  if (screening.state !== "done" || !result) {
    return screening.state === "screening" ? "Screening …" : "Waiting to be screened";
  }
  if (!result.certain) return `Uncertain, nearest to ${className(result.label)}`;
  return CLASSES[result.label]?.finding ?? className(result.label);
}

/** Why an image was not screened, in words. */
export function refusal(screening) {
  const reason = screening.result?.reason;
  if (screening.state === "set-aside") return "Screening it ended the program several times.";
  return REASONS[reason] ? `${REASONS[reason]}.` : (screening.result?.detail ?? "No reason given.");
}

/** Whole per cents; what is not quite nothing or everything doesn't look as if it were. */
export function percent(share) {
  if (share > 0 && share < 0.01) return "<\u00a01\u00a0%";
  if (share > 0.99 && share < 1) return ">\u00a099\u00a0%";
  return `${Math.round(100 * share)}\u00a0%`;
}
export const milliseconds = (value) =>
  value < 1 ? "<\u00a01\u00a0ms" : `${Math.round(value)}\u00a0ms`;
export const score = (value) => value.toFixed(2);

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const CLOCK = { timeStyle: "medium", hourCycle: "h23" };
const TIME = new Intl.DateTimeFormat(undefined, CLOCK);
const BOTH = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", ...CLOCK });

export const day = (iso) => DAY.format(new Date(iso));
export const time = (iso) => TIME.format(new Date(iso));
export const moment = (iso) => BOTH.format(new Date(iso));

/** Where a box lies, for those who can't see it: in the image, not in the patient. */
export function place([left, top, right, bottom], width, height) {
  const across = (left + right) / 2 / width;
  const down = (top + bottom) / 2 / height;
  const side = across < 0.5 ? "left" : "right";
  const third = down < 1 / 3 ? "upper" : down < 2 / 3 ? "middle" : "lower";
  return `${third} third, ${side} half of the image`;
}
