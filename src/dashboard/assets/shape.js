// From answers of the API to columns for the chart. No DOM here: tests/dashboard/shape.test.mjs runs it as it is.

/** Times of the answer as numbers. */
export function series(answer) {
  const at = (point) => ({ ...point, at: Date.parse(point.time) });
  return { ...answer, from: Date.parse(answer.from), to: Date.parse(answer.to), points: answer.points.map(at), columns: answer.columns?.map(at) };
}

/** The pause that breaks a line: much longer than usual, and wide enough to be seen. */
export function widestPause(points, span, columns) {
  const pauses = points.slice(1).map((point, index) => point.at - points[index].at).filter((pause) => pause > 0).sort((a, b) => a - b);
  const usual = pauses[Math.floor(pauses.length / 2)] ?? 0;
  return Math.max(6 * usual, (3 * span) / columns);
}

/** One list of moments and one of values for each name, with nothing (null) in the middle of each pause. */
export function withPauses(points, names, widest, shift = 0) {
  const table = [[], ...names.map(() => [])];
  let before = null;
  for (const point of points) {
    const at = point.at + shift;
    if (before !== null && at - before > widest) {
      table[0].push((at + before) / 2);
      for (const column of table.slice(1)) column.push(null);
    }
    // Two values of one moment: the later replaces none, the chart has one place for each moment.
    table[0].push(at === before ? at + 0.01 : at);
    names.forEach((name, index) => table[index + 1].push(point[name]));
    before = at;
  }
  return table;
}

/** The index of the value nearest to `at` that is there; null where there is none. `moments` is sorted. */
export function nearest(moments, values, at) {
  let low = 0;
  let high = moments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (moments[middle] < at) low = middle + 1;
    else high = middle;
  }
  const isThere = (index) => values[index] !== null && values[index] !== undefined;
  let left = low - 1;
  while (left >= 0 && !isThere(left)) left -= 1;
  let right = low;
  while (right < moments.length && !isThere(right)) right += 1;
  if (left < 0) return right < moments.length ? right : null;
  if (right >= moments.length) return left;
  return at - moments[left] <= moments[right] - at ? left : right;
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
/** A sheet must not run a name as a formula. */
const cell = (value) => (typeof value === "string" ? quoted(/^[=+\-@\t\r]/.test(value) ? `'${value}` : value) : String(value ?? ""));

/** What is drawn, as CSV: each value, or of each column its lowest, mean and highest. */
export function csv(lines) {
  const rows = ["time,iot_sensor_id,sensor_name,metric,unit,value,lowest,highest"];
  for (const { id, name, metric, unit, series } of lines) {
    const head = [id, name ?? "", metric, unit].map(cell).join(",");
    for (const { at, value, mean, low, high } of series.columns ?? series.points) {
      rows.push(`${new Date(at).toISOString()},${head},${[value ?? mean, low, high].map(cell).join(",")}`);
    }
  }
  return `${rows.join("\r\n")}\r\n`;
}
