// The fleet in a browser, without a library and without anything from another origin. Names come from sensors: text goes
// into the page by textContent only, never as markup.

import { COLUMNS, age, ago, figure, keptMetric, metricsOf, newestTile, timeTicks, valueTicks, withReading } from "./scale.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const RANGES = { "1h": 3600e3, "6h": 6 * 3600e3, "24h": 24 * 3600e3, "7d": 7 * 86400e3, "30d": 30 * 86400e3 };

const state = {
  fleet: null,
  units: new Map(),
  readings: new Map(), // key -> newest reading
  rows: new Map(), // key -> its row in the table
  locations: new Map(), // name -> its section of the page
  chosen: null, // {id, reading, metrics}: metrics are all that it has ever measured, null until they are known
  metric: null,
  last: "24h",
  side: "highest",
  zoom: null, // {from, to}
  series: null, // with its own metric: what is drawn is never labelled by what is chosen
  anomalies: [],
  anomaliesOf: null,
  forecast: [], // {at, value, low, high}
  forecastOf: null,
  cursor: null,
};

/* ---- small helpers ---- */

// Characters that reorder or hide text (the same as in src/output/text.rs).
const HIDDEN = /[\p{Cc}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** The text with such characters as visible escapes: names come from whoever may send. */
const visible = (text) => String(text).replace(HIDDEN, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = visible(value);
    else if (name === "title" || name === "aria-label") node.setAttribute(name, visible(value));
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  const parts = children.filter((child) => child !== null && child !== undefined);
  node.append(...parts.map((part) => (typeof part === "string" ? visible(part) : part)));
  return node;
}

function shape(tag, attributes = {}, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = visible(text);
  return node;
}

const keyOf = (reading) => JSON.stringify([reading.location, reading.device_type, reading.iot_sensor_id]);
const time = (text) => Date.parse(text);
const count = (number) => number.toLocaleString("en");
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
const title = (name) => name.replaceAll("_", " ");
const unit = (name) => state.units.get(name) ?? "";

const measured = (value, name) => (unit(name) ? `${figure(value)} ${unit(name)}` : figure(value));

const dateFormat = (options) => new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...options });
const FULL = dateFormat({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const SHORT = dateFormat({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const SECOND = dateFormat({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

function say(node, text, kind) {
  node.textContent = visible(text);
  node.classList.remove("is-bad", "is-warn", "is-good");
  if (kind) node.classList.add(`is-${kind}`);
}

/** At most once per `pause`, the last call included. */
function throttled(pause, work) {
  let timer = null;
  let ran = 0;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      ran = Date.now();
      work();
    }, Math.max(0, ran + pause - Date.now()));
  };
}

/* ---- the API ---- */

const asking = new Map();

/** Sends a request; it cancels the previous one of the same kind, which then returns `null`. */
async function ask(kind, path, parameters = {}) {
  asking.get(kind)?.abort();
  const controller = new AbortController();
  asking.set(kind, controller);
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
  try {
    const response = await fetch(query.size ? `${path}?${query}` : path, { signal: controller.signal });
    const body = await response.json();
    if (!response.ok) throw new Error(body.remedy ? `${body.detail} (${body.remedy})` : body.detail);
    return controller.signal.aborted ? null : body;
  } catch (error) {
    if (error.name === "AbortError") return null;
    throw error instanceof TypeError ? new Error("the dashboard does not answer (check that it is running)") : error;
  } finally {
    if (asking.get(kind) === controller) asking.delete(kind);
  }
}

/** The chosen length of time, up to now, or up to `newest` where that is longer ago. */
function range(newest) {
  const length = RANGES[state.last];
  if (newest === undefined || newest > Date.now() - length) return { last: state.last };
  return { from: new Date(newest - length).toISOString(), to: new Date(newest + 1).toISOString() };
}

/* ---- live ---- */

let source = null;
let heard = 0;

function connect() {
  source?.close();
  source = new EventSource("/api/events");
  source.addEventListener("open", () => {
    heard = Date.now();
    showLive();
    loadFleet();
    loadStatus();
  });
  const on = (name, act) =>
    source.addEventListener(name, (event) => {
      heard = Date.now();
      act(JSON.parse(event.data));
      showLive();
    });
  on("beat", () => {});
  on("fleet", takeFleet);
  on("readings", takeReadings);
  on("status", takeStatus);
  on("trouble", (problem) => showTrouble(problem.remedy ? `${problem.detail} (${problem.remedy})` : problem.detail));
  on("reset", () => loadFleet());
  source.addEventListener("error", () => {
    heard = 0;
    showLive();
    // The browser reconnects by itself, unless the server answered with an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  });
}

let trouble = null;

function showTrouble(text) {
  trouble = text;
  showLive();
  showAttention();
}

function showLive() {
  const live = $("live");
  const is = Date.now() - heard > 25e3 ? "lost" : trouble ? "stale" : "live";
  const text = { lost: "connection lost, reconnecting", stale: "Cassandra does not answer", live: "live" }[is];
  if (live.dataset.state === is) return;
  live.dataset.state = is;
  live.lastElementChild.textContent = text;
  if (state.fleet) showTiles();
}

/** Why what is shown may be old; null while it is live. */
const staleness = () => (Date.now() - heard > 25e3 ? "the dashboard does not answer" : trouble ? "Cassandra does not answer" : null);

/* ---- the fleet ---- */

async function loadFleet() {
  try {
    const fleet = await ask("fleet", "/api/fleet");
    if (!fleet) return;
    takeFleet(fleet);
    for (const [name, shown] of state.locations) if (shown.isOpen) loadLocation(name);
  } catch (error) {
    showTrouble(error.message);
    // The event `fleet` follows when it is available again.
    if (!state.fleet) $("locations").replaceChildren(el("p", { class: "empty", text: error.message }));
  }
}

function takeFleet(fleet) {
  trouble = null;
  const isFirst = state.fleet === null;
  const silentBefore = state.fleet?.silent;
  state.fleet = fleet;
  state.units = new Map(fleet.metrics.map((metric) => [metric.name, metric.unit ?? ""]));
  showTiles();
  showLocations();
  showMetrics();
  showAttention();
  if (isFirst && fleet.groups.length) {
    const first = chooseFirst();
    if (!state.chosen && first) openLocation(first, true);
    loadExtremes();
  }
  if (silentBefore !== fleet.silent) loadSilent();
}

function showTiles() {
  const { fleet } = state;
  const locations = new Set(fleet.groups.map((group) => group.location)).size;
  say($("tile-sensors"), count(fleet.sensors));
  say($("tile-groups"), `at ${plural(locations, "location")}`);
  say($("tile-silent"), count(fleet.silent), fleet.silent ? "bad" : "good");
  say($("tile-silent-note"), `for longer than ${length(fleet.silent_after_seconds)}`);
  const { text, note, kind } = newestTile(fleet.groups, Date.now(), staleness(), (at) => SECOND.format(at));
  say($("tile-newest"), text, kind);
  say($("tile-newest-note"), note);
}

function length(seconds) {
  if (seconds % 86400 === 0) return plural(seconds / 86400, "day");
  if (seconds % 3600 === 0) return plural(seconds / 3600, "hour");
  return seconds % 60 === 0 ? plural(seconds / 60, "minute") : plural(seconds, "second");
}

function showLocations() {
  const groups = Map.groupBy
    ? Map.groupBy(state.fleet.groups, (group) => group.location)
    : state.fleet.groups.reduce((map, group) => map.set(group.location, [...(map.get(group.location) ?? []), group]), new Map());
  const parent = $("locations");
  if (!groups.size) {
    const text = "Nothing is stored yet: run iotctl simulate and iotctl ingest. New readings appear here by themselves.";
    return parent.replaceChildren(el("p", { class: "empty", text }));
  }
  parent.querySelector(":scope > .empty")?.remove();
  for (const [name, parts] of groups) {
    let shown = state.locations.get(name);
    if (!shown) {
      shown = newLocation(name);
      state.locations.set(name, shown);
      const after = [...state.locations.keys()].filter((other) => other > name).sort()[0];
      parent.insertBefore(shown.section, after === undefined ? null : state.locations.get(after).section);
    }
    const sum = (of) => parts.reduce((total, part) => total + part[of], 0);
    const silent = sum("silent");
    shown.types = parts.map((part) => part.device_type);
    shown.facts.replaceChildren(
      ...(silent ? [el("span", { class: "badge", text: `${count(silent)} silent` })] : []),
      el("span", { text: plural(sum("sensors"), "sensor") }),
    );
  }
  filter();
}

function newLocation(name) {
  const facts = el("span", { class: "facts" });
  const body = el("div", { hidden: "" });
  const button = el(
    "button",
    { type: "button", "aria-expanded": "false", onclick: () => openLocation(name, !state.locations.get(name).isOpen) },
    el("span", { class: "chevron", "aria-hidden": "true" }),
    el("span", { class: "name", text: name }),
    facts,
  );
  const section = el("section", { class: "location", "aria-label": `Location ${name}` }, el("h3", {}, button), body);
  return { section, body, button, facts, types: [], isOpen: false };
}

function openLocation(name, isOpen) {
  const shown = state.locations.get(name);
  if (!shown) return;
  shown.isOpen = isOpen;
  shown.button.setAttribute("aria-expanded", String(isOpen));
  shown.section.toggleAttribute("data-open", isOpen);
  shown.body.hidden = !isOpen;
  if (isOpen) loadLocation(name);
  else forget(name);
}

function forget(name) {
  for (const [key, row] of state.rows) if (row.location === name) state.rows.delete(key);
  for (const [key, reading] of state.readings) if (reading.location === name) state.readings.delete(key);
}

async function loadLocation(name) {
  const shown = state.locations.get(name);
  if (!shown.body.childElementCount) shown.body.replaceChildren(el("p", { class: "empty", text: "Loading …" }));
  try {
    const answer = await ask(`location ${name}`, "/api/sensors", { location: name });
    if (!answer || !shown.isOpen) return;
    forget(name);
    for (const reading of answer.readings) state.readings.set(keyOf(reading), reading);
    showLocation(name, answer.truncated ? answer.sensors : 0);
    if (!state.chosen && answer.readings.length) {
      const usual = answer.readings.find((reading) => reading.temperature !== undefined && !isSilent(reading));
      choose((usual ?? answer.readings[0]).iot_sensor_id, usual ?? answer.readings[0]);
    }
  } catch (error) {
    shown.body.replaceChildren(el("p", { class: "empty", text: error.message }));
  }
}

const isSilent = (reading) =>
  Date.now() - time(reading.recorded_timestamp) > (state.fleet?.silent_after_seconds ?? Infinity) * 1000;

/** Other metrics that a table has columns for. */
const MOST_OTHERS = 6;
const valueOf = (reading, name) => (COLUMNS.includes(name) ? reading[name] : reading.other_metrics?.[name]);

function showLocation(name, outOf) {
  const shown = state.locations.get(name);
  const readings = [...state.readings.values()].filter((reading) => reading.location === name);
  const parts = [];
  for (const type of shown.types) {
    const own = readings.filter((reading) => reading.device_type === type);
    if (!own.length) continue;
    const names = metricsOf(own, MOST_OTHERS);
    const hasMotion = own.some((reading) => reading.motion_detected !== undefined);
    const head = el("tr", {}, el("th", { scope: "col", text: "sensor" }), el("th", { scope: "col", class: "n", text: "age" }));
    for (const metric of names) head.append(el("th", { scope: "col", class: "n two" }, title(metric), el("span", { text: unit(metric) || "\u00a0" })));
    if (hasMotion) head.append(el("th", { scope: "col", text: "motion" }));
    const body = el("tbody");
    for (const reading of own) body.append(newRow(reading, names, hasMotion));
    parts.push(
      el("p", { class: "type" }, el("span", { text: type }), el("span", { text: `· ${count(own.length)}` })),
      el("div", { class: "scroll" }, el("table", { "aria-label": `${type} at ${name}` }, el("thead", {}, head), body)),
    );
  }
  if (outOf) {
    const text = `Showing the first ${count(readings.length)} of ${count(outOf)}; find any other sensor by its full id or name.`;
    parts.push(el("p", { class: "more", text }));
  }
  shown.body.replaceChildren(...parts);
  filter();
}

function newRow(reading, names, hasMotion) {
  const key = keyOf(reading);
  const id = reading.iot_sensor_id;
  const name = reading.sensor_name;
  const button = sensorButton(id, name);
  const cells = new Map(names.map((name) => [name, el("td", { class: "n" })]));
  const motion = hasMotion ? el("td") : null;
  const seen = el("td", { class: "n" });
  const node = el("tr", { class: "row", "data-sensor": id }, el("td", {}, button), seen, ...cells.values(), motion);
  node.addEventListener("click", () => choose(id, state.readings.get(key) ?? reading));
  const row = { node, cells, motion, seen, location: reading.location, id, name: name?.toLowerCase() ?? "" };
  state.rows.set(key, row);
  fill(row, reading, false);
  node.classList.toggle("chosen", state.chosen?.id === id);
  return node;
}

function fill(row, reading, isFresh) {
  const put = (cell, text) => {
    if (!cell || cell.textContent === text) return;
    cell.textContent = text;
    if (!isFresh) return;
    cell.classList.remove("fresh");
    void cell.offsetWidth; // restarts the animation
    cell.classList.add("fresh");
  };
  for (const [name, cell] of row.cells) {
    const value = valueOf(reading, name);
    put(cell, value === undefined ? "–" : figure(value));
  }
  put(row.motion, { true: "yes", false: "no" }[reading.motion_detected] ?? "–");
  showAge(row, reading);
}

function showAge(row, reading) {
  row.seen.textContent = age(time(reading.recorded_timestamp));
  row.seen.title = FULL.format(time(reading.recorded_timestamp));
  row.seen.classList.toggle("is-bad", isSilent(reading));
}

function takeReadings(changes) {
  trouble = null;
  const stale = new Set();
  for (const reading of changes.readings) {
    const key = keyOf(reading);
    const shown = state.locations.get(reading.location);
    if (shown?.isOpen) {
      state.readings.set(key, reading);
      const row = state.rows.get(key);
      const isNewColumn = row && metricsOf([reading], MOST_OTHERS).some((name) => !row.cells.has(name));
      if (row && !isNewColumn) fill(row, reading, true);
      else stale.add(reading.location);
    }
    if (state.chosen?.id === reading.iot_sensor_id) {
      state.chosen.reading = reading;
      if (state.chosen.metrics) state.chosen.metrics = withReading(state.chosen.metrics, reading);
      showMetrics();
      showChosen();
      if (!state.zoom) follow();
    }
  }
  for (const name of stale) loadLocation(name);
  if (changes.truncated) for (const [name, shown] of state.locations) if (shown.isOpen) loadLocationSoon(name);
}

const soon = new Map();
function loadLocationSoon(name) {
  if (!soon.has(name)) soon.set(name, throttled(5000, () => state.locations.get(name)?.isOpen && loadLocation(name)));
  soon.get(name)();
}

function filter() {
  const wanted = $("find").value.trim().toLowerCase();
  const has = (text) => text.toLowerCase().includes(wanted);
  for (const [name, shown] of state.locations) {
    const isMeant = has(name) || shown.types.some(has);
    let rows = 0;
    for (const row of state.rows.values()) {
      if (row.location !== name) continue;
      const isShown = isMeant || row.id.includes(wanted) || row.name.includes(wanted);
      row.node.hidden = !isShown;
      rows += isShown;
    }
    shown.section.hidden = !isMeant && rows === 0;
  }
}

/** Chooses the sensor of this id or this whole name. Without one, the list shows what has the text as a part. */
async function find(event) {
  const wanted = $("find").value.trim();
  if (event.key !== "Enter" || !wanted) return;
  if (UUID.test(wanted)) return choose(wanted.toLowerCase());
  const answer = await ask("find", `/api/sensors/${encodeURIComponent(wanted)}`).catch(() => null);
  const reading = answer?.readings[0];
  if (reading) choose(reading.iot_sensor_id, reading);
}

/* ---- one sensor ---- */

/** The location to open first: that of the sensor in the address, or the first. */
function chooseFirst() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  if (Object.hasOwn(RANGES, parameters.get("last") ?? "")) state.last = parameters.get("last");
  if (state.units.has(parameters.get("metric"))) state.metric = parameters.get("metric");
  showRanges();
  const id = parameters.get("sensor");
  if (id && UUID.test(id)) {
    choose(id.toLowerCase());
    return null;
  }
  return state.fleet.groups[0].location;
}

function remember() {
  if (!state.chosen) return;
  const parameters = new URLSearchParams({ sensor: state.chosen.id, metric: state.metric ?? "", last: state.last });
  history.replaceState(null, "", `#${parameters}`);
}

async function choose(id, reading) {
  state.chosen = { id, reading, metrics: null };
  state.zoom = null;
  for (const row of state.rows.values()) row.node.classList.toggle("chosen", row.id === id);
  forgetSeries();
  say($("chart-title"), reading ? titleOf(reading) : `Sensor ${id.slice(0, 8)}`);
  say($("chart-note"), id);
  try {
    // Asked for the metrics that it has ever measured: its newest reading may lack some.
    const answer = await ask("sensor", `/api/sensors/${encodeURIComponent(id)}`);
    if (!answer || state.chosen?.id !== id) return;
    state.chosen.reading = answer.readings[0];
    state.chosen.metrics = answer.metrics.map((metric) => metric.name);
    const shown = state.locations.get(answer.readings[0]?.location);
    if (!reading && shown && !shown.isOpen) openLocation(answer.readings[0].location, true);
  } catch (error) {
    if (state.chosen?.id !== id) return;
    say($("chart-note"), error.message, "warn");
    say($("anomalies-note"), "\u00a0");
    return draw(error.message);
  }
  showMetrics(false);
  showChosen();
  remember();
  loadSeries();
  loadAnomalies();
}

/** Clears what belongs to another sensor or metric: its line, its statistics, its anomalies and its forecast. */
function forgetSeries() {
  for (const kind of ["series", "anomalies", "forecast"]) asking.get(kind)?.abort();
  state.series = null;
  state.cursor = null;
  state.anomalies = [];
  state.anomaliesOf = null;
  state.forecast = [];
  state.forecastOf = null;
  $("stats").textContent = "\u00a0";
  $("reset").hidden = true;
  $("anomalies").replaceChildren();
  isDragging = false;
  draw();
}

const titleOf = ({ sensor_name: name, device_type: type, location }) => (name ? `${name} · ${type} at ${location}` : `${type} at ${location}`);

function showChosen() {
  const { id, reading } = state.chosen;
  if (!reading) return;
  say($("chart-title"), titleOf(reading));
  const seen = time(reading.recorded_timestamp);
  const silent = isSilent(reading) ? `silent for ${age(seen)}` : `last reading ${ago(seen)}`;
  say($("chart-note"), `${id} · ${silent}`, isSilent(reading) ? "bad" : undefined);
}

/** Fills the selector. Where the chosen metric is not there, another one is chosen, and its line is loaded if `reload`. */
function showMetrics(reload = true) {
  if (state.chosen && !state.chosen.metrics) return;
  const select = $("metric");
  const names = state.chosen?.metrics.length ? state.chosen.metrics : [...state.units.keys()];
  const before = state.metric;
  state.metric = keptMetric(before, names);
  const known = [...select.options].map((option) => option.value);
  if (known.join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => el("option", { value: name, text: unit(name) ? `${title(name)} (${unit(name)})` : title(name) })));
  }
  if (state.metric) select.value = state.metric;
  if (!before || before === state.metric) return;
  if (reload) changed(true);
  else loadExtremes();
}

function buttons(parent, names, label, chosen, act) {
  parent.replaceChildren(
    ...names.map((name) =>
      el("button", { type: "button", "aria-pressed": String(name === chosen()), text: label(name), onclick: () => {
        act(name);
        for (const [index, button] of [...parent.children].entries()) button.setAttribute("aria-pressed", String(names[index] === chosen()));
      } }),
    ),
  );
}

function showRanges() {
  buttons($("ranges"), Object.keys(RANGES), (name) => name, () => state.last, (name) => {
    state.last = name;
    state.zoom = null;
    changed();
  });
}

/** After another metric was chosen (`isOther`), or another range. */
function changed(isOther = false) {
  remember();
  if (isOther) forgetSeries();
  if (state.chosen) {
    loadSeries();
    loadAnomalies();
  }
  loadExtremes();
}

const newest = () => (state.chosen?.reading ? time(state.chosen.reading.recorded_timestamp) : undefined);
const iso = (at) => new Date(at).toISOString();

async function loadSeries() {
  if (!state.chosen || !state.metric) return;
  const { zoom } = state;
  const span = zoom ? { from: iso(zoom.from), to: iso(zoom.to) } : range(newest());
  const columns = Math.min(2000, Math.max(50, Math.floor($("chart").clientWidth - 70)));
  const { id } = state.chosen;
  const parameters = { sensor: id, metric: state.metric, columns, ...span };
  $("chart").setAttribute("aria-busy", "true");
  try {
    const series = await ask("series", "/api/series", parameters);
    if (!series || id !== state.chosen?.id || series.metric !== state.metric) return;
    const points = series.points.map((point) => ({ at: time(point.time), value: point.value }));
    const cursorAt = state.series?.points[state.cursor]?.at;
    state.series = { ...series, from: time(series.from), to: time(series.to), points };
    const isShown = points.length > 0 && cursorAt >= state.series.from && cursorAt <= state.series.to;
    state.cursor = isShown ? nearest(cursorAt) : null;
    showStats();
    draw();
    loadForecast();
  } catch (error) {
    state.series = null;
    showStats();
    draw(error.message);
  } finally {
    $("chart").removeAttribute("aria-busy");
  }
}

/** Its steps are hours, so once in ten minutes is enough. Without a forecast, as for a new sensor, there is no band. */
async function loadForecast() {
  const { chosen, metric } = state;
  const of = `${chosen.id} ${metric} ${Math.floor(Date.now() / 600e3)}`;
  if (state.forecastOf === of) return;
  state.forecastOf = of;
  state.forecast = [];
  const found = await ask("forecast", "/api/forecast", { sensor: chosen.id, metric }).catch(() => null);
  if (state.forecastOf !== of || !found) return;
  state.forecast = found.points.map((point) => ({ ...point, at: time(point.time) }));
  if (state.series) draw();
}

const follow = throttled(3000, () => !state.zoom && loadSeries());

function showStats() {
  const { series } = state;
  const name = series?.metric;
  $("reset").hidden = !state.zoom;
  const text = series?.values
    ? `lowest ${measured(series.lowest, name)} · mean ${measured(series.mean, name)} · highest ${measured(series.highest, name)} · ${plural(series.values, "value")}`
    : "\u00a0";
  if ($("stats").textContent !== text) $("stats").textContent = text;
}

/* ---- the chart ---- */

/** The left margin grows with the labels of values. */
const MARGIN = { left: 56, right: 14, top: 12, bottom: 26 };

/** The line breaks where nothing was measured. */
function segments(points, span, columns) {
  const gaps = points.slice(1).map((point, index) => point.at - points[index].at).filter((gap) => gap > 0).sort((a, b) => a - b);
  const usual = gaps[Math.floor(gaps.length / 2)] ?? 0;
  const widest = Math.max(6 * usual, (3 * span) / columns);
  const found = [];
  for (const point of points) {
    const last = found.at(-1);
    if (last && point.at - last.at(-1).at <= widest) last.push(point);
    else found.push([point]);
  }
  return found;
}

let view = null; // the scales of the chart
let isDragging = false; // the chart is not redrawn while the user drags over it
let isStale = false;

function draw(trouble) {
  isStale = isDragging;
  if (isDragging) return;
  const parent = $("chart");
  const { series } = state;
  view = null;
  if (!series || !series.points.length) {
    const text = trouble ?? (series ? "No values in this range of time." : state.chosen ? "Loading …" : "Choose a sensor to see its values.");
    return parent.replaceChildren(el("p", { class: "empty", text }));
  }
  const width = parent.clientWidth;
  const height = parent.clientHeight;
  const { points } = series;
  const from = series.from;
  // The forecast takes at most a quarter of the chart.
  const farthest = series.to + (series.to - from) / 3;
  const band = state.zoom ? [] : state.forecast.filter((point) => point.at <= farthest);
  const to = Math.max(series.to, ...band.map((point) => point.at));
  const values = [...points.map((point) => point.value), ...band.flatMap((point) => [point.low, point.high])];
  let low = Math.min(...values);
  let high = Math.max(...values);
  const room = (high - low) * 0.06 || Math.abs(high) * 0.02 || 1;
  low -= room;
  high += room;
  const ticks = valueTicks(low, high, Math.max(3, Math.floor(height / 60)));
  const left = Math.max(MARGIN.left, 16 + 7 * Math.max(0, ...ticks.map(([, text]) => text.length)));
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const x = (at) => left + ((at - from) / (to - from)) * (right - left);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
  const at = (px) => from + ((px - left) / (right - left)) * (to - from);

  const { metric } = series;
  const name = `${title(metric)}${unit(metric) ? ` in ${unit(metric)}` : ""}`;
  const label = `${name} from ${FULL.format(from)} to ${FULL.format(to)}, lowest ${measured(series.lowest, metric)}, highest ${measured(series.highest, metric)}. Arrow keys read values, plus and minus zoom, Escape resets.`;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, tabindex: "0", role: "application", "aria-roledescription": "chart", "aria-label": label });
  for (const [tick, text] of ticks) {
    svg.append(shape("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }));
    svg.append(shape("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, text));
  }
  for (const [tick, text] of timeTicks(from, to, Math.max(2, Math.floor(width / 110)))) {
    svg.append(shape("line", { class: "grid", x1: x(tick), x2: x(tick), y1: MARGIN.top, y2: bottom }));
    const half = 3.4 * text.length;
    const px = Math.min(Math.max(x(tick), left + half - 20), width - half);
    svg.append(shape("text", { x: px, y: height - 7, "text-anchor": "middle" }, text));
  }
  const line = (list, of) => list.map((point, index) => `${index ? "L" : "M"}${x(point.at).toFixed(1)} ${y(of(point)).toFixed(1)}`).join("");
  const parts = segments(points, series.to - series.from, width);
  const value = (point) => point.value;
  const areas = parts.filter((part) => part.length > 1).map((part) => `${line(part, value)}L${x(part.at(-1).at).toFixed(1)} ${bottom}L${x(part[0].at).toFixed(1)} ${bottom}Z`);
  svg.append(shape("path", { class: "area", d: areas.join("") }));
  if (band.length > 1) {
    const back = [...band].reverse().map((point) => `L${x(point.at).toFixed(1)} ${y(point.low).toFixed(1)}`).join("");
    svg.append(shape("path", { class: "band", d: `${line(band, (point) => point.high)}${back}Z` }));
    svg.append(shape("path", { class: "expected", d: line(band, value) }));
  }
  // A single value is a dot: a line of length 0 with round ends.
  svg.append(shape("path", { class: "curve", d: parts.map((part) => line(part, value) + (part.length === 1 ? "h0.01" : "")).join("") }));
  for (const anomaly of state.anomaliesOf === metric ? state.anomalies : []) {
    const px = x(time(anomaly.worst));
    if (px < left || px > right || anomaly.value < low || anomaly.value > high) continue;
    svg.append(shape("circle", { class: "odd", cx: px, cy: y(anomaly.value), r: 4.5 }));
  }
  const select = shape("rect", { class: "select", y: MARGIN.top, height: bottom - MARGIN.top, x: 0, width: 0 });
  const cross = shape("line", { class: "cross", y1: MARGIN.top, y2: bottom, visibility: "hidden" });
  const dot = shape("circle", { class: "dot", r: 5, visibility: "hidden" });
  const surface = shape("rect", { class: "surface", x: left, y: MARGIN.top, width: right - left, height: bottom - MARGIN.top });
  svg.append(select, cross, dot, surface);
  const tip = el("div", { class: "tip", role: "status", hidden: "" });
  const hadFocus = parent.contains(document.activeElement);
  parent.replaceChildren(svg, tip);
  view = { svg, select, cross, dot, tip, x, y, at, left, right, width };
  if (hadFocus) svg.focus({ preventScroll: true });
  listenToChart(svg, surface);
  // The value that the user is reading stays.
  if (state.cursor !== null) showCursor(state.cursor);
}

function nearest(at) {
  const { points } = state.series;
  let low = 0;
  let high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].at < at) low = middle + 1;
    else high = middle;
  }
  return low > 0 && at - points[low - 1].at < points[low].at - at ? low - 1 : low;
}

function showCursor(index) {
  state.cursor = index;
  const point = state.series.points[index];
  if (!view || !point) return;
  const px = view.x(point.at);
  view.cross.setAttribute("x1", px);
  view.cross.setAttribute("x2", px);
  view.dot.setAttribute("cx", px);
  view.dot.setAttribute("cy", view.y(point.value));
  for (const node of [view.cross, view.dot]) node.setAttribute("visibility", "visible");
  view.tip.replaceChildren(el("strong", { text: measured(point.value, state.series.metric) }), FULL.format(point.at));
  view.tip.hidden = false;
  const room = view.tip.offsetWidth;
  view.tip.style.left = `${px + room + 18 > view.width ? px - room - 12 : px + 12}px`;
}

function hideCursor() {
  state.cursor = null;
  if (!view) return;
  for (const node of [view.cross, view.dot]) node.setAttribute("visibility", "hidden");
  view.tip.hidden = true;
}

function zoomTo(from, to) {
  if (to - from < 1000) return;
  state.zoom = { from: Math.floor(from), to: Math.ceil(to) };
  loadSeries();
}

function resetZoom() {
  if (!state.zoom) return;
  state.zoom = null;
  loadSeries();
}

function listenToChart(svg, surface) {
  const { at, left, right, select } = view;
  let start = null;
  const end = () => {
    start = null;
    isDragging = false;
    select.setAttribute("width", 0);
    if (isStale) draw();
  };
  const px = (event) => Math.min(Math.max(event.clientX - svg.getBoundingClientRect().left, left), right);
  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    start = px(event);
    isDragging = true;
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    const here = px(event);
    if (start === null) return showCursor(nearest(at(here)));
    select.setAttribute("x", Math.min(start, here));
    select.setAttribute("width", Math.abs(here - start));
  });
  surface.addEventListener("pointerup", (event) => {
    const [from, to] = [start ?? 0, px(event)].sort((a, b) => a - b);
    const isDrag = start !== null && to - from > 6;
    end();
    if (isDrag) zoomTo(at(from), at(to));
  });
  surface.addEventListener("pointercancel", end);
  surface.addEventListener("pointerleave", () => start === null && hideCursor());
  surface.addEventListener("lostpointercapture", () => start !== null && end());
  surface.addEventListener("dblclick", resetZoom);
  svg.addEventListener("keydown", keyOnChart);
}

function keyOnChart(event) {
  const { series } = state;
  const last = series.points.length - 1;
  const step = event.shiftKey ? 20 : 1;
  const cursor = state.cursor ?? last;
  const scale = (factor) => {
    const span = state.zoom ?? series;
    const middle = state.cursor === null ? (span.from + span.to) / 2 : series.points[state.cursor].at;
    zoomTo(middle - ((span.to - span.from) * factor) / 2, Math.min(middle + ((span.to - span.from) * factor) / 2, Date.now()));
  };
  const acts = {
    ArrowLeft: () => showCursor(Math.max(0, cursor - step)),
    ArrowRight: () => showCursor(Math.min(last, cursor + step)),
    Home: () => showCursor(0),
    End: () => showCursor(last),
    "+": () => scale(0.5),
    "=": () => scale(0.5),
    "-": () => state.zoom && scale(2),
    Escape: resetZoom,
    0: resetZoom,
  };
  if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  acts[event.key]();
}

/* ---- lists ---- */

function table(label, headings, rows) {
  const head = el("tr", {}, ...headings.map(([text, kind]) => el("th", { scope: "col", class: kind, text })));
  return el("div", { class: "scroll" }, el("table", { "aria-label": label }, el("thead", {}, head), el("tbody", {}, ...rows)));
}

/** A sensor by its name; the start of its id where it has none. */
function sensorButton(id, name) {
  const title = name ? `${name}, ${id}` : id;
  return el("button", { type: "button", class: "link", text: name ?? id.slice(0, 8), title, "aria-label": `Sensor ${name ?? id}` });
}

function sensorRow({ iot_sensor_id: id, sensor_name: name }, act, ...cells) {
  const button = sensorButton(id, name);
  return el("tr", { class: "row", "data-sensor": id, onclick: act }, el("td", {}, button), ...cells);
}

function show(id) {
  choose(id);
  if (matchMedia("(max-width: 980px)").matches) $("chart-panel").scrollIntoView({ behavior: "smooth" });
}

async function loadAnomalies() {
  if (!state.chosen || !state.metric) return;
  try {
    const { id } = state.chosen;
    const { metric } = state;
    const answer = await ask("anomalies", "/api/anomalies", { sensor: id, metric, ...range(newest()) });
    if (!answer || id !== state.chosen?.id || metric !== state.metric) return;
    state.anomalies = answer.anomalies;
    state.anomaliesOf = metric;
    const many = answer.found > answer.anomalies.length ? `, the ${answer.anomalies.length} most unusual` : "";
    say($("anomalies-note"), `${plural(answer.found, "anomaly", "anomalies")} in ${plural(answer.values, "value")}, far from the sensor's median${many}`);
    const rows = [...answer.anomalies].sort((a, b) => Math.abs(b.score ?? 0) - Math.abs(a.score ?? 0)).slice(0, 6).map((anomaly) => {
      const zoom = () => {
        const room = Math.max(RANGES[state.last] / 60, time(anomaly.to) - time(anomaly.from));
        zoomTo(time(anomaly.from) - room, time(anomaly.to) + room);
      };
      const button = el("button", { type: "button", class: "link", text: FULL.format(time(anomaly.worst)), title: "Zoom in" });
      const cell = (text) => el("td", { class: "n", text });
      return el("tr", { class: "row", onclick: zoom }, el("td", {}, button), cell(measured(anomaly.value, metric)), cell(figure(anomaly.expected)), cell(anomaly.score === undefined ? "–" : figure(anomaly.score)));
    });
    const content = rows.length
      ? table("Anomalies", [["worst at"], ["value", "n"], ["expected", "n"], ["robust deviations", "n"]], rows)
      : el("p", { class: "small", text: "None in this range of time." });
    $("anomalies").replaceChildren(content);
    if (state.series) draw();
  } catch (error) {
    state.anomalies = [];
    say($("anomalies-note"), error.message, "warn");
    $("anomalies").replaceChildren();
  }
}

async function loadExtremes() {
  if (!state.metric || !state.fleet) return;
  const moments = state.fleet.groups.map((group) => time(group.recorded_timestamp ?? "")).filter(Number.isFinite);
  try {
    const span = range(Math.max(...moments));
    const { metric, side } = state;
    const answer = await ask("extremes", "/api/extremes", { metric, side, top: 8, ...span });
    if (!answer) return;
    const rows = answer.extremes.map((extreme) =>
      sensorRow(
        extreme,
        () => show(extreme.iot_sensor_id),
        el("td", { class: "n", text: figure(extreme.value) }),
        el("td", { class: "wrap", text: extreme.location }),
        el("td", { class: "n", text: SHORT.format(time(extreme.recorded_timestamp)) }),
      ),
    );
    const name = unit(metric) ? `${title(metric)} (${unit(metric)})` : title(metric);
    say($("extremes-note"), `${side === "highest" ? "Highest" : "Lowest"} ${name} of each of ${plural(answer.sensors, "sensor")}, ${state.last}`);
    $("extremes").replaceChildren(rows.length ? table("Extremes", [["sensor"], ["value", "n"], ["location"], ["at", "n"]], rows) : el("p", { class: "small", text: "No values in this range of time." }));
  } catch (error) {
    say($("extremes-note"), error.message, "warn");
    $("extremes").replaceChildren();
  }
}

async function loadSilent() {
  try {
    const answer = await ask("silent", "/api/silent", { top: 8 });
    if (!answer) return;
    const after = length(state.fleet?.silent_after_seconds ?? 3600);
    say($("silent-note"), `${count(answer.silent)} of ${plural(answer.sensors, "sensor")}, no reading for longer than ${after}`);
    const rows = answer.list.map((sensor) =>
      sensorRow(
        sensor,
        () => show(sensor.iot_sensor_id),
        el("td", { class: "n is-bad", text: age(time(sensor.recorded_timestamp)) }),
        el("td", { class: "wrap", text: sensor.location }),
        el("td", { class: "wrap", text: sensor.device_type }),
      ),
    );
    const more = answer.silent > rows.length ? [el("p", { class: "more", text: `and ${count(answer.silent - rows.length)} more` })] : [];
    $("silent").replaceChildren(rows.length ? table("Silent sensors", [["sensor"], ["silent for", "n"], ["location"], ["type"]], rows) : el("p", { class: "small is-good", text: "No sensor is silent." }), ...more);
  } catch (error) {
    say($("silent-note"), error.message, "warn");
    $("silent").replaceChildren();
  }
}

/* ---- the pipeline ---- */

let attention = [];

async function loadStatus() {
  try {
    const status = await ask("status", "/api/status");
    if (status) takeStatus(status);
  } catch (error) {
    say($("pipeline-note"), error.message, "warn");
  }
}

function showAttention() {
  const all = [...new Set([...(trouble ? [trouble] : []), ...attention])];
  $("attention").hidden = all.length === 0;
  const list = $("attention").querySelector("ul");
  const texts = [...list.children].map((item) => item.textContent);
  // Only replaced when it changes: screen readers read it aloud.
  if (texts.join("\n") !== all.join("\n")) list.replaceChildren(...all.map((text) => el("li", { text })));
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (number >= 1024 && power < units.length - 1) {
    number /= 1024;
    power += 1;
  }
  return `${figure(number)} ${units[power]}`;
}

function takeStatus(status) {
  attention = status.attention;
  showAttention();
  const { kafka, cassandra } = status;
  const facts = (list) => el("dl", {}, ...list.flatMap(([name, text, kind]) => [el("dt", { text: name }), el("dd", { text, class: kind && `is-${kind}` })]));
  if (kafka.unknown) {
    say($("tile-lag"), "?", "bad");
    say($("tile-lag-note"), "Kafka does not answer");
    $("kafka").replaceChildren(facts([["Kafka", kafka.unknown, "bad"]]));
  } else {
    const { group, topic } = kafka;
    const lag = group.lag_messages;
    const isOld = (group.lag_seconds ?? 0) > 60;
    say($("tile-lag"), lag === null ? "?" : count(lag), isOld ? "warn" : undefined);
    say($("tile-lag-note"), group.members === 0 ? "no ingest is running" : lag ? `oldest for ${age(Date.now() - (group.lag_seconds ?? 0) * 1000)}` : "everything is stored");
    $("kafka").replaceChildren(
      facts([
        ["Brokers", kafka.brokers.map((broker) => broker.address).join(", ")],
        ["Topic", `${topic.name}, ${plural(topic.partitions, "partition")}`],
        ["Kept", plural(topic.messages, "message")],
        ["Waiting", lag === null ? "not known" : plural(lag, "message"), isOld ? "warn" : undefined],
        ["Ingest", group.members === null ? "not known" : group.members ? `${plural(group.members, "process", "processes")} in group ${group.name}` : "none is running", group.members === 0 ? "warn" : undefined],
        ["Dead letters", plural(kafka.dead_letters.messages, "message")],
      ]),
    );
  }
  if (cassandra.unknown) {
    say($("tile-nodes"), "?", "bad");
    say($("tile-nodes-note"), "does not answer");
    $("cassandra").replaceChildren(facts([["Cassandra", cassandra.unknown, "bad"]]));
  } else {
    const well = cassandra.nodes.filter((node) => node.answers && (node.state ?? "normal") === "normal").length;
    say($("tile-nodes"), `${well} of ${cassandra.nodes.length}`, well < cassandra.nodes.length ? "bad" : "good");
    say($("tile-nodes-note"), "nodes answer");
    const rows = cassandra.nodes.map((node) =>
      el("tr", {}, el("td", { text: node.address }), el("td", { text: node.answers ? (node.state ?? "answers") : "no answer", class: node.answers ? "is-good" : "is-bad" }), el("td", { class: "n", text: node.load_bytes ? bytes(node.load_bytes) : "–" }), el("td", { text: node.version ?? "–" })),
    );
    $("cassandra").replaceChildren(table("Cassandra nodes", [["node"], ["state"], ["load", "n"], ["version"]], rows));
  }
  say($("pipeline-note"), `seen at ${SECOND.format(time(status.at))}`);
}

/* ---- begin ---- */

$("find").addEventListener("input", filter);
$("find").addEventListener("keydown", find);
$("reset").addEventListener("click", resetZoom);
$("metric").addEventListener("change", () => {
  state.metric = $("metric").value;
  state.zoom = null;
  changed(true);
});
buttons($("sides"), ["highest", "lowest"], (name) => name, () => state.side, (name) => {
  state.side = name;
  loadExtremes();
});
showRanges();
new ResizeObserver(throttled(150, () => state.series && draw())).observe($("chart"));
setInterval(() => {
  showLive();
  if (document.hidden || !state.fleet) return;
  showTiles();
  for (const [key, row] of state.rows) if (state.readings.has(key)) showAge(row, state.readings.get(key));
  if (state.chosen) showChosen();
}, 1000);
setInterval(() => !document.hidden && state.fleet && (loadExtremes(), loadSilent()), 60e3);
connect();
