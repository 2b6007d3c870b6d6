// What is drawn on a chart beside its lines: alerts as bands, extremes and anomalies as marks, states as strips.

import { title, visible } from "./page.js";

/** Colours of the page's style, as the canvas needs them. */
export const INK = {
  name: "",
  font: "sans-serif",
  hues: [],
  read(node) {
    const style = getComputedStyle(node);
    const of = (name) => style.getPropertyValue(name).trim();
    for (const name of ["line", "soft", "panel", "ink", "bad", "warn", "good"]) this[name] = of(`--${name}`);
    this.hues = [1, 2, 3, 4, 5, 6].map((index) => of(`--hue-${index}`));
    this.expected = of("--band-line");
    this.font = style.fontFamily;
    this.name = `${this.panel} ${this.ink}`;
  },
  of(hue) {
    return typeof hue === "number" ? this.hues[hue % this.hues.length] : (this[hue] ?? this.soft);
  },
};

/** A colour of the style with less of it: #rrggbb as rgba(). */
export function paint(colour, alpha) {
  const [red, green, blue] = [1, 3, 5].map((start) => Number.parseInt(colour.slice(start, start + 2), 16));
  return Number.isNaN(red + green + blue) ? colour : `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

/** Draws within the plot's area only. */
function inside(plot, work) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  work(ctx, bbox, devicePixelRatio || 1);
  ctx.restore();
}

/** From when to when an alert fired. */
export function drawSpans(plot) {
  inside(plot, (ctx, bbox, ratio) => {
    for (const { from, to, kind } of plot.pane.spans ?? []) {
      const [left, right] = [from, to].map((at) => plot.valToPos(at, "x", true));
      ctx.fillStyle = paint(INK.of(kind), 0.1);
      ctx.fillRect(left, bbox.top, Math.max(right - left, ratio), bbox.height);
      ctx.fillStyle = INK.of(kind);
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2 * ratio), 3 * ratio);
    }
  });
}

/** Anomalies as circles, extremes as triangles that point to the value. */
export function drawMarks(plot) {
  inside(plot, (ctx, bbox, ratio) => {
    for (const { at, value, kind } of plot.pane.marks ?? []) {
      const [x, y] = [plot.valToPos(at, "x", true), plot.valToPos(value, "y", true)];
      ctx.beginPath();
      ctx.lineWidth = 2 * ratio;
      if (kind === "anomaly") {
        ctx.arc(x, y, 4.5 * ratio, 0, 2 * Math.PI);
        ctx.fillStyle = INK.panel;
        ctx.strokeStyle = INK.bad;
        ctx.fill();
        ctx.stroke();
        continue;
      }
      const side = kind === "highest" ? -1 : 1;
      ctx.moveTo(x, y + side * 3 * ratio);
      ctx.lineTo(x - 5 * ratio, y + side * 11 * ratio);
      ctx.lineTo(x + 5 * ratio, y + side * 11 * ratio);
      ctx.fillStyle = INK.ink;
      ctx.fill();
    }
  });
}

/** A strip for each state; each of its values has a colour of its own. */
export function drawStates(plot) {
  const rows = plot.pane.states;
  inside(plot, (ctx, bbox, ratio) => {
    const height = bbox.height / rows.length;
    ctx.font = `${11.5 * ratio}px ${INK.font}`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    rows.forEach(({ spans, values }, index) => {
      const top = bbox.top + index * height + 3 * ratio;
      for (const part of spans) {
        const [left, right] = [part.from, part.to].map((at) => Math.min(Math.max(plot.valToPos(at, "x", true), bbox.left), bbox.left + bbox.width));
        const isCalm = part.value === "no";
        ctx.fillStyle = isCalm ? paint(INK.of("soft"), 0.16) : paint(INK.of(values.indexOf(part.value)), 0.55);
        ctx.fillRect(left, top, Math.max(right - left - 1, ratio), height - 6 * ratio);
        const text = visible(title(part.value));
        if (ctx.measureText(text).width + 10 * ratio > right - left) continue;
        ctx.fillStyle = INK.ink;
        ctx.fillText(text, left + 5 * ratio, top + (height - 6 * ratio) / 2);
      }
    });
  });
}
