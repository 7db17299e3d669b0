// Calls of the station's interface. Every failure is an `ApiError` with a sentence and a remedy.

export const ROOT = "/api/v1";

export class ApiError extends Error {
  constructor(status, message, remedy = "", retryAfter = 0) {
    super(message);
    this.status = status;
    this.remedy = remedy;
    this.retryAfter = retryAfter;
  }
}

const FALLBACK = {
  403: ["Your account may not do this.", "Ask the station's administrator."],
  404: ["The station does not have this any more.", ""],
  413: ["The file is too large for this station.", "Export a smaller image."],
  429: ["Too many attempts.", "Wait a minute, then try again."],
  503: ["The station is busy.", "Try again in a moment."],
};

/** The answer's JSON, or `null` where there is none. */
export async function call(method, path, { json, body, headers = {} } = {}) {
  if (json !== undefined) {
    body = JSON.stringify(json);
    headers = { ...headers, "Content-Type": "application/json" };
  }
  let response;
  try {
    response = await fetch(ROOT + path, { method, body, headers, cache: "no-store" });
  } catch {
    throw new ApiError(0, "The station can't be reached.", "See that it runs, then try again.");
  }
  if (!response.ok) throw await failure(response, path);
  return response.status === 204 ? null : response.json();
}

/** The error that an answer stands for; one that lacks a session ends the session here too. */
export async function failure(response, path) {
  const told = await response.json().catch(() => ({}));
  const [sentence, remedy] = FALLBACK[response.status] ?? ["The station could not do this.", ""];
  if (response.status === 401 && path !== "/session") dispatchEvent(new Event("signed-out"));
  return new ApiError(
    response.status,
    told.error ?? sentence,
    told.remedy ?? remedy,
    Number(response.headers.get("Retry-After")) || 0,
  );
}

/** A path with those parameters that have a value. */
export function query(path, values) {
  const given = Object.entries(values).filter(([, value]) => value);
  const text = new URLSearchParams(given).toString();
  return text ? `${path}?${text}` : path;
}
