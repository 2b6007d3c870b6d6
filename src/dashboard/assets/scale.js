// What can be computed without a page: numbers and times as text, ticks of axes (uPlot's own miss midnight after a
// clock change, and label 0.0001 as 0), and what a tile says. No DOM here, so that tests/dashboard/scale.test.mjs runs it as it is.

export const COLUMNS = ["temperature", "humidity", "pressure", "light_level", "gas_concentration"];

const SECOND = 1e3;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/* ---- numbers ---- */

/** Units that names of other metrics end with. */
const ENDINGS = {
  percent: "%", pct: "%", celsius: "°C", fahrenheit: "°F", kelvin: "K", volts: "V", volt: "V", amps: "A", amperes: "A", watts: "W", kw: "kW", kwh: "kWh", wh: "Wh", hz: "Hz", rpm: "rpm",
  ppm: "ppm", ppb: "ppb", dbm: "dBm", db: "dB", lux: "lux", bar: "bar", pa: "Pa", hpa: "hPa", kpa: "kPa", mm: "mm", cm: "cm", meters: "m", seconds: "s", ms: "ms", bytes: "B",
};

/** The unit that the name of a metric itself says; empty where it says none. */
export function unitInName(name) {
  const ending = name.toLowerCase().split(/[_.\-\s]/).at(-1);
  return Object.hasOwn(ENDINGS, ending) ? ENDINGS[ending] : "";
}

/** A value by its size; what is below 1 keeps three significant digits, and counters keep all digits before the point. */
export function figure(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-3)) return value.toExponential(2);
  if (size < 1) return value.toLocaleString("en", { maximumSignificantDigits: 3 });
  return value.toLocaleString("en", { maximumFractionDigits: size < 1000 ? 2 : size < 1e7 ? 1 : 0 });
}

/** A value with the digits that distinguish it from one that is `step` greater. */
export function label(value, step) {
  const decimals = -Math.floor(Math.log10(step) + 1e-9);
  if (decimals <= 9 && Math.abs(value) < 1e9) {
    const digits = Math.max(0, decimals);
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }
  const power = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  return value.toExponential(Math.min(Math.max(power + decimals, 0), 15));
}

/** Round values in [low, high], at most `most` + 1 of them, as [value, label]. */
export function valueTicks(low, high, most) {
  const rough = (high - low) / most;
  if (!(rough > 0) || !Number.isFinite(rough)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999999);
  const ticks = [];
  // A bound that is a tick itself stays one, although 0.0006 / 0.0001 is 5.999….
  for (let index = Math.ceil(low / step - 1e-9); index <= Math.floor(high / step + 1e-9) && ticks.length <= 2 * most; index += 1) {
    // `+ 0` turns -0 into 0.
    const value = index * step + 0;
    ticks.push([value, label(value, step)]);
  }
  return ticks;
}

/* ---- times ---- */

const CLOCK_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500]
  .concat([1, 2, 5, 10, 15, 30].map((count) => count * SECOND))
  .concat([1, 2, 5, 10, 15, 30].map((count) => count * MINUTE))
  .concat([1, 2, 3, 6, 12].map((count) => count * HOUR));
const DAY_STEPS = [1, 2, 7, 14, 28, 91, 182, 364, 728, 3640, 36400].map((count) => count * DAY);

/** The milliseconds that the browser's zone adds to UTC at a moment. */
export const zoneOffset = (at) => -new Date(at).getTimezoneOffset() * MINUTE;

/** The moments at which a clock shows `wall`: none where it is skipped, both where it comes twice. */
function instants(wall, step, offset) {
  const before = offset(wall - DAY);
  const after = offset(wall + DAY);
  const found = [...new Set([before, after].filter((shift) => offset(wall - shift) === shift).map((shift) => wall - shift))].sort((a, b) => a - b);
  // Both, so that the ticks are as far apart as everywhere else.
  if (step <= HOUR) return found;
  // A day may begin after midnight, where midnight is skipped.
  if (!found.length && step >= DAY) return [wall - before];
  return found.slice(0, 1);
}

/**
 * Round instants of a zone in [from, to], at most `most` + 1 of them, as [moment, label]. The date stands in a label where
 * it changes, and in the first.
 */
export function timeTicks(from, to, most, offset = zoneOffset) {
  const steps = [...CLOCK_STEPS, ...DAY_STEPS];
  const step = steps.find((candidate) => (to - from) / candidate <= most) ?? steps.at(-1);
  const shifts = [offset(from), offset(to)];
  // Weeks begin on Monday: 1970-01-05 is one.
  const first = step >= 7 * DAY ? 4 * DAY : 0;
  const start = Math.floor((from + Math.min(...shifts) - first) / step);
  const end = Math.ceil((to + Math.max(...shifts) - first) / step);
  const moments = new Set();
  for (let index = start; index <= end; index += 1) for (const at of instants(first + index * step, step, offset)) moments.add(at);
  const ticks = [];
  let lastDay = null;
  let lastShift = null;
  for (const at of [...moments].filter((at) => at >= from && at <= to).sort((a, b) => a - b)) {
    const shift = offset(at);
    const wall = new Date(at + shift);
    const day = wall.toISOString().slice(0, 10);
    const parts = [];
    const [, month, date] = day.split("-");
    const named = `${Number(date)} ${["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1]}`;
    if (step >= DAY) {
      parts.push(named);
      if (lastDay !== null && lastDay.slice(0, 4) !== day.slice(0, 4)) parts.push(day.slice(0, 4));
    } else {
      if (day !== lastDay) parts.push(named);
      const digits = step % MINUTE === 0 ? [11, 16] : step % SECOND === 0 ? [11, 19] : [11, 23];
      parts.push(wall.toISOString().slice(...digits));
      if (lastShift !== null && lastShift !== shift) parts.push(offsetText(shift));
    }
    ticks.push([at, parts.join(" ")]);
    lastDay = day;
    lastShift = shift;
  }
  return ticks;
}

/** An offset from UTC as `+05:30`. */
function offsetText(shift) {
  const minutes = Math.abs(shift) / MINUTE;
  const two = (number) => String(number).padStart(2, "0");
  return `${shift < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** A length of time in milliseconds, in its two largest units. */
export function span(length) {
  const seconds = Math.floor(length / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Clocks differ a little: less than this is not ahead. */
const AHEAD = 5 * SECOND;
export const isAhead = (at, now) => at - now > AHEAD;

/** How long ago: `3 min`, or `2 h 0 min ahead` for a moment that is yet to come. */
export const age = (at, now = Date.now()) => (isAhead(at, now) ? `${span(at - now)} ahead` : span(Math.max(0, now - at)));

/** The same in a sentence: `3 min ago`. */
export const ago = (at, now = Date.now()) => (isAhead(at, now) ? age(at, now) : `${age(at, now)} ago`);

/* ---- what is shown ---- */

/**
 * The tile of the newest reading: its text, its note and its kind. A reading from a clock that is ahead is not the newest:
 * its age says nothing about when readings last arrived. `trouble` is why the figures may be old, or null.
 */
export function newestTile(groups, now, trouble, clock) {
  const moments = (name) => groups.map((group) => Date.parse(group[name] ?? "")).filter(Number.isFinite);
  const newest = Math.max(...moments("recorded_timestamp"));
  const ahead = Math.max(...moments("ahead_timestamp"));
  const isKnown = Number.isFinite(newest);
  const parts = [];
  if (isKnown) parts.push(`${isAhead(newest, now) ? "" : "ago, "}at ${clock(newest)}`);
  else if (Number.isFinite(ahead)) parts.push("no reading from a clock that is right");
  else parts.push("nothing is stored yet");
  if (Number.isFinite(ahead)) parts.push(`a clock is ${span(ahead - now)} ahead`);
  if (trouble) parts.push(trouble);
  const text = isKnown ? age(newest, now) : Number.isFinite(ahead) ? age(ahead, now) : "none";
  return { text, note: parts.join("; "), kind: trouble ? "bad" : Number.isFinite(ahead) ? "warn" : undefined };
}

/** The names of a reading's metrics, the columns first. */
export function metricsOf(readings, most = Infinity) {
  const names = COLUMNS.filter((name) => readings.some((reading) => reading[name] !== undefined));
  const others = new Set(readings.flatMap((reading) => Object.keys(reading.other_metrics ?? {})));
  return [...names, ...[...others].sort().slice(0, most)];
}

/** The metrics of a sensor once another reading of it has come: none is ever lost, and new ones are added. */
export function withReading(known, reading) {
  const all = new Set([...known, ...metricsOf([reading])]);
  const others = [...all].filter((name) => !COLUMNS.includes(name)).sort();
  return [...COLUMNS.filter((name) => all.has(name)), ...others];
}

/** The metric to show: the chosen one as long as the sensor has it. */
export const keptMetric = (chosen, names) => (names.includes(chosen) ? chosen : (names[0] ?? null));

/**
 * Readings in the order of a value, without one last; without `of` by name, those without a name by id after them.
 */
export function order(readings, of, isDown = false) {
  const sign = isDown ? -1 : 1;
  const names = new Intl.Collator("en", { numeric: true });
  const byName = (a, b) => {
    const [left, right] = [a.sensor_name, b.sensor_name];
    if ((left === undefined) !== (right === undefined)) return left === undefined ? 1 : -1;
    if (left !== undefined && left !== right) return sign * names.compare(left, right);
    return sign * (a.iot_sensor_id < b.iot_sensor_id ? -1 : Number(a.iot_sensor_id > b.iot_sensor_id));
  };
  if (!of) return [...readings].sort(byName);
  return readings
    .map((reading) => [of(reading), reading])
    .sort(([a, first], [b, second]) => {
      if ((a === undefined) !== (b === undefined)) return a === undefined ? 1 : -1;
      return a === b ? byName(first, second) : sign * (a - b);
    })
    .map(([, reading]) => reading);
}
