// The fleet by location: newest readings as tables that hold only the rows that are on the screen, and the search.

import { ask } from "./api.js";
import { $, FULL, count, el, empty, plural, remark, scroll, sensorButton, sensorRow, table, throttled, time, title } from "./page.js";
import { age, figure, metricsOf, order } from "./scale.js";
import { show, toggleBeside } from "./sensor.js";
import { UUID, emit, isSilent, keyOf, on, state, unitOfAll, valueOf } from "./state.js";

const locations = new Map(); // name -> its section of the page
/** Other metrics that a table has columns for. */
const MOST_OTHERS = 6;
/** Rows of a longer table come and go as it is scrolled. */
const MOST_ROWS = 120;
/** Height of a row in pixels, as in app.css. */
const ROW = 34;

export const isOpen = (name) => locations.get(name)?.isOpen === true;
const opened = () => [...locations].filter(([, shown]) => shown.isOpen);

/* ---- locations ---- */

export function showLocations() {
  const groups = new Map();
  for (const group of state.fleet.groups) groups.set(group.location, [...(groups.get(group.location) ?? []), group]);
  const parent = $("locations");
  if (!groups.size) {
    const text = "Nothing is stored yet: run iotctl simulate and iotctl ingest. New readings appear here by themselves.";
    return parent.replaceChildren(empty(text));
  }
  parent.querySelector(":scope > .empty")?.remove();
  for (const [name, parts] of groups) {
    let shown = locations.get(name);
    if (!shown) {
      shown = newLocation(name);
      locations.set(name, shown);
      const after = [...locations.keys()].filter((other) => other > name).sort()[0];
      parent.insertBefore(shown.section, after === undefined ? null : locations.get(after).section);
    }
    const sum = (of) => parts.reduce((total, part) => total + part[of], 0);
    const silent = sum("silent");
    shown.types = parts.map((part) => part.device_type);
    shown.facts.replaceChildren(
      ...(silent ? [el("span", { class: "badge", text: `${count(silent)} silent` })] : []),
      el("span", { text: plural(sum("sensors"), "sensor") }),
    );
  }
  for (const [name, shown] of locations) {
    if (groups.has(name)) continue;
    shown.section.remove();
    locations.delete(name);
  }
  filter();
}

function newLocation(name) {
  const facts = el("span", { class: "facts" });
  const body = el("div", { hidden: true });
  const button = el(
    "button",
    { type: "button", "aria-expanded": "false", onclick: () => openLocation(name, !isOpen(name)) },
    el("span", { class: "chevron", "aria-hidden": "true" }),
    el("span", { class: "name", text: name }),
    facts,
  );
  const section = el("section", { class: "location", "aria-label": `Location ${name}` }, el("h3", {}, button), body);
  return { section, body, button, facts, types: [], tables: [], isOpen: false };
}

export function openLocation(name, isToOpen) {
  const shown = locations.get(name);
  if (!shown) return;
  shown.isOpen = isToOpen;
  shown.button.setAttribute("aria-expanded", String(isToOpen));
  shown.section.toggleAttribute("data-open", isToOpen);
  shown.body.hidden = !isToOpen;
  if (isToOpen) return loadLocation(name);
  shown.tables = [];
  shown.body.replaceChildren();
  return forget(name);
}

function forget(name) {
  for (const [key, reading] of state.readings) if (reading.location === name) state.readings.delete(key);
}

export function loadOpened() {
  for (const [name] of opened()) loadLocation(name);
}

/** Locations that are asked for, and whether to ask again: a new question would only cancel one that takes long. */
const loading = new Map();

async function loadLocation(name) {
  if (loading.has(name)) return loading.set(name, true);
  loading.set(name, false);
  await readLocation(name);
  const isAgain = loading.get(name);
  loading.delete(name);
  if (isAgain) loadLocationSoon(name);
}

async function readLocation(name) {
  const shown = locations.get(name);
  if (!shown.body.childElementCount) shown.body.replaceChildren(empty("Loading …"));
  try {
    const answer = await ask(`location ${name}`, "/api/sensors", { location: name });
    if (!answer || !shown.isOpen) return;
    forget(name);
    for (const reading of answer.readings) state.readings.set(keyOf(reading), reading);
    // First, so that the first chart is asked for before the rows are made.
    emit("listed", answer.readings);
    showLocation(name, answer.readings, answer.truncated ? answer.sensors : 0);
  } catch (error) {
    shown.tables = [];
    shown.body.replaceChildren(empty(error.message, "warn"));
  }
}

function showLocation(name, readings, outOf) {
  const shown = locations.get(name);
  const before = new Map(shown.tables.map((known) => [known.type, known]));
  shown.tables = shown.types
    .map((type) => [type, readings.filter((reading) => reading.device_type === type)])
    .filter(([, own]) => own.length)
    .map(([type, own]) => newTable(name, type, own, before.get(type)));
  const parts = shown.tables.map((one) => one.node);
  if (outOf) parts.push(el("p", { class: "more", text: `Showing the first ${count(readings.length)} of ${count(outOf)}; the search finds every sensor.` }));
  shown.body.replaceChildren(...parts);
  shown.tables.forEach((one) => fit(one));
}

/* ---- tables ---- */

/** Names of metrics may have 256 bytes; a heading with all of it would leave no room for the rows. */
const cut = (text) => (text.length > 32 ? `${text.slice(0, 31)}…` : text);

function newTable(location, type, readings, before) {
  const names = metricsOf(readings, MOST_OTHERS);
  const hasMotion = readings.some((reading) => reading.motion_detected !== undefined);
  const one = { type, names, hasMotion, keys: readings.map(keyOf), rows: new Map(), sort: before?.sort ?? { by: "sensor", isDown: false }, heads: new Map(), body: el("tbody"), shown: "" };
  const head = el("tr", {});
  const column = (by, kind, ...text) => {
    const button = el("button", { type: "button", class: "sort", onclick: () => sortBy(one, by) }, ...text);
    const cell = el("th", { scope: "col", class: kind }, button);
    one.heads.set(by, cell);
    head.append(cell);
  };
  column("sensor", undefined, "sensor");
  column("age", "n", "age");
  for (const metric of names) column(metric, "n two", cut(title(metric)), el("span", { text: unitOfAll(metric) || "\u00a0" }));
  if (hasMotion) column("motion", undefined, "motion");
  const label = `${type} at ${location}`;
  const grid = el("table", { "aria-label": label, "aria-rowcount": String(readings.length + 1) }, el("thead", {}, head), one.body);
  one.node = el("div", {}, el("p", { class: "type" }, el("span", { text: type }), el("span", { text: `· ${count(readings.length)}` })), scroll(label, grid));
  sort(one);
  return one;
}

function sortBy(one, by) {
  one.sort = { by, isDown: one.sort.by === by ? !one.sort.isDown : false };
  sort(one);
  fit(one, true);
}

function sort(one) {
  const { by, isDown } = one.sort;
  const readings = one.keys.map((key) => state.readings.get(key)).filter(Boolean);
  const of = {
    sensor: undefined,
    age: (reading) => -time(reading.recorded_timestamp),
    motion: (reading) => ({ true: 1, false: 0 })[reading.motion_detected],
  };
  one.keys = order(readings, by in of ? of[by] : (reading) => valueOf(reading, by), isDown).map(keyOf);
  for (const [name, cell] of one.heads) {
    if (name === by) cell.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
}

/** Puts the rows into a table that are on the screen, with room for the others above and below. */
function fit(one, isNew = false) {
  const { length } = one.keys;
  let [first, last] = [0, length];
  if (length > MOST_ROWS) {
    const view = $("locations").getBoundingClientRect();
    const { top } = one.body.getBoundingClientRect();
    const [above, below] = [Math.max(view.top, 0), Math.min(view.bottom, innerHeight)];
    // An even number of rows is left out, so that stripes and steps of the scroll bar stay.
    first = Math.min(Math.max(0, Math.floor((above - top) / ROW) - 20), length);
    last = Math.max(first, Math.min(length, Math.ceil((below - top) / ROW) + 20));
    // A few more or fewer make no difference.
    const [from, to] = one.range ?? [-1, -1];
    const isNear = (a, b) => Math.abs(a - b) < 10;
    if (!isNew && one.shown === one.keys.length && isNear(first, from) && isNear(last, to) && first > 0 === from > 0 && last < length === to < length) return;
  }
  one.range = [first, last];
  one.shown = length;
  const wanted = one.keys.slice(first, last);
  const rows = new Map();
  wanted.forEach((key, index) => {
    const row = one.rows.get(key) ?? newRow(key, one);
    row.node.setAttribute("aria-rowindex", String(first + index + 2));
    rows.set(key, row);
  });
  one.rows = rows;
  const spacer = (count) => {
    if (!count) return [];
    const cell = el("td", { colspan: String(one.heads.size) });
    cell.style.height = `${count * ROW}px`;
    return [el("tr", { class: "spacer", "aria-hidden": "true" }, cell)];
  };
  const focused = document.activeElement;
  one.body.replaceChildren(...spacer(first), ...[...rows.values()].map((row) => row.node), ...spacer(length - last));
  if (focused && focused !== document.activeElement && one.body.contains(focused)) focused.focus({ preventScroll: true });
}

function newRow(key, one) {
  const reading = state.readings.get(key);
  const { iot_sensor_id: id, sensor_name: name } = reading;
  const cells = new Map(one.names.map((metric) => [metric, el("td", { class: "n" })]));
  const motion = one.hasMotion ? el("td") : null;
  const seen = el("td", { class: "n" });
  const beside = el("button", { type: "button", class: "beside", onclick: (event) => {
    event.stopPropagation();
    toggleBeside(id, state.readings.get(key) ?? reading);
  } });
  const node = el("tr", { class: "row", "data-sensor": id }, el("td", {}, el("span", { class: "sensor" }, sensorButton(id, name), beside)), seen, ...cells.values(), ...(motion ? [motion] : []));
  node.addEventListener("click", () => show(id, state.readings.get(key) ?? reading));
  const row = { node, cells, motion, seen, beside, id, name: name ?? id };
  fill(row, reading, false);
  mark(row);
  return row;
}

function mark(row) {
  const isChosen = row.id === state.chosen?.id;
  const isBeside = state.others.includes(row.id);
  row.node.classList.toggle("chosen", isChosen);
  row.node.classList.toggle("is-beside", isBeside);
  row.beside.hidden = isChosen;
  row.beside.textContent = isBeside ? "−" : "+";
  row.beside.title = isBeside ? "Remove from the chart" : "Draw in the same chart";
  row.beside.setAttribute("aria-label", `${isBeside ? "Remove from the chart" : "Draw in the same chart"}: ${row.name}`);
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
  const text = age(time(reading.recorded_timestamp));
  if (row.seen.textContent !== text) row.seen.textContent = text;
  row.seen.title = FULL.format(time(reading.recorded_timestamp));
  row.seen.classList.toggle("is-bad", isSilent(reading));
}

const tables = () => opened().flatMap(([, shown]) => shown.tables);

export function showAges() {
  for (const one of tables()) for (const [key, row] of one.rows) if (state.readings.has(key)) showAge(row, state.readings.get(key));
}

/** Readings that have come while the page is open. */
export function takeReadings(changes) {
  const stale = new Set();
  for (const reading of changes.readings) {
    const shown = locations.get(reading.location);
    if (!shown?.isOpen) continue;
    const key = keyOf(reading);
    const one = shown.tables.find((known) => known.type === reading.device_type);
    const isListed = one && state.readings.has(key);
    state.readings.set(key, reading);
    if (!isListed || metricsOf([reading], MOST_OTHERS).some((name) => !one.heads.has(name))) stale.add(reading.location);
    else if (one.rows.has(key)) fill(one.rows.get(key), reading, true);
  }
  for (const name of stale) loadLocationSoon(name);
  if (changes.truncated) for (const [name] of opened()) loadLocationSoon(name);
  resort();
}

/** Rows stay where they are for a moment, so that a click meets the row that was meant. */
const resort = throttled(5000, () => {
  for (const one of tables()) {
    if (one.sort.by === "sensor" || one.body.matches(":hover")) continue;
    sort(one);
    fit(one, true);
  }
});

const soon = new Map();
function loadLocationSoon(name) {
  if (!soon.has(name)) soon.set(name, throttled(2000, () => isOpen(name) && loadLocation(name)));
  soon.get(name)();
}

let isWaiting = false;
function fitSoon() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    for (const one of tables()) fit(one);
  });
}

on("chosen", () => {
  for (const one of tables()) one.rows.forEach(mark);
});

/* ---- the search ---- */

const MOST_FOUND = 100;

/** Locations whose name or type is meant stay; sensors are found by the server, also in locations that are closed. */
function filter() {
  const wanted = $("find").value.trim().toLowerCase();
  const has = (text) => text.toLowerCase().includes(wanted);
  let met = 0;
  for (const [name, shown] of locations) {
    const isMeant = wanted === "" || has(name) || shown.types.some(has);
    shown.section.hidden = !isMeant;
    met += isMeant;
  }
  return met;
}

const findSoon = throttled(200, () => findSensors());

export async function findSensors() {
  const wanted = $("find").value.trim();
  const met = filter();
  fitSoon();
  if (!wanted) {
    $("found").replaceChildren();
    return say("");
  }
  try {
    const answer = await ask("find", "/api/sensors", { find: wanted, limit: MOST_FOUND });
    if (!answer || $("find").value.trim() !== wanted) return undefined;
    const rows = answer.readings.map((reading) => {
      const age = el("td", { class: "n" });
      showAge({ seen: age }, reading);
      return sensorRow(reading, () => show(reading.iot_sensor_id, reading), age, el("td", { class: "wrap", text: reading.device_type }), el("td", { class: "wrap", text: reading.location }));
    });
    const parts = [];
    if (rows.length) parts.push(table("Sensors found", [["sensor"], ["age", "n"], ["type"], ["location"]], rows));
    if (answer.sensors > rows.length) parts.push(remark(`${count(answer.sensors - rows.length)} more: type more of the name`));
    if (!rows.length && !met) parts.push(empty(`Nothing found for “${wanted}”.`));
    $("found").replaceChildren(...parts);
    return say(rows.length ? plural(answer.sensors, "sensor") : met ? plural(met, "location") : "nothing found");
  } catch (error) {
    $("found").replaceChildren(empty(error.message, "warn"));
    return undefined;
  }
}

const say = (text) => ($("found-count").textContent = text);

/** Chooses the sensor of this id or this whole name, else the only one that is found. */
async function choose(event) {
  const wanted = $("find").value.trim();
  if (event.key !== "Enter" || !wanted) return;
  if (UUID.test(wanted)) return show(wanted.toLowerCase());
  const exact = await ask("exact", `/api/sensors/${encodeURIComponent(wanted)}`).catch(() => null);
  const reading = exact?.readings[0];
  if (reading) return show(reading.iot_sensor_id, reading);
  await findSensors();
  const rows = $("found").querySelectorAll("tr.row");
  if (rows.length === 1) rows[0].click();
}

export function begin() {
  $("find").addEventListener("input", () => (filter(), findSoon()));
  $("find").addEventListener("keydown", choose);
  $("locations").addEventListener("scroll", fitSoon, { passive: true });
  addEventListener("scroll", fitSoon, { passive: true });
  addEventListener("resize", fitSoon);
}
