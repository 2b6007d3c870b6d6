// The page's calculations, without a browser: node --test tests/dashboard/scale.test.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

// The module as the page loads it, under a name that node takes for a module.
const path = fileURLToPath(new URL("../../src/dashboard/assets/scale.js", import.meta.url));
const scale = await import(`data:text/javascript,${encodeURIComponent(readFileSync(path, "utf8"))}`);

const HOUR = 3600e3;
const at = Date.parse;
const labels = (from, to, most, offset) => scale.timeTicks(at(from), at(to), most, offset).map(([, label]) => label);
const utc = () => 0;
/** 2026: summer time from 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC. */
const berlin = (moment) => (moment >= at("2026-03-29T01:00Z") && moment < at("2026-10-25T01:00Z") ? 2 : 1) * HOUR;

test("ticks are round instants with the date where it changes", () => {
  assert.deepEqual(labels("2026-11-23T22:13:07Z", "2026-11-24T01:50Z", 8, utc), ["23 Nov 22:30", "23:00", "23:30", "24 Nov 00:00", "00:30", "01:00", "01:30"]);
  assert.deepEqual(labels("2026-12-28T00:00Z", "2027-01-02T12:00Z", 8, utc), ["28 Dec", "29 Dec", "30 Dec", "31 Dec", "1 Jan 2027", "2 Jan"]);
  assert.deepEqual(labels("2026-11-23T00:00:00.0Z", "2026-11-23T00:00:00.004Z", 4, utc)[1], "00:00:00.001");
});

test("across a clock change ticks are evenly spaced and carry the time that a clock shows", () => {
  for (const [from, to, expected] of [
    ["2026-10-24T22:00Z", "2026-10-25T04:00Z", ["25 Oct 00:00", "01:00", "02:00", "02:00 +01:00", "03:00", "04:00", "05:00"]],
    ["2026-03-28T23:00Z", "2026-03-29T05:00Z", ["29 Mar 00:00", "01:00", "03:00 +02:00", "04:00", "05:00", "06:00", "07:00"]],
  ]) {
    assert.deepEqual(labels(from, to, 8, berlin), expected);
    const ticks = scale.timeTicks(at(from), at(to), 8, berlin);
    assert.ok(ticks.slice(1).every(([moment], index) => moment - ticks[index][0] === HOUR));
  }
  // Longer steps: midnights and noons, before the change and after it.
  assert.deepEqual(labels("2026-10-24T00:00Z", "2026-10-26T23:30Z", 6, berlin), ["24 Oct 12:00", "25 Oct 00:00", "12:00 +01:00", "26 Oct 00:00", "12:00", "27 Oct 00:00"]);
  assert.deepEqual(labels("2026-10-23T00:00Z", "2026-10-28T00:00Z", 8, berlin), ["24 Oct", "25 Oct", "26 Oct", "27 Oct", "28 Oct"]);
});

test("labels of small values differ, and digits follow the step", () => {
  const of = (low, high, most = 6) => scale.valueTicks(low, high, most).map(([, label]) => label);
  assert.deepEqual(of(0.0001, 0.0006), ["0.0001", "0.0002", "0.0003", "0.0004", "0.0005", "0.0006"]);
  assert.deepEqual(of(-1, 20.2), ["0", "5", "10", "15", "20"]);
  assert.deepEqual(of(21.31, 21.36, 5), ["21.31", "21.32", "21.33", "21.34", "21.35", "21.36"]);
  for (let power = -15; power < 30; power += 1) {
    for (const low of [0, 0.3, 1013, -40]) {
      const ticks = of(low * 10 ** power, (low + 1.7) * 10 ** power);
      assert.equal(new Set(ticks).size, ticks.length, `${ticks}`);
      assert.ok(ticks.length >= 3, `${low} ${power}: ${ticks}`);
    }
  }
  assert.equal(scale.figure(0.0012345), "0.00123");
  // A counter's digits are what people read off a meter.
  assert.equal(scale.figure(123466294.4), "123,466,294");
  assert.notEqual(scale.figure(1.0e15), scale.figure(1.0023e15));
  assert.notEqual(scale.figure(0.0011), scale.figure(0.0014));
});

test("a reading from a clock that is ahead is not the newest, and is called ahead", () => {
  const now = at("2026-11-25T12:00Z");
  const clock = (moment) => new Date(moment).toISOString().slice(11, 19);
  const groups = [{ recorded_timestamp: "2026-11-25T11:57:00Z" }, { ahead_timestamp: "2026-11-25T14:00:00Z" }];
  const tile = (list, trouble = null) => scale.newestTile(list, now, trouble, clock);
  assert.deepEqual(tile(groups), { text: "3 min", note: "ago, at 11:57:00; a clock is 2 h 0 min ahead", kind: "warn" });
  assert.equal(tile([groups[1]]).text, "2 h 0 min ahead");
  assert.equal(tile([]).text, "none");
  const down = tile(groups, "Cassandra does not answer");
  assert.equal(down.kind, "bad");
  assert.match(down.note, /Cassandra does not answer/);
  assert.equal(scale.ago(now + 2 * HOUR, now), "2 h 0 min ahead");
  assert.equal(scale.ago(now - 59e3, now), "59 s ago");
});

test("a reading without a metric takes neither the metric from the selector nor the choice", () => {
  const known = scale.withReading([], { temperature: 20, humidity: 40, other_metrics: { rpm: 9 } });
  assert.deepEqual(known, ["temperature", "humidity", "rpm"]);
  const later = scale.withReading(known, { temperature: 21, other_metrics: { charge: 3 } });
  assert.deepEqual(later, ["temperature", "humidity", "charge", "rpm"]);
  assert.equal(scale.keptMetric("humidity", later), "humidity");
  assert.equal(scale.keptMetric("pressure", later), "temperature");
  assert.equal(scale.keptMetric("pressure", []), null);
});
