// The page's address and the columns of its chart, without a browser.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

// The modules as the page loads them, in a folder that says what they are.
const folder = mkdtempSync(join(tmpdir(), "iotctl-modules-"));
after(() => rmSync(folder, { recursive: true }));
for (const name of ["address", "shape", "state", "scale"]) cpSync(fileURLToPath(new URL(`../../src/dashboard/assets/${name}.js`, import.meta.url)), join(folder, `${name}.js`));
writeFileSync(join(folder, "package.json"), '{"type":"module"}');
const load = (name) => import(pathToFileURL(join(folder, `${name}.js`)).href);
const [address, shape, scale, known] = await Promise.all(["address", "shape", "scale", "state"].map(load));

const A = "00000000-0000-4000-8000-00000000000a";
const B = "00000000-0000-4000-8000-00000000000b";
const isMetric = (name) => ["temperature", "gas_concentration"].includes(name);

test("what is shown is read back from its address", () => {
  const zoom = { from: Date.parse("2026-11-26T10:00Z"), to: Date.parse("2026-11-26T11:30Z") };
  const shown = { chosen: { id: A }, others: [B], metric: "temperature", more: ["gas_concentration"], last: "7d", zoom, compare: true };
  const hash = address.write(shown, true);
  assert.match(hash, /^#sensor=[^&]*&metric=temperature,gas_concentration&last=7d&from=2026-11-26T10:00:00\.000Z&/);
  const found = address.read(hash, isMetric);
  assert.deepEqual(found, { sensor: A, name: null, others: [B], metric: "temperature", more: ["gas_concentration"], last: "7d", zoom, compare: true, isWall: true });
});

test("nonsense in an address is left out", () => {
  const found = address.read("#sensor=javascript:alert(1)&last=__proto__&metric=<b>&from=2026-11-26&to=2026-11-25&compare=x&view=y", isMetric);
  assert.deepEqual(found, { sensor: null, name: "javascript:alert(1)", others: [], metric: null, more: [], last: null, zoom: null, compare: false, isWall: false });
  const many = address.read(`#sensor=${Array.from({ length: 50 }, (_, n) => A.slice(0, -2) + (n + 10)).join(",")}`, isMetric);
  assert.equal(many.others.length, address.MOST - 1);
});

test("all panels of a view have one range, which waits for the newest reading of the sensor", () => {
  const { state, view } = known;
  const now = Date.parse("2026-11-27T12:00Z");
  const reading = { recorded_timestamp: "2026-11-20T12:00:00.000Z" };
  assert.equal(view({ id: A, metrics: null }, now), null);
  assert.equal(view({ id: A, metrics: null, reading }, now).shown.to, "2026-11-20T12:00:00.001Z");
  assert.deepEqual(view({ id: A, metrics: ["temperature"], reading }, now).whole, { from: "2026-11-19T12:00:00.000Z", to: "2026-11-20T12:00:00.001Z" });
  assert.deepEqual(view({ id: A, metrics: [] }, now), { shown: { last: "24h" }, whole: { last: "24h" } });
  const isNew = { recorded_timestamp: "2026-11-27T11:59:00.000Z" };
  assert.deepEqual(view({ id: A, metrics: null, reading: isNew }, now).whole, { last: "24h" });
  state.zoom = { from: 0, to: 1000 };
  assert.deepEqual(view({ id: A, metrics: null, reading: isNew }, now), { shown: { from: "1970-01-01T00:00:00.000Z", to: "1970-01-01T00:00:01.000Z" }, whole: { last: "24h" } });
  state.zoom = null;
});

test("a line breaks where nothing was measured", () => {
  const points = [0, 1, 2, 3, 60, 61].map((at) => ({ at: at * 60e3, value: at }));
  const widest = shape.widestPause(points, 61 * 60e3, 600);
  assert.equal(widest, 6 * 60e3);
  const [moments, values] = shape.withPauses(points, ["value"], widest);
  assert.deepEqual(values, [0, 1, 2, 3, null, 60, 61]);
  assert.ok(moments.every((at, index) => index === 0 || at > moments[index - 1]));
  assert.equal(shape.nearest(moments, values, 30 * 60e3), 3);
  assert.equal(shape.nearest(moments, values, 40 * 60e3), 5);
  assert.equal(shape.nearest([], [], 1), null);
});

test("CSV has what is drawn, and no name becomes a formula", () => {
  const line = { id: A, name: '=cmd("x")', metric: "temperature", unit: "°C", series: { points: [{ at: 0, value: 21.5 }] } };
  const band = { id: B, metric: "rpm", unit: "", series: { points: [], columns: [{ at: 1000, low: 1, mean: 2, high: 3 }] } };
  assert.equal(shape.csv([line, band]), `time,iot_sensor_id,sensor_name,metric,unit,value,lowest,highest\r\n1970-01-01T00:00:00.000Z,${A},"'=cmd(""x"")",temperature,°C,21.5,,\r\n1970-01-01T00:00:01.000Z,${B},,rpm,,2,1,3\r\n`);
});

test("names come before ids, numbers in names count, and what has no value is last", () => {
  const reading = (iot_sensor_id, sensor_name, temperature) => ({ iot_sensor_id, sensor_name, temperature });
  const list = [reading("b", undefined, 3), reading("c", "Kiln 10", undefined), reading("d", "Kiln 9", 1), reading("a", undefined, 2)];
  const ids = (of, isDown) => scale.order(list, of, isDown).map((one) => one.iot_sensor_id).join("");
  assert.equal(ids(undefined), "dcab");
  assert.equal(ids((one) => one.temperature), "dabc");
  assert.equal(ids((one) => one.temperature, true), "badc");
});

test("the unit of another metric is what its name ends with, and none is made up", () => {
  for (const [name, unit] of [["battery_percent", "%"], ["rotor_rpm", "rpm"], ["co2_ppm", "ppm"], ["grid.kWh", "kWh"], ["rssi", ""], ["constructor", ""]]) assert.equal(scale.unitInName(name), unit, name);
});
