// The charts of the chosen sensor, by uPlot: one pane per metric, one for states, with a cursor that they share.
/* global uPlot */

import { EXACT, FULL, el, empty, measured, title, titled } from "./page.js";
import { timeTicks, valueTicks } from "./scale.js";
import { nearest } from "./shape.js";
import { INK, drawMarks, drawSpans, drawStates, paint } from "./marks.js";
import { onTouch } from "./touch.js";

/** The plots, top to bottom. */
export const plots = [];

let signature = "";
let isDragging = false; // panes are not made anew while the user drags over one
let later = null;
let readAt = null; // the moment that the user reads
let acts = { zoom: () => {}, reset: () => {} };

/** What the user does: `zoom(from, to)`, `reset()`. */
export const whenUsed = (given) => (acts = given);

/** Shows a sentence instead of charts. */
export function clear(parent, text, kind) {
  plots.splice(0).forEach((plot) => plot.destroy());
  signature = "";
  readAt = null;
  isDragging = false;
  later = null;
  parent.replaceChildren(empty(text, kind));
}

/**
 * Draws the panes: `{metric, lines, marks, spans}` each, or `{states}`; `from` and `to` in milliseconds are the same for all.
 * A line is `{name, table, role, hue}`, the table as `withPauses` makes it with one column ("line") or three ("band").
 */
export function draw(parent, panes, span) {
  if (isDragging) return (later = () => draw(parent, panes, span));
  INK.read(parent);
  const next = JSON.stringify([parent.clientWidth, INK.name, panes.map((pane) => [pane.metric ?? pane.states.map((row) => row.name), pane.lines?.map((line) => [line.name, line.role, line.table.length])])]);
  const data = panes.map((pane) => (pane.states ? stateData(pane.states, span) : uPlot.join(pane.lines.map((line) => line.table))));
  if (next === signature) {
    plots.forEach((plot, index) => {
      plot.pane = panes[index];
      plot.span = span;
      plot.setData(data[index], true);
    });
  } else {
    const hadFocus = parent.contains(document.activeElement);
    plots.splice(0).forEach((plot) => plot.destroy());
    const box = el("div", { class: "panes", tabindex: "0", role: "application", "aria-roledescription": "chart" });
    box.addEventListener("keydown", keyOnChart);
    parent.replaceChildren(box);
    side = SIDE;
    panes.forEach((pane, index) => plots.push(newPlot(box, pane, data[index], span, panes.length, index === panes.length - 1)));
    signature = next;
    if (hadFocus) box.focus({ preventScroll: true });
  }
  parent.firstElementChild.setAttribute("aria-label", description(panes, span));
  // The value that the user is reading stays.
  if (readAt !== null) readMoment(Math.min(Math.max(readAt, span.from), span.to));
}

function description(panes, { from, to }) {
  const parts = panes.filter((pane) => pane.metric).map(({ metric, lowest, highest }) => (lowest === undefined ? titled(metric) : `${titled(metric)}, lowest ${measured(lowest, metric)}, highest ${measured(highest, metric)}`));
  return `${parts.join("; ") || "States"}. From ${FULL.format(from)} to ${FULL.format(to)}. Arrow keys read values, plus and minus zoom, Escape resets.`;
}

/* ---- one pane ---- */

const HEIGHTS = [0, 300, 210, 170];
const ROW = 26;

function newPlot(box, pane, data, span, panes, isLast) {
  const axisRoom = isLast ? 30 : 8;
  const height = pane.states ? pane.states.length * ROW + axisRoom + 8 : (HEIGHTS[panes] ?? 150) + axisRoom;
  const width = box.clientWidth;
  const grid = { stroke: () => INK.line, width: 1 };
  const axis = { stroke: () => INK.soft, font: `12px ${INK.font}`, grid, ticks: { show: false } };
  const most = (size, each) => Math.max(2, Math.floor(size / each));
  const times = (min, max) => timeTicks(min, max, most(width, 110));
  const values = (min, max) => valueTicks(min, max, most(height, 42));
  const options = {
    width,
    height,
    ms: 1,
    pxAlign: 0,
    padding: [8, EDGE, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: true, range: () => [plot?.span.from ?? span.from, plot?.span.to ?? span.to] },
      y: { range: pane.states ? [0, pane.states.length] : room },
    },
    axes: [
      { ...axis, show: true, size: axisRoom, splits: (_, __, min, max) => times(min, max).map(([at]) => at), values: (self, splits) => (isLast ? fitting(self, splits, named(splits, times(self.scales.x.min, self.scales.x.max))) : splits.map(() => "")) },
      pane.states
        ? { ...axis, grid: { show: false }, size: () => side, splits: () => pane.states.map((_, index) => index + 0.5), values: () => pane.states.map((row) => short(title(row.name))).reverse() }
        : { ...axis, size: (_, labels) => sideFor(labels), splits: (_, __, min, max) => values(min, max).map(([value]) => value), values: (self, splits) => named(splits, values(self.scales.y.min, self.scales.y.max)) },
    ],
    series: [{}, ...(pane.states ? [{ show: true, stroke: "transparent", points: { show: false } }] : pane.lines.flatMap(seriesOf))],
    bands: pane.states ? [] : bandsOf(pane.lines),
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false, dist: 6 },
      sync: { key: "chart", setSeries: false, filters: { pub: (type) => type !== "mousedown" && type !== "mouseup" } },
      dataIdx: (self, index, _, at) => nearest(self.data[0], self.data[index], at),
      points: { show: !pane.states, size: 9, width: 2, stroke: () => INK.panel },
      bind: { dblclick: () => () => (acts.reset(), null) },
    },
    hooks: {
      drawAxes: [(self) => (self.pane.states ? drawStates(self) : drawSpans(self))],
      draw: [(self) => self.pane.states || drawMarks(self)],
      setCursor: [showTip],
      setSelect: [select],
    },
  };
  let plot = null;
  const holder = el("div", { class: "pane" });
  if (!pane.states && panes > 1) holder.append(el("p", { class: "pane-title", text: titled(pane.metric) }));
  box.append(holder);
  plot = new uPlot(options, data, (self, start) => {
    self.pane = pane;
    self.span = span;
    holder.append(self.root);
    start();
  });
  plot.tip = el("div", { class: "tip", role: "status", hidden: true });
  plot.over.append(plot.tip);
  plot.over.addEventListener("mousedown", () => (isDragging = true));
  onTouch(plot, { read: readMoment, pinch, zoom: (from, to) => acts.zoom(from, to) });
  return plot;
}

/** Room for labels of values: the same in all panes, so that moments stand below each other. It grows with the longest label. */
const SIDE = 64;
let side = SIDE;

/** The room of an axis with these labels. Where they need more than was there, the other panes are laid out again. */
function sideFor(labels) {
  const wanted = Math.ceil(Math.max(0, ...(labels ?? []).map((text) => text.length)) * 7.8) + 14;
  if (wanted > side) {
    side = wanted;
    queueMicrotask(() => plots.forEach((plot) => plot.redraw(false, true)));
  }
  return side;
}

/** Room at the right for half a label. */
const EDGE = 24;
const short = (text) => (text.length > 9 ? `${text.slice(0, 8)}…` : text);
const named = (splits, ticks) => splits.map((split) => ticks.find(([at]) => at === split)?.[1] ?? "");

/** Labels that would be cut off at the right edge are left out. */
const fitting = (plot, splits, texts) =>
  texts.map((text, index) => (plot.valToPos(splits[index], "x") + text.length * 3.3 > plot.bbox.width / devicePixelRatio + EDGE ? "" : text));

const room = (_, low, high) => {
  if (low === null || high === null) return [0, 1];
  const around = (high - low) * 0.07 || Math.abs(high) * 0.02 || 1;
  return [low - around, high + around];
};

function seriesOf({ name, role, hue, table }) {
  const line = { label: name, stroke: () => INK.of(hue), width: 1.8, points: { size: 4, fill: () => INK.of(hue) } };
  if (role === "forecast") {
    const edge = { ...line, width: 0, points: { show: false } };
    return [{ ...edge, label: "high" }, { ...line, dash: [6, 4], points: { show: false } }, { ...edge, label: "low" }];
  }
  if (role === "before") return (table.length > 2 ? [1] : [0]).map(() => ({ ...line, width: 1.3, dash: [3, 3] }));
  if (table.length === 2) return [line];
  const edge = { ...line, width: 0.6, points: { show: false } };
  return [{ ...edge, label: "highest" }, { ...line, points: { show: false } }, { ...edge, label: "lowest" }];
}

function bandsOf(lines) {
  const bands = [];
  let first = 1;
  for (const { hue, role, table } of lines) {
    if (table.length === 4) bands.push({ series: [first, first + 2], fill: () => paint(INK.of(hue), role === "forecast" ? 0.18 : 0.22) });
    first += table.length - 1;
  }
  return bands;
}

/** The pane of states has a value at each change, so that the cursor has something to read. */
function stateData(rows, { from, to }) {
  const moments = [...new Set([from, to, ...rows.flatMap((row) => row.spans.flatMap((part) => [part.from, part.to]))])].sort((a, b) => a - b);
  return [moments, moments.map(() => 0)];
}

/* ---- reading ---- */

function showTip(plot) {
  const { left } = plot.cursor;
  const { tip } = plot;
  if (!tip) return;
  if (!(left >= 0)) {
    tip.hidden = true;
    if (plot === plots[0]) readAt = null;
    return;
  }
  const at = plot.posToVal(left, "x");
  if (plot === plots[0]) readAt = at;
  const rows = plot.pane.states ? statesAt(plot.pane.states, at) : valuesAt(plot, at);
  tip.hidden = rows.length === 0;
  if (tip.hidden) return;
  const main = rows.find((row) => row.at !== undefined)?.at ?? at;
  tip.replaceChildren(...rows.map(tipRow), el("span", { class: "when", text: EXACT.format(main) }));
  const width = tip.offsetWidth;
  tip.style.left = `${left + width + 18 > plot.over.clientWidth ? Math.max(0, left - width - 12) : left + 12}px`;
}

const tipRow = ({ hue, name, text, note }, _, all) => {
  const dot = el("i", { "aria-hidden": "true" });
  dot.style.background = hue === undefined ? "transparent" : INK.of(hue);
  return el("strong", {}, dot, text, note || all.length > 1 ? el("small", { text: [name, note].filter(Boolean).join(" · ") }) : null);
};

/** What each line has at a moment; a forecast has nothing where the line has a value, and the other way round. */
function valuesAt(plot, at) {
  const { lines, metric } = plot.pane;
  const rows = [];
  let first = 1;
  for (const { name, role, hue, table } of lines) {
    const width = table.length - 1;
    const middle = width === 3 ? first + 1 : first;
    const index = nearest(plot.data[0], plot.data[middle], at);
    first += width;
    const [begins, ends] = [table[0][0], table[0].at(-1)];
    const slack = (plot.span.to - plot.span.from) / 40;
    if (index === null || at < begins - slack || at > ends + slack) continue;
    const around = width === 3 ? `${measured(plot.data[middle + 1][index], metric)} to ${measured(plot.data[middle - 1][index], metric)}` : "";
    const note = role === "forecast" ? `95 %: ${around}` : width === 3 ? `mean; ${around}` : "";
    rows.push({ name, hue, at: plot.data[0][index], text: measured(plot.data[middle][index], metric), note });
  }
  const forecast = rows.findIndex((row) => row.name === "forecast");
  return rows.length > 1 && forecast >= 0 && Math.abs(rows[0].at - at) <= Math.abs(rows[forecast].at - at) ? rows.filter((_, index) => index !== forecast) : rows;
}

const statesAt = (rows, at) =>
  rows.flatMap(({ name, spans }) => spans.filter((part) => part.from <= at && at < part.to).map((part) => ({ text: `${title(name)}: ${part.value}` })));

/** Puts the cursor of all panes at a moment. */
export function readMoment(at) {
  for (const plot of plots) plot.setCursor({ left: plot.valToPos(at, "x"), top: plot.over.clientHeight / 2 }, true, false);
}

function hide() {
  for (const plot of plots) plot.setCursor({ left: -10, top: -10 }, true, false);
}

/* ---- zooming ---- */

function endDrag() {
  if (!isDragging) return;
  isDragging = false;
  const work = later;
  later = null;
  work?.();
}
// After uPlot's own, which ends the selection.
document.addEventListener("mouseup", () => setTimeout(endDrag));

function select(plot) {
  const { left, width } = plot.select;
  if (width < 6) return;
  const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  isDragging = false;
  later = null;
  acts.zoom(from, to);
}

/** While two fingers move: nothing is asked for until they are lifted. */
function pinch(from, to) {
  for (const plot of plots) {
    plot.span = { ...plot.span, from, to };
    plot.setScale("x", { min: from, max: to });
  }
}

function keyOnChart(event) {
  const [plot] = plots;
  if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
  const { from, to } = plot.span;
  const moments = (plot.pane.lines?.[0].table ?? plot.data)[0];
  const here = readAt === null ? moments.length - 1 : nearest(moments, moments, readAt);
  const step = event.shiftKey ? 20 : 1;
  const read = (index) => readMoment(moments[Math.min(Math.max(index, 0), moments.length - 1)]);
  const scale = (factor) => {
    const middle = readAt ?? (from + to) / 2;
    const half = ((to - from) * factor) / 2;
    acts.zoom(middle - half, Math.min(middle + half, Date.now()), factor > 1);
  };
  const keys = {
    ArrowLeft: () => read(readAt === null ? here : here - step),
    ArrowRight: () => read(here + step),
    Home: () => read(0),
    End: () => read(moments.length - 1),
    "+": () => scale(0.5),
    "=": () => scale(0.5),
    "-": () => scale(2),
    Escape: () => (hide(), acts.reset()),
    0: () => acts.reset(),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

/* ---- as a picture ---- */

/** The panes below each other on one canvas, under `heading`. */
export function picture(heading) {
  const ratio = devicePixelRatio || 1;
  const top = 34 * ratio;
  const canvases = plots.map((plot) => plot.ctx.canvas);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(...canvases.map((part) => part.width));
  canvas.height = top + canvases.reduce((sum, part) => sum + part.height + 22 * ratio, 0);
  const context = canvas.getContext("2d");
  context.fillStyle = INK.panel;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = INK.ink;
  context.font = `600 ${15 * ratio}px ${INK.font}`;
  context.fillText(heading, 12 * ratio, 22 * ratio);
  context.font = `${12 * ratio}px ${INK.font}`;
  context.fillStyle = INK.soft;
  let y = top;
  plots.forEach((plot, index) => {
    context.fillText(plot.pane.metric ? titled(plot.pane.metric) : "states", 12 * ratio, y + 12 * ratio);
    y += 18 * ratio;
    context.drawImage(canvases[index], 0, y);
    y += canvases[index].height + 4 * ratio;
  });
  return canvas;
}
