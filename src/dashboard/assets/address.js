// What is shown, as the part of the address behind #. No DOM here: tests/dashboard/address.test.mjs runs it as it is.

import { RANGES, UUID } from "./state.js";

/** Sensors, and metrics, that can be drawn at once. */
export const MOST = 6;

/** Reads an address; what is nonsense is left out. `isMetric` says whether a name is one. */
export function read(hash, isMetric) {
  const parameters = new URLSearchParams(hash.replace(/^#/, ""));
  const list = (name) => [...new Set((parameters.get(name) ?? "").split(","))].filter((part) => part !== "").slice(0, MOST);
  const [first = null] = list("sensor");
  const [sensor = null, ...others] = list("sensor").map((id) => id.toLowerCase()).filter((id) => UUID.test(id));
  const [metric = null, ...more] = list("metric").filter(isMetric);
  const last = parameters.get("last") ?? "";
  const [from, to] = [parameters.get("from"), parameters.get("to")].map((text) => Date.parse(text ?? ""));
  return {
    sensor,
    // What stands in the place of an id: perhaps a name.
    name: sensor === null ? first : null,
    others,
    metric,
    more,
    last: Object.hasOwn(RANGES, last) ? last : null,
    zoom: from < to ? { from, to } : null,
    compare: parameters.get("compare") === "before",
    isWall: parameters.get("view") === "wall",
  };
}

/** The address of what is shown. */
export function write({ chosen, others, metric, more, last, zoom, compare }, isWall) {
  const parameters = new URLSearchParams();
  if (chosen) parameters.set("sensor", [chosen.id, ...others].join(","));
  if (metric) parameters.set("metric", [metric, ...more].join(","));
  parameters.set("last", last);
  if (zoom) {
    parameters.set("from", new Date(zoom.from).toISOString());
    parameters.set("to", new Date(zoom.to).toISOString());
  }
  if (compare) parameters.set("compare", "before");
  if (isWall) parameters.set("view", "wall");
  // Commas and colons need no escape behind #.
  return `#${parameters}`.replaceAll("%2C", ",").replaceAll("%3A", ":");
}
