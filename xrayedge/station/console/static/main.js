// Starts the page: session, views, the stream of events, and what is said when the station is gone.

import { call } from "./api.js";
import { Audit } from "./audit.js";
import { announce, find, icon, memory } from "./dom.js";
import { History } from "./history.js";
import { Intake } from "./intake.js";
import { Live } from "./live.js";
import { signIn } from "./login.js";
import { Monitor } from "./monitor.js";
import { OperatingPoint } from "./point.js";
import { ScreeningView } from "./screening.js";
import { Screenings } from "./screenings.js";
import { Sending } from "./sending.js";
import * as words from "./words.js";

const VIEWS = ["screening", "history", "sending", "point", "monitor", "audit"];
const LATEST = 50;
const RETRY_MS = 1000;

const screenings = new Screenings();
const screening = new ScreeningView(screenings);
const intake = new Intake(screenings, {
  follow: () => screening.follow(),
  opened: (id) => {
    location.hash = `#/screening/${id}`;
  },
});
const parts = {
  history: new History(),
  sending: new Sending(),
  point: new OperatingPoint(),
  monitor: new Monitor(),
  audit: new Audit(),
};
const live = new Live();
let session = null;
let lostSince = null;
let held = null; // news that came while the page asked for everything

async function begin() {
  try {
    session = await call("GET", "/session");
  } catch {
    lost(new Date());
    setTimeout(begin, RETRY_MS);
    return;
  }
  if (session.login_required && session.user === null) return signedOut();
  const role = session.role;
  const operator = role === "operator" || role === "admin";
  const signed = session.login_required;
  find("who").hidden = find("sign-out").hidden = !signed;
  find("who").textContent = signed ? `${session.user} (${role})` : "";
  find("nav-audit").hidden = role !== "admin";
  parts.sending.allow(operator);
  parts.point.allow(role === "admin");
  parts.monitor.allow(role === "admin");
  intake.allow(operator, false);
  live.start();
  route();
}

/** What the station has, asked each time that the stream opens. */
async function refresh() {
  const mine = (held = []);
  try {
    const [station, { screenings: latest }, queue] = await Promise.all([
      call("GET", "/station"),
      call("GET", `/screenings?limit=${LATEST}`),
      call("GET", "/queue"),
    ]);
    if (held !== mine) return; // the stream was lost and found, or nobody is logged in any more
    held = null;
    intake.allow(session.role !== "reader", station.example);
    screenings.replace(latest);
    parts.sending.show(queue);
    mine.forEach(tell); // the answers may be older than what was told meanwhile
    found();
    const view = current();
    if (view === "screening") screening.open(chosen());
    else if (view !== "sending") parts[view].load();
  } catch {
    setTimeout(() => held === mine && refresh(), RETRY_MS);
  }
}

function lost(since) {
  if (lostSince !== null) return;
  lostSince = since;
  document.body.dataset.connection = "lost";
  find("connection").lastElementChild.textContent = "Not connected";
  const bar = find("lost");
  bar.hidden = false;
  const time = words.time(lostSince.toISOString());
  bar.replaceChildren(
    icon("alert"),
    `The station can't be reached. Nothing on this page is newer than ${time}. Trying again …`,
  );
  screening.setLost(lostSince);
}

function found() {
  if (lostSince !== null) announce("The station is there again; this page is up to date");
  lostSince = null;
  document.body.dataset.connection = "live";
  find("connection").lastElementChild.textContent = "Connected";
  find("lost").hidden = true;
  screening.setLost(null);
}

function signedOut() {
  if (document.body.dataset.view === "login") return; // several calls were refused at once
  const why = session?.user ? "Your session has ended. Log in again." : "";
  session = lostSince = held = null;
  live.stop();
  screenings.replace([]);
  screening.clear();
  intake.clear();
  for (const part of Object.values(parts)) part.clear();
  find("who").hidden = find("sign-out").hidden = find("nav-audit").hidden = true;
  find("lost").hidden = true;
  document.body.dataset.connection = "none";
  show("login");
  signIn(why, begin);
}

const current = () => {
  const view = location.hash.split("/")[1];
  return VIEWS.includes(view) ? view : "screening";
};
const chosen = () => location.hash.split("/")[2] ?? "";

function show(view) {
  document.body.dataset.view = view;
  for (const one of [...VIEWS, "login"]) find(`view-${one}`).hidden = one !== view;
  for (const link of find("nav").querySelectorAll("a")) {
    if (link.hash === `#/${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${find(`${view}-title`).textContent} – xrayedge station`;
}

function route() {
  if (session === null || (session.login_required && session.user === null)) return;
  const view = current();
  const moved = document.body.dataset.view !== view;
  show(view);
  if (view === "screening") screening.open(chosen());
  else parts[view].load();
  // Who goes to another view by keyboard or screen reader begins at its heading.
  if (moved && document.activeElement?.closest("nav")) find(`${view}-title`).focus();
}

const THEMES = { auto: "as the system", light: "light", dark: "dark" };

function theme(chosen) {
  document.documentElement.dataset.chosen = chosen;
  dispatchEvent(new Event("theme"));
  const names = { auto: "auto", light: "sun", dark: "moon" };
  find("theme").replaceChildren(icon(names[chosen]));
  find("theme").setAttribute("aria-label", `Colours: ${THEMES[chosen]}`);
  find("theme").title = `Colours: ${THEMES[chosen]}`;
}

find("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.chosen) + 1) % names.length];
  memory.set("theme", next);
  theme(next);
});
find("sign-out").addEventListener("click", async () => {
  await call("DELETE", "/session").catch(() => null);
  session = null;
  signedOut();
});
live.addEventListener("open", refresh);
live.addEventListener("lost", ({ detail }) => lost(detail));
live.addEventListener("news", ({ detail }) => (held === null ? tell(detail) : held.push(detail)));
addEventListener("signed-out", signedOut);
addEventListener("hashchange", route);

function tell({ event, data }) {
  if (event === "screening") screenings.put(data);
  else if (event === "queue") parts.sending.show(data);
  else if (event === "operating-point" && current() === "point") parts.point.show(data);
  else if (event === "monitor" && current() === "monitor") parts.monitor.load();
}

theme(document.documentElement.dataset.chosen ?? "auto");
begin();
