// What the page knows, and how its modules hear of each other's changes.

import { COLUMNS, unitInName } from "./scale.js";

export const RANGES = { "1h": 3600e3, "6h": 6 * 3600e3, "24h": 24 * 3600e3, "7d": 7 * 86400e3, "30d": 30 * 86400e3 };
export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const state = {
  fleet: null,
  units: new Map(),
  readings: new Map(), // key -> newest reading
  chosen: null, // {id, reading, metrics}: metrics are all that it has ever measured, null until they are known
  others: [], // ids of the sensors drawn beside the chosen one
  metric: null,
  more: [], // metrics with a chart of their own below
  last: "24h",
  zoom: null, // {from, to}
  compare: false, // with the same length of time before
  remark: null, // why the sensor of the address is not shown
  side: "highest",
  me: null, // {login, name, role, csrf} of the API
  alerts: null, // {firing, alerts, …} of the API
};

/* ---- signals ---- */

const listeners = new Map();

/**
 * Calls `act` whenever `name` is emitted: "chosen", "drawn", "zoom", "metric", "listed", "anomalies",
 * "alerts", "address", "me".
 */
export const on = (name, act) => listeners.set(name, [...(listeners.get(name) ?? []), act]);
export const emit = (name, ...details) => (listeners.get(name) ?? []).forEach((act) => act(...details));

/* ---- readings ---- */

export const keyOf = (reading) => JSON.stringify([reading.location, reading.device_type, reading.iot_sensor_id]);
export const valueOf = (reading, name) => (COLUMNS.includes(name) ? reading[name] : reading.other_metrics?.[name]);
/** The unit of a metric of all sensors. */
export const unitOfAll = (name) => state.units.get(name) || unitInName(name);
/** The unit of a metric in the parts that show the chosen sensor: its own one, unless others are shown beside it. */
export const unit = (name) => (state.others.length === 0 && state.chosen?.units?.get(name)) || unitOfAll(name);

export const isSilent = (reading) =>
  Date.now() - Date.parse(reading.recorded_timestamp) > (state.fleet?.silent_after_seconds ?? Infinity) * 1000;

/** The chosen length of time, up to now, or up to `newest` where that is longer ago. */
export function range(newest, now = Date.now()) {
  const length = RANGES[state.last];
  if (newest === undefined || newest > now - length) return { last: state.last };
  return { from: new Date(newest - length).toISOString(), to: new Date(newest + 1).toISOString() };
}

/**
 * What all panels of a view ask for, decided once: `shown` for the chart, which a zoom narrows, and `whole`. null while the newest
 * reading of the sensor is not known, since nobody knows then where the range of a silent one ends.
 */
export function view(chosen, now = Date.now()) {
  if (!chosen.reading && !chosen.metrics) return null;
  const whole = range(chosen.reading ? Date.parse(chosen.reading.recorded_timestamp) : undefined, now);
  const { zoom } = state;
  return { shown: zoom ? { from: new Date(zoom.from).toISOString(), to: new Date(zoom.to).toISOString() } : whole, whole };
}
