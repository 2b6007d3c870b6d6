// Elements and texts. Names come from sensors: text goes into the page by textContent only, never as markup.

import { figure } from "./scale.js";
import { unit, unitOfAll } from "./state.js";

export const $ = (id) => document.getElementById(id);

// Characters that reorder or hide text (the same as in src/output/text.rs).
const HIDDEN = /[\p{Cc}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** The text with such characters as visible escapes: names come from whoever may send. */
export const visible = (text) => String(text).replace(HIDDEN, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = visible(value);
    else if (name === "title" || name === "aria-label") node.setAttribute(name, visible(value));
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  const parts = children.filter((child) => child !== null && child !== undefined);
  node.append(...parts.map((part) => (typeof part === "string" ? visible(part) : part)));
  return node;
}

export function say(node, text, kind) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
  node.classList.remove("is-bad", "is-warn", "is-good");
  if (kind) node.classList.add(`is-${kind}`);
}

/* ---- texts ---- */

export const time = (text) => Date.parse(text);
export const iso = (at) => new Date(at).toISOString();
export const count = (number) => number.toLocaleString("en");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
export const title = (name) => name.replaceAll("_", " ");
const withUnit = (name, unit) => (unit ? `${title(name)} (${unit})` : title(name));
export const titled = (name) => withUnit(name, unit(name));
/** In lists over all sensors. */
export const titledOfAll = (name) => withUnit(name, unitOfAll(name));
export const measured = (value, name) => (unit(name) ? `${figure(value)} ${unit(name)}` : figure(value));
/** A sensor in a few words. */
export const titleOf = ({ sensor_name: name, device_type: type, location }) => (name ? `${name} · ${type} at ${location}` : `${type} at ${location}`);

const dateFormat = (options) => new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...options });
export const FULL = dateFormat({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const SHORT = dateFormat({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
export const SECOND = dateFormat({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
/** With weekday, year and zone: nothing to guess. */
export const EXACT = dateFormat({ weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "shortOffset" });

export function length(seconds) {
  if (seconds % 86400 === 0) return plural(seconds / 86400, "day");
  if (seconds % 3600 === 0) return plural(seconds / 3600, "hour");
  return seconds % 60 === 0 ? plural(seconds / 60, "minute") : plural(seconds, "second");
}

/* ---- parts of the page ---- */

export const empty = (text, kind) => el("p", { class: kind ? `empty is-${kind}` : "empty", text });
export const remark = (text, kind) => el("p", { class: kind ? `small is-${kind}` : "small", text });

export function table(label, headings, rows) {
  const head = el("tr", {}, ...headings.map(([text, kind]) => el("th", { scope: "col", class: kind, text })));
  return scroll(label, el("table", { "aria-label": label }, el("thead", {}, head), el("tbody", {}, ...rows)));
}

/** Can be scrolled by keyboard too. */
export const scroll = (label, content) => el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, content);

/** A sensor by its name; the start of its id where it has none. */
export function sensorButton(id, name) {
  const text = name ? `${name}, ${id}` : id;
  return el("button", { type: "button", class: name ? "link named" : "link", text: name ?? id.slice(0, 8), title: text, "aria-label": `Sensor ${name ?? id}` });
}

export function sensorRow({ iot_sensor_id: id, sensor_name: name }, act, ...cells) {
  return el("tr", { class: "row", "data-sensor": id, onclick: act }, el("td", {}, sensorButton(id, name)), ...cells);
}

/** A group of buttons of which one is pressed. */
export function buttons(parent, names, chosen, act) {
  const press = () => {
    for (const [index, button] of [...parent.children].entries()) button.setAttribute("aria-pressed", String(names[index] === chosen()));
  };
  const button = (name) => el("button", { type: "button", text: name, onclick: () => (act(name), press()) });
  parent.replaceChildren(...names.map(button));
  press();
}

/** At most once per `pause`, the last call included. */
export function throttled(pause, work) {
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

/** Scrolls so that the node's start is on the screen, if it is not. */
export function keepInView(node) {
  const { top } = node.getBoundingClientRect();
  if (top >= -1 && top < innerHeight * 0.5) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  node.scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "start" });
}
