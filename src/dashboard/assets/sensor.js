// The chosen sensor: what is asked for, and what its charts show.

import { ask, cancel, inTurns } from "./api.js";
import { MOST } from "./address.js";
import { clear, draw as drawChart } from "./chart.js";
import { $, SHORT, el, iso, keepInView, measured, plural, say, throttled, time, title, titleOf, titled } from "./page.js";
import { age, ago, keptMetric, unitInName, withReading } from "./scale.js";
import { series as shaped, widestPause, withPauses } from "./shape.js";
import { emit, isSilent, on, state, view } from "./state.js";

/** By sensor, metric and whether it is the time before: the answers, or the reason why there is none. */
const answers = new Map();
let anomalies = { of: null, asked: null, list: [] };
let forecast = { of: null, points: [] };
let states = [];
/** From when to when the states are, once they are known. */
let statesSpan = null;
/** Names of the sensors beside the chosen one, by id. */
const names = new Map();

/** What is drawn, for the export: lines with the answers behind them. */
export let drawn = [];

const keyOf = (id, metric, isBefore = false) => `${id} ${metric}${isBefore ? " before" : ""}`;
/** The view as text; another one has to be loaded. */
const viewed = () => JSON.stringify(view(state.chosen));
/** A motion detector or a door contact has states alone; until its metrics are known a sensor may have any. */
const hasNumbers = () => state.chosen?.metrics?.length !== 0;
const metrics = () => (hasNumbers() ? [state.metric, ...state.more].filter(Boolean) : []);
const main = () => answers.get(keyOf(state.chosen?.id, state.metric));

/* ---- choosing ---- */

export async function choose(id, reading, { keepsZoom = false } = {}) {
  const isSame = state.chosen?.id === id;
  state.chosen = { id, reading, metrics: null };
  if (!keepsZoom) state.zoom = null;
  state.others = state.others.filter((other) => other !== id);
  if (!isSame) forget();
  emit("chosen");
  say($("chart-title"), reading ? titleOf(reading) : `Sensor ${id.slice(0, 8)}`);
  say($("chart-note"), id);
  showParts();
  // What its list has is enough to begin with.
  const isKnown = state.metric !== null && (reading === undefined || withReading([], reading).includes(state.metric));
  if (isKnown) loadSeries();
  try {
    // Asked for the metrics that it has ever measured: its newest reading may lack some.
    const answer = await ask("sensor", `/api/sensors/${encodeURIComponent(id)}`);
    if (!answer || state.chosen?.id !== id) return;
    const before = viewed();
    state.chosen.reading = answer.readings[0];
    state.chosen.metrics = answer.metrics.map((metric) => metric.name);
    state.chosen.units = new Map(answer.metrics.map((metric) => [metric.name, metric.unit]));
    for (const { name } of answer.metrics) if (!state.units.has(name)) state.units.set(name, "");
    const metric = state.metric;
    showMetrics(false);
    showChosen();
    emit("chosen");
    // A sensor that is silent is shown up to its last reading, which is known now.
    if (!isKnown || metric !== state.metric || before !== viewed() || !hasNumbers()) loadSeries();
  } catch (error) {
    if (state.chosen?.id !== id) return;
    cancel("series", "forecast", "states");
    answers.clear();
    state.chosen.error = error.message;
    say($("chart-note"), error.message, "warn");
    say($("anomalies-note"), "\u00a0");
    draw();
  }
}

/** Chooses a sensor for a person, who then sees its chart. */
export function show(id, reading) {
  state.remark = null;
  choose(id, reading);
  emit("address", true);
  keepInView($("chart-panel"));
}

/** Draws a sensor beside the chosen one, or no longer. */
export function toggleBeside(id, reading) {
  if (id === state.chosen?.id) return;
  const isThere = state.others.includes(id);
  state.others = isThere ? state.others.filter((other) => other !== id) : [...state.others, id].slice(0, MOST - 1);
  if (reading) names.set(id, reading);
  emit("chosen");
  emit("address", true);
  showParts();
  loadSeries();
}

/** Clears what belongs to another sensor or metric: its line, its statistics, its anomalies and its forecast. */
function forget() {
  cancel("series", "anomalies", "forecast", "states");
  answers.clear();
  states = [];
  statesSpan = null;
  drawn = [];
  anomalies = { of: null, asked: null, list: [] };
  forecast = { of: null, points: [] };
  say($("stats"), "\u00a0");
  $("anomalies").replaceChildren();
  clear($("chart"), state.chosen ? "Loading …" : "Choose a sensor to see its values.");
}

export function showChosen() {
  const { id, reading } = state.chosen;
  if (!reading) return;
  say($("chart-title"), titleOf(reading));
  const seen = time(reading.recorded_timestamp);
  const silent = isSilent(reading) ? `silent for ${age(seen)}` : `last reading ${ago(seen)}`;
  const parts = [state.remark, id, silent].filter(Boolean).join(" · ");
  say($("chart-note"), parts, isSilent(reading) ? "bad" : state.remark ? "warn" : undefined);
}

/* ---- metrics, and what is drawn beside ---- */

/** Fills the selector. Where the chosen metric is not there, another one is chosen, and its line is loaded if `reload`. */
export function showMetrics(reload = true) {
  if (state.chosen && !state.chosen.metrics) return;
  const select = $("metric");
  const all = state.chosen ? state.chosen.metrics : [...state.units.keys()];
  const before = state.metric;
  // Of a sensor with states alone the metric stays, for the next sensor.
  if (all.length) state.metric = keptMetric(before, all);
  $("metric").closest("label").hidden = all.length === 0;
  state.more = state.more.filter((name) => all.includes(name) && name !== state.metric);
  const known = [...select.options].map((option) => option.textContent);
  const texts = all.map(titled);
  if (known.join("\n") !== texts.join("\n")) select.replaceChildren(...all.map((name) => el("option", { value: name, text: titled(name) })));
  if (state.metric) select.value = state.metric;
  const others = all.filter((name) => name !== state.metric);
  const boxes = $("more-metrics");
  if (boxes.dataset.names !== others.join("\n")) {
    boxes.dataset.names = others.join("\n");
    boxes.replaceChildren(...others.map((name) => el("label", {}, el("input", { type: "checkbox", value: name, onchange: chooseMore }), titled(name))));
  }
  for (const box of boxes.querySelectorAll("input")) box.checked = state.more.includes(box.value);
  $("more-none").hidden = others.length > 0;
  $("compare").checked = state.compare;
  if (before === state.metric) return;
  emit("metric");
  if (before && reload) changed(true);
}

function chooseMore() {
  state.more = [...$("more-metrics").querySelectorAll("input:checked")].map((box) => box.value).slice(0, MOST - 1);
  emit("address", true);
  loadSeries();
}

/** The sensors beside the chosen one, each with a button that takes it away. */
function showParts() {
  $("parts").hidden = state.others.length === 0;
  const chip = (id, index) => {
    const reading = names.get(id);
    const name = reading?.sensor_name ?? id.slice(0, 8);
    const remove = el("button", { type: "button", text: "×", "aria-label": `Remove ${name} from the chart`, onclick: () => toggleBeside(id) });
    return el("li", { class: `hue-${index + 2}` }, el("i", { "aria-hidden": "true" }), name, reading ? el("small", { text: `${reading.device_type} at ${reading.location}` }) : null, remove);
  };
  $("parts").replaceChildren(...state.others.map(chip));
}

/** After another metric was chosen (`isOther`), or another range. */
export function changed(isOther = false) {
  if (isOther) forget();
  showReset();
  if (!state.chosen) return;
  anomalies.asked = null;
  loadSeries();
}

/* ---- zooming ---- */

const SHORTEST = 1000;

export function zoomTo(from, to) {
  if (!(to - from >= SHORTEST)) return draw();
  state.zoom = { from: Math.floor(from), to: Math.ceil(to) };
  emit("address", true);
  showReset();
  return loadSeries();
}

export function resetZoom() {
  if (!state.zoom) return draw();
  state.zoom = null;
  emit("address", true);
  showReset();
  return loadSeries();
}

export function showReset() {
  $("reset").hidden = !state.zoom;
  if (state.zoom) $("reset").title = `${SHORT.format(state.zoom.from)} to ${SHORT.format(state.zoom.to)}`;
  emit("zoom");
}

/* ---- loading ---- */

let round = 0;
let wholeAt = 0;
/** The round of the whole load that is under way. */
let whole = 0;
/** How often all is asked for while readings come, in milliseconds; the chosen line is newer. */
const WHOLE = 15e3;

/** Asks for the chosen line first, then for what is beside it; that less often while it `isFollowing` new readings. */
export async function loadSeries(isFollowing = false) {
  const { chosen, others, metric } = state;
  // A whole load that is under way has what follows too.
  if (!chosen || (!metric && hasNumbers()) || (isFollowing && whole === round && round > 0)) return;
  const seen = view(chosen);
  // `choose` loads it as soon as the newest reading is known.
  if (!seen) return;
  round += 1;
  if (!hasNumbers()) {
    cancel("series", "forecast", "anomalies");
    say($("anomalies-note"), "\u00a0");
    await loadStates(seen.shown);
    $("chart").removeAttribute("aria-busy");
    return;
  }
  const mine = round;
  if (!isFollowing) whole = mine;
  const span = seen.shown;
  const columns = Math.min(2000, Math.max(50, Math.floor($("chart").clientWidth - 80)));
  const load = (id, name, given, isBefore) => async () => {
    const key = keyOf(id, name, isBefore);
    try {
      const answer = await ask(`series ${key}`, "/api/series", { sensor: id, metric: name, columns, ...given });
      if (!answer || mine !== round || answer.metric !== name) return;
      answers.set(key, shaped(answer));
    } catch (error) {
      if (mine === round) answers.set(key, { error: error.message });
    }
    drawSoon();
  };
  $("chart").setAttribute("aria-busy", "true");
  await load(chosen.id, metric, span, false)();
  const found = main();
  if (mine !== round || !found) {
    if (whole === mine) whole = 0;
    return;
  }
  $("chart").removeAttribute("aria-busy");
  // Drawn before the others are asked for.
  draw();
  if (isFollowing && Date.now() - wholeAt < WHOLE) return;
  wholeAt = Date.now();
  whole = mine;
  const tasks = metrics().flatMap((name) => [chosen.id, ...others].map((id) => [id, name])).slice(1).map(([id, name]) => load(id, name, span, false));
  if (state.compare && !found.error) {
    const shift = found.to - found.from;
    const before = { from: iso(found.from - shift), to: iso(found.to - shift) };
    tasks.push(...metrics().map((name) => load(chosen.id, name, before, true)));
  }
  tasks.push(loadForecast, () => loadStates(span), () => loadAnomalies(seen.whole));
  await inTurns(tasks, 2);
  if (whole === mine) whole = 0;
}

/** Its steps are hours, so once in ten minutes is enough. Without a forecast, as for a new sensor, there is no band. */
async function loadForecast() {
  const { chosen, metric } = state;
  const of = `${chosen?.id} ${metric} ${Math.floor(Date.now() / 600e3)}`;
  if (!chosen || forecast.of === of) return;
  forecast = { of, points: [] };
  const found = await ask("forecast", "/api/forecast", { sensor: chosen.id, metric }).catch(() => null);
  if (forecast.of !== of || !found) return;
  forecast.points = found.points.map((point) => ({ ...point, at: time(point.time) }));
  drawSoon();
}

async function loadStates(span) {
  const { chosen } = state;
  const found = await ask("states", "/api/states", { sensor: chosen?.id, ...span }).catch(() => null);
  if (!found || found.iot_sensor_id !== state.chosen?.id) return;
  statesSpan = { from: time(found.from), to: time(found.to) };
  states = found.states.map(({ name, spans }) => ({
    name,
    spans: spans.map((part) => ({ ...part, from: time(part.from), to: time(part.to) })),
    values: [...new Set(spans.map((part) => part.value))].sort(),
  }));
  drawSoon();
}

const follow = throttled(3000, () => !state.zoom && loadSeries(true));

/** A new reading of the chosen sensor. */
export function take(reading) {
  state.chosen.reading = reading;
  if (state.chosen.metrics) state.chosen.metrics = withReading(state.chosen.metrics, reading);
  showMetrics();
  showChosen();
  follow();
}

/* ---- drawing ---- */

const drawSoon = throttled(50, () => draw());

export function draw() {
  const found = hasNumbers() ? main() : null;
  const parent = $("chart");
  if (!found || found.error || !found.points.length) {
    showStats();
    drawn = [];
    const error = found?.error ?? state.chosen?.error;
    if (error) return clear(parent, error, "warn");
    const isKnown = found || (state.chosen && !hasNumbers() && statesSpan);
    // Motion and states are there, even where no number was measured.
    if (isKnown && states.length) {
      drawChart(parent, [{ states }], found ?? statesSpan);
      return emit("drawn");
    }
    const nothing = "No values in this range of time.";
    return clear(parent, isKnown ? nothing : state.chosen ? "Loading …" : "Choose a sensor to see its values.");
  }
  showStats();
  const { from } = found;
  // The forecast takes at most a quarter of the chart.
  const farthest = found.to + (found.to - from) / 3;
  const expected = state.zoom ? [] : forecast.points.filter((point) => point.at <= farthest);
  const to = Math.max(found.to, ...expected.map((point) => point.at));
  drawn = [];
  const panes = metrics().map((metric) => pane(metric, metric === state.metric ? expected : [])).filter((one) => one.lines.length);
  if (states.length) panes.push({ states });
  drawChart(parent, panes, { from, to });
  return emit("drawn");
}

function pane(metric, expected) {
  const { chosen, others } = state;
  const found = answers.get(keyOf(chosen.id, metric));
  const lines = [];
  const add = (name, answer, role, hue, shift = 0, id = chosen.id) => {
    if (!answer?.points?.length) return;
    const columns = Math.max(answer.points.length / 2, 50);
    // Of a long range, where columns hold many values, the mean and what lies around it.
    const isBand = answer.columns && role === "main";
    const list = answer.columns ?? answer.points;
    const widest = widestPause(list, answer.to - answer.from, columns);
    const shape = answer.columns ? (isBand ? ["high", "mean", "low"] : ["mean"]) : ["value"];
    lines.push({ name, role, hue, table: withPauses(list, shape, widest, shift) });
    drawn.push({ id, name: names.get(id)?.sensor_name ?? (id === chosen.id ? chosen.reading?.sensor_name : undefined), metric, unit: answer.unit ?? unitInName(metric), series: answer });
  };
  add(chosen.reading?.sensor_name ?? chosen.id.slice(0, 8), found, "main", 0);
  const before = state.compare ? answers.get(keyOf(chosen.id, metric, true)) : null;
  if (before && found && !before.error) add("before", before, "before", "soft", found.to - before.to);
  others.forEach((id, index) => add(names.get(id)?.sensor_name ?? id.slice(0, 8), answers.get(keyOf(id, metric)), "other", index + 1, 0, id));
  if (expected.length > 1) lines.push({ name: "forecast", role: "forecast", hue: "expected", table: withPauses(expected, ["high", "value", "low"], Infinity) });
  return { metric, lines, marks: found ? marks(metric, found) : [], spans: spans(metric), lowest: found?.lowest, highest: found?.highest };
}

/** The range's extremes where they are above or below the others, and anomalies. */
function marks(metric, { points, lowest, highest }) {
  const list = anomalies.of === `${state.chosen.id} ${metric}` ? anomalies.list.map((found) => ({ at: time(found.worst), value: found.value, kind: "anomaly" })) : [];
  if (lowest === highest || state.others.length) return list;
  const extreme = (value, kind) => points.filter((point) => point.value === value).slice(0, 1).map(({ at }) => ({ at, value, kind }));
  return [...extreme(highest, "highest"), ...extreme(lowest, "lowest"), ...list];
}

/** From when to when the sensor's alerts on the metric fired. */
function spans(metric) {
  const own = (state.alerts?.alerts ?? []).filter((alert) => alert.iot_sensor_id === state.chosen.id && alert.metric === metric);
  const ends = new Map(own.filter((alert) => alert.state === "resolved").map((alert) => [`${alert.rule} ${alert.since}`, time(alert.recorded_timestamp)]));
  return own
    .filter((alert) => alert.state === "firing")
    .map((alert) => ({ from: time(alert.since), to: ends.get(`${alert.rule} ${alert.since}`) ?? Date.now(), kind: alert.severity === "critical" ? "bad" : "warn" }));
}

function showStats() {
  const found = hasNumbers() ? main() : null;
  const name = found?.metric;
  const isEmpty = found && !found.error && !found.points.length;
  const text = isEmpty && states.length
    ? `no values of ${title(name)} in this range of time`
    : found?.values
    ? `lowest ${measured(found.lowest, name)} · mean ${measured(found.mean, name)} · highest ${measured(found.highest, name)} · ${plural(found.values, "value")}`
    : "\u00a0";
  say($("stats"), text);
  const isBand = Boolean(found?.columns);
  const failed = [...answers].filter(([, answer]) => answer.error && answer !== found).map(([, answer]) => answer.error);
  const notes = [isBand && "line: mean; band: lowest to highest", state.compare && "dotted: the same length of time before", failed.length && `not all is shown: ${failed[0]}`];
  say($("chart-legend"), notes.filter(Boolean).join(" · "), failed.length ? "warn" : undefined);
}

/* ---- anomalies ---- */

async function loadAnomalies(span) {
  if (!state.chosen || !state.metric) return;
  const { chosen: { id }, metric } = state;
  // The search holds all values of the range: once a minute is enough.
  const asked = `${id} ${metric} ${JSON.stringify(span)} ${Math.floor(Date.now() / 60e3)}`;
  if (anomalies.asked === asked) return;
  anomalies.asked = asked;
  try {
    const answer = await ask("anomalies", "/api/anomalies", { sensor: id, metric, ...span });
    if (!answer || id !== state.chosen?.id || metric !== state.metric) return;
    anomalies = { of: `${id} ${metric}`, asked, list: answer.anomalies };
    emit("anomalies", answer, metric);
    drawSoon();
  } catch (error) {
    anomalies = { of: null, asked, list: [] };
    say($("anomalies-note"), error.message, "warn");
    $("anomalies").replaceChildren();
  }
}

on("alerts", () => main() && drawSoon());
export const headline = () => [$("chart-title").textContent, metrics().map(title).join(", ") || "states"].join(" · ");
