// The fleet in a browser: starts the page's modules, keeps the address, and hears the server's events.
//
// state.js what the page knows; api.js requests and events; account.js who is signed in; address.js the address; page.js elements and texts; scale.js and
// shape.js calculations; fleet.js the list of sensors; sensor.js the chosen one; chart.js, marks.js and touch.js its charts
// (uPlot); lists.js alerts, anomalies, extremes, silent sensors; pipeline.js Kafka and Cassandra; export.js PNG, CSV, paper.

import * as address from "./address.js";
import { begin as beginAccount, loadMe } from "./account.js";
import { ask, connect } from "./api.js";
import { whenUsed } from "./chart.js";
import { begin as beginExport } from "./export.js";
import { begin as beginFleet, isOpen, loadOpened, openLocation, showAges, showLocations, takeReadings } from "./fleet.js";
import { begin as beginLists, loadAlerts, loadExtremes, loadSilent, takeAlerts } from "./lists.js";
import { $, SECOND, buttons, count, empty, length, plural, say, throttled } from "./page.js";
import { showAttention, takeStatus } from "./pipeline.js";
import { metricsOf, newestTile } from "./scale.js";
import { changed, choose, draw, loadSeries, resetZoom, showChosen, showMetrics, showReset, take, zoomTo } from "./sensor.js";
import { RANGES, isSilent, on, state } from "./state.js";

/* ---- whether the page is live ---- */

let heard = 0;
let trouble = null;
const isLost = () => Date.now() - heard > 25e3;

function showTrouble(text) {
  trouble = text;
  showLive();
  showAttention(trouble);
}

function showLive() {
  const live = $("live");
  const is = isLost() ? "lost" : trouble ? "stale" : "live";
  const text = { lost: "connection lost, reconnecting", stale: "Cassandra does not answer", live: "live" }[is];
  if (live.dataset.state === is) return;
  live.dataset.state = is;
  live.lastElementChild.textContent = text;
  document.documentElement.toggleAttribute("data-old", is !== "live");
  if (state.fleet) showTiles();
}

/** Why what is shown may be old; null while it is live. */
const staleness = () => (isLost() ? "the dashboard does not answer" : trouble ? "Cassandra does not answer" : null);

/* ---- the fleet ---- */

/** The first chart comes before the lists beside it: the server reads for a few questions at a time. */
const FIRST = 1500;
let hasBegun = false;
const begun = new Promise((done) => {
  on("drawn", done);
  setTimeout(done, FIRST);
}).then(() => (hasBegun = true));

async function loadFleet() {
  try {
    const fleet = await ask("fleet", "/api/fleet");
    if (!fleet) return;
    const isFirst = state.fleet === null;
    takeFleet(fleet);
    if (!isFirst) loadOpened();
  } catch (error) {
    showTrouble(error.message);
    // The event `fleet` follows when it is available again.
    if (!state.fleet) $("locations").replaceChildren(empty(error.message, "warn"));
  }
}

function takeFleet(fleet) {
  trouble = null;
  const isFirst = state.fleet === null;
  const silentBefore = state.fleet?.silent;
  state.fleet = fleet;
  for (const { name, unit } of fleet.metrics) state.units.set(name, unit ?? "");
  showTiles();
  showLocations();
  showMetrics();
  showAttention(trouble);
  if (isFirst && fleet.groups.length) {
    // That of the sensor in the address is opened when it is known.
    const first = state.chosen ? state.chosen.reading?.location : fleet.groups[0].location;
    if (first !== undefined) openLocation(first, true);
    begun.then(() => (loadExtremes(), loadSilent()));
  } else if (silentBefore !== fleet.silent) {
    loadSilent();
  }
}

function showTiles() {
  const { fleet } = state;
  const locations = new Set(fleet.groups.map((group) => group.location)).size;
  say($("tile-sensors"), count(fleet.sensors));
  say($("tile-groups"), `at ${plural(locations, "location")}`);
  say($("tile-silent"), count(fleet.silent), fleet.silent ? "bad" : fleet.sensors ? "good" : undefined);
  say($("tile-silent-note"), `for longer than ${length(fleet.silent_after_seconds)}`);
  const { text, note, kind } = newestTile(fleet.groups, Date.now(), staleness(), (at) => SECOND.format(at));
  say($("tile-newest"), text, kind);
  say($("tile-newest-note"), note);
}

/** The first location's list is there, and nothing is chosen yet. */
on("listed", (readings) => {
  if (state.chosen || !readings.length) return;
  const usual = readings.find((reading) => metricsOf([reading]).length && !isSilent(reading)) ?? readings[0];
  choose(usual.iot_sensor_id, usual);
  remember(false);
});

on("chosen", () => {
  const location = state.chosen.reading?.location;
  if (location !== undefined && !isOpen(location)) openLocation(location, true);
});

function takeChanges(changes) {
  trouble = null;
  takeReadings(changes);
  const own = changes.readings.find((reading) => reading.iot_sensor_id === state.chosen?.id);
  if (own) take(own);
}

async function loadStatus() {
  try {
    const status = await ask("status", "/api/status");
    if (status) takeHealth(status);
  } catch (error) {
    say($("pipeline-note"), error.message, "warn");
  }
}

function takeHealth(status) {
  takeStatus(status);
  showAttention(trouble);
}

/* ---- the address ---- */

const isWall = () => document.documentElement.dataset.view === "wall";

/** What a person did is a step that Back undoes; what the page did by itself is none. */
function remember(isStep) {
  const next = address.write(state, isWall());
  if (next === location.hash) return;
  history[isStep ? "pushState" : "replaceState"](null, "", next);
}
on("address", remember);
on("metric", () => (remember(false), hasBegun && loadExtremes()));

function follow() {
  const asked = address.read(location.hash, (name) => state.units.has(name) || state.fleet === null);
  const before = state.last;
  if (asked.last) state.last = asked.last;
  state.zoom = asked.zoom;
  state.compare = asked.compare;
  state.others = asked.others;
  state.more = asked.more;
  if (asked.metric) state.metric = asked.metric;
  setWall(asked.isWall);
  showRanges();
  showReset();
  state.remark = null;
  if (asked.sensor) choose(asked.sensor, undefined, { keepsZoom: true });
  else if (asked.name) chooseNamed(asked.name);
  if (before !== state.last) loadExtremes();
}

/** The sensor that the address calls by a name. Where there is none, another one is shown, with the reason. */
async function chooseNamed(name) {
  try {
    const answer = await ask("named", `/api/sensors/${encodeURIComponent(name)}`);
    const reading = answer?.readings[0];
    if (!reading) return;
    choose(reading.iot_sensor_id, reading, { keepsZoom: true });
    remember(false);
  } catch (error) {
    state.remark = error.message;
    if (state.chosen) showChosen();
  }
}

function showRanges() {
  buttons($("ranges"), Object.keys(RANGES), () => (state.zoom ? null : state.last), (name) => {
    state.last = name;
    state.zoom = null;
    remember(true);
    changed();
    loadExtremes();
  });
}
on("zoom", () => {
  for (const button of $("ranges").children) button.setAttribute("aria-pressed", String(!state.zoom && button.textContent === state.last));
  const local = (at) => new Date(at - new Date(at).getTimezoneOffset() * 60e3).toISOString().slice(0, 16);
  const [from, to] = state.zoom ? [state.zoom.from, state.zoom.to] : [Date.now() - RANGES[state.last], Date.now()];
  $("from").value = local(from);
  $("to").value = local(to);
});

function custom(event) {
  event.preventDefault();
  const [from, to] = [$("from"), $("to")].map((input) => new Date(input.value).getTime());
  if (!(from < to)) return say($("custom-note"), "The end must be after the start.", "warn");
  say($("custom-note"), "");
  $("custom").open = false;
  return zoomTo(from, to);
}

/* ---- the wall ---- */

function setWall(isOn) {
  if (isOn === isWall()) return;
  if (isOn) document.documentElement.dataset.view = "wall";
  else delete document.documentElement.dataset.view;
  $("wall").setAttribute("aria-pressed", String(isOn));
  setTimeout(draw);
}

async function toggleWall() {
  const isOn = !isWall();
  // Without the right to fill the screen, the view is the same within the window.
  if (isOn) await document.documentElement.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) await document.exitFullscreen().catch(() => {});
  setWall(isOn);
  remember(true);
}

/* ---- begin ---- */

beginAccount();
beginFleet();
beginLists();
beginExport();
whenUsed({ zoom: (from, to, isOut) => (isOut && !state.zoom ? undefined : zoomTo(from, to)), reset: resetZoom });
$("reset").addEventListener("click", resetZoom);
$("wall").addEventListener("click", toggleWall);
document.addEventListener("fullscreenchange", () => document.fullscreenElement || !isWall() || toggleWall());
$("custom-form").addEventListener("submit", custom);
$("compare").addEventListener("change", () => {
  state.compare = $("compare").checked;
  remember(true);
  loadSeries();
});
$("metric").addEventListener("change", () => {
  state.metric = $("metric").value;
  state.more = state.more.filter((name) => name !== state.metric);
  state.zoom = null;
  remember(true);
  showMetrics(false);
  changed(true);
  loadExtremes();
});
// A menu closes when the user goes on elsewhere, or by Escape.
for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("pointerdown", (event) => menu.contains(event.target) || (menu.open = false));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
let width = 0;
new ResizeObserver(throttled(150, () => {
  if ($("chart").clientWidth === width) return;
  width = $("chart").clientWidth;
  if (state.chosen) draw();
})).observe($("chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.chosen && draw());
addEventListener("popstate", follow);
setInterval(() => {
  showLive();
  if (document.hidden || !state.fleet) return;
  showTiles();
  showAges();
  if (state.chosen) showChosen();
}, 1000);
setInterval(() => !document.hidden && state.fleet && (loadExtremes(), loadSilent()), 60e3);
follow();
// At once, and again when the events are there: what changes in between would be missed. The first time that waits for the chart.
loadFleet();
let isFirstTime = true;
connect({
  open: () => {
    if (!isFirstTime) loadFleet();
    begun.then(() => (isFirstTime && loadFleet(), (isFirstTime = false), loadStatus(), loadAlerts()));
  },
  // Perhaps because the session is over.
  closed: loadMe,
  heard: (isThere) => {
    heard = isThere ? Date.now() : 0;
    showLive();
  },
  events: {
    beat: () => {},
    fleet: takeFleet,
    readings: takeChanges,
    status: takeHealth,
    alerts: takeAlerts,
    trouble: (problem) => showTrouble(problem.remedy ? `${problem.detail} (${problem.remedy})` : problem.detail),
    reset: () => (loadFleet(), loadAlerts()),
  },
});
