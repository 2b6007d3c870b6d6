// The page as a person uses it, in a real browser on real readings. Started by run.sh with the dashboard's address.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url] = process.argv.slice(2);
const { origin } = new URL(url);
const profile = mkdtempSync(join(tmpdir(), "iotctl-dashboard-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  viewport: { width: 1440, height: 1180 },
  colorScheme: "light",
});
const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(20_000);

// What must not happen, at any time.
const faults = [];
page.on("console", (message) => {
  const { url: source } = message.location();
  // Chromium reports each answer that is a problem; the page shows it, and the steps look for it there.
  if (message.text().startsWith("Failed to load resource") && source.startsWith(`${origin}/api/`)) return;
  if (["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()} ${source}`);
});
page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
page.on("request", (request) => new URL(request.url()).origin !== origin && faults.push(`another origin: ${request.url()}`));
page.on("dialog", (dialog) => (faults.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
await page.addInitScript(() => {
  globalThis.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
});

const text = (selector) => page.locator(selector).innerText();
/** What the first chart holds: moments, its lines, what is read. The module is the one that the page itself uses. */
const chart = () =>
  page.evaluate(async () => {
    const { plots } = await import("/chart.js");
    return plots.map((plot) => ({
      metric: plot.pane.metric,
      lines: plot.pane.lines?.map(({ name, role, table }) => ({ name, role, moments: table[0].length, last: table[0].at(-1), table: role === "forecast" ? table : null })),
      states: plot.pane.states?.map(({ name, values }) => [name, values]),
      marks: plot.pane.marks?.map((mark) => mark.kind),
      spans: plot.pane.spans?.length,
      span: plot.span,
      ticks: plot.axes[0]._splits.map((at, index) => [at, plot.axes[0]._values[index]]),
      values: plot.axes[1]._values.filter((text) => text !== ""),
    }));
  });
const drawn = async () => (await chart())[0]?.lines.find((line) => line.role === "main") ?? null;
/** Asked again where the server is busy with the page's own questions. */
const api = async (question) => {
  for (;;) {
    const response = await fetch(origin + question);
    if (response.status !== 503) return response.json();
    await new Promise((done) => setTimeout(done, 1000));
  }
};
const until = async (what, holds, patience = 20_000) => {
  const began = Date.now();
  while (!(await holds())) {
    if (Date.now() - began > patience) throw new Error(`${what}: not within ${patience} ms`);
    await new Promise((done) => setTimeout(done, 100));
  }
  return Date.now() - began;
};
const surface = async () => {
  let box = null;
  await until("the chart's surface", async () => (box = await page.locator(".chart .u-over").first().boundingBox({ timeout: 1000 }).catch(() => null)) !== null);
  return box;
};
/** Readings sent as any client would. */
function replay(readings) {
  const file = join(profile, "readings.ndjson");
  writeFileSync(file, readings.map((reading) => `${JSON.stringify(reading)}\n`).join(""));
  execFileSync(process.env.IOTCTL, ["-q", "simulate", "--replay", file, "--format", "json"]);
}
function send(location, sensor, temperature, more = {}) {
  const reading = { location, device_type: "thermostat", iot_sensor_id: sensor, recorded_timestamp: new Date().toISOString(), temperature, ...more };
  replay([reading]);
}

const steps = {
  async "the fleet is listed by location, with last values"() {
    await page.goto(url);
    await page.locator("#locations .location").first().waitFor();
    const fleet = await api("/api/fleet");
    assert.equal(await text("#tile-sensors"), String(fleet.sensors));
    assert.equal(fleet.sensors, 50);
    const names = await page.locator(".location .name").allInnerTexts();
    assert.deepEqual(names, ["plant-1", "plant-2", "plant-3", "plant-4"]);
    await page.locator(".fleet tr.row").first().waitFor();
    const { readings } = await api("/api/sensors?location=plant-1");
    assert.equal(await page.locator(".fleet tr.row").count(), readings.length);
    await until("live", async () => (await page.locator("#live").getAttribute("data-state")) === "live");
  },

  async "the chart is drawn, hovered, zoomed by dragging and by keys, and reset"() {
    const { readings } = await api("/api/sensors?location=plant-1&device_type=thermostat");
    const sensor = readings.find((reading) => Date.now() - Date.parse(reading.recorded_timestamp) < 600e3);
    await page.locator(`.fleet tr[data-sensor="${sensor.iot_sensor_id}"] button.link`).click();
    await until("its chart", async () => (await text("#chart-note")).includes(sensor.iot_sensor_id) && (await drawn()) !== null);
    await until("values", async () => /[\d,]+ values/.test(await text("#stats")));
    const values = async () => Number((await text("#stats")).match(/([\d,]+) values?/)[1].replaceAll(",", ""));
    const all = await values();
    assert.ok(all > 2000, `${all} values`);
    assert.ok((await drawn()).moments > 500, "the line is short");
    const box = await surface();
    const middle = box.y + box.height / 2;
    await page.mouse.move(box.x + box.width / 2, middle);
    assert.match(await text(".tip"), /°C/);
    const hovered = (await drawn()).last;
    await until("drawn anew", async () => (await drawn()).last !== hovered);
    assert.match(await text(".tip"), /°C/, "what is read is gone when a reading comes");
    const [{ span: before }] = await chart();
    await page.mouse.move(box.x + box.width * 0.4, middle);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, middle, { steps: 5 });
    await page.mouse.up();
    await page.locator("#reset").waitFor();
    await until("its values", async () => (await values()) < all * 0.5);
    const zoomed = await values();
    assert.ok(zoomed > all * 0.1 && zoomed < all * 0.3, `${zoomed} of ${all} values`);
    const [{ span }] = await chart();
    assert.ok(span.to - span.from < (before.to - before.from) * 0.3);
    await page.locator(".chart .u-over").first().dblclick({ position: { x: 300, y: 80 } });
    await page.locator("#reset").waitFor({ state: "hidden" });
    await until("all values", async () => (await values()) > all * 0.99);
    await page.locator(".chart .panes").focus();
    await page.keyboard.press("ArrowLeft");
    assert.match(await text(".tip"), /°C/);
    await page.keyboard.press("+");
    await page.locator("#reset").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("#reset").waitFor({ state: "hidden" });
  },

  async "a silent sensor is listed and marked"() {
    assert.equal(await text("#tile-silent"), "2");
    const rows = page.locator("#silent tr.row");
    await rows.first().waitFor();
    assert.equal(await rows.count(), 2);
    const { list } = await api("/api/silent");
    assert.equal(await rows.first().getAttribute("data-sensor"), list[0].iot_sensor_id);
    await rows.first().click();
    await until("its note", async () => (await text("#chart-note")).includes("silent for"));
    // Its chart ends with its last reading, and is not empty.
    await until("its curve", async () => (await drawn()) !== null);
  },

  async "extremes and the pipeline are those of the API"() {
    const { extremes } = await api("/api/extremes?metric=temperature&side=highest&last=24h&top=8");
    await page.locator("#metric").selectOption("temperature");
    const first = page.locator("#extremes tr.row").first();
    await until("extremes", async () => (await first.getAttribute("data-sensor")) === extremes[0].iot_sensor_id);
    assert.match(await text("#cassandra"), /normal/);
    assert.match(await text("#kafka"), /1 process in group/);
  },

  async "a reading sent while the page is open appears, with no reload"() {
    const { readings } = await api("/api/sensors?location=plant-1&device_type=hygrometer");
    const silent = readings.find((reading) => Date.now() - Date.parse(reading.recorded_timestamp) > 3600e3) ?? readings[0];
    await page.evaluate(() => (globalThis.sameDocument = true));
    const sensor = "00000000-0000-4000-8000-0000000000aa";
    const began = Date.now();
    send("plant-1", sensor, 23.875);
    const row = page.locator(`.fleet tr[data-sensor="${sensor}"]`);
    await until("the reading", async () => (await row.count()) === 1 && (await row.innerText()).includes("23.88"));
    console.log(`  shown ${Date.now() - began} ms after it was sent, the command's start included`);
    send("plant-1", sensor, 24.125);
    await until("its next value", async () => (await row.innerText()).includes("24.13"));
    assert.equal(await page.evaluate(() => globalThis.sameDocument), true);
    assert.ok(silent);
  },

  async "a reading without the chosen metric changes neither the line nor its unit"() {
    const sensor = "00000000-0000-4000-8000-0000000000cc";
    send("plant-1", sensor, 21, { humidity: 40 });
    const row = page.locator(`.fleet tr[data-sensor="${sensor}"]`);
    await row.waitFor();
    await row.locator("button.link").click();
    await until("its metrics", async () => (await page.locator("#metric option").allInnerTexts()).length === 2);
    await page.locator("#metric").selectOption("humidity");
    await until("humidity", async () => (await text("#stats")).includes("%RH"));
    send("plant-1", sensor, 22);
    await until("the reading", async () => (await row.innerText()).includes("22"));
    await new Promise((done) => setTimeout(done, 4000));
    assert.equal(await page.locator("#metric").inputValue(), "humidity");
    assert.match(await text("#stats"), /%RH/);
    assert.doesNotMatch(await text("#stats"), /°C/);
    await page.locator("#metric").selectOption("temperature");
    await until("temperature", async () => (await text("#stats")).includes("°C"));
  },

  async "an unknown sensor is an error, and nothing of the sensor before it stays"() {
    const unknown = "00000000-0000-4000-8000-00000000ffff";
    await page.locator("#find").fill(unknown);
    await page.locator("#find").press("Enter");
    await until("the error", async () => (await text("#chart-note")).includes("no readings of sensor"));
    assert.match(await text("#chart"), /no readings of sensor/);
    assert.equal((await text("#stats")).trim(), "");
    assert.equal(await page.locator("#anomalies tr").count(), 0);
    await page.locator("#find").fill("");
  },

  async "a hostile name is text"() {
    const name = "<img src=x onerror=alert(1)>'\"--";
    send(name, "00000000-0000-4000-8000-0000000000bb", 20);
    await until("the location", async () => (await page.locator(".location .name").allInnerTexts()).includes(name));
    await page.locator(".location", { hasText: "<img" }).locator("button").first().click();
    await page.locator(`.fleet tr[data-sensor$="bb"]`).click();
    await until("its chart", async () => (await text("#chart-title")).includes(name));
    assert.equal(await page.locator("main img").count(), 0);
  },

  async "a forecast band goes on from the last value"() {
    const { readings } = await api("/api/sensors?location=plant-2&device_type=thermostat");
    const sensor = readings[0].iot_sensor_id;
    await page.goto("about:blank");
    await page.goto(`${url}#sensor=${sensor}&metric=temperature&last=24h`);
    let line = null;
    await until("the forecast", async () => (line = (await chart())[0]?.lines.find((one) => one.role === "forecast")) !== undefined);
    const [moments, high, value, low] = line.table;
    assert.ok(moments.length >= 2 && moments.every((_, index) => low[index] <= value[index] && value[index] <= high[index]));
    const { points } = await api(`/api/forecast?sensor=${sensor}&metric=temperature`);
    assert.ok(points.length >= 5, `${points.length} points`);
    assert.ok(points.every(({ low, value, high }) => low <= value && value <= high));
  },

  async "an address leads to its sensor, and nonsense to none"() {
    const { readings } = await api("/api/sensors?location=plant-3");
    await page.goto("about:blank");
    await page.goto(`${url}#sensor=${readings[0].iot_sensor_id}&last=6h`);
    await until("the sensor", async () => (await text("#chart-note")).includes(readings[0].iot_sensor_id));
    assert.equal(await page.locator('#ranges [aria-pressed="true"]').innerText(), "6h");
    await page.goto("about:blank");
    await page.goto(`${url}#sensor=javascript:alert(1)&last=__proto__&metric=<b>`);
    await until("a chart", async () => (await drawn()) !== null);
    await until("the reason", async () => (await text("#chart-note")).includes("no sensor is called javascript:alert(1)"));
  },

  async "a sensor with states alone has strips, and one with large counters and a long name of a metric fits the page"() {
    const at = (minute) => new Date(Date.now() - minute * 60e3).toISOString();
    const door = { location: "plant-1", device_type: "door", iot_sensor_id: "00000000-0000-4000-8000-000000000021" };
    const meter = { location: "plant-1", device_type: "meter", iot_sensor_id: "00000000-0000-4000-8000-000000000022" };
    const long = "a_metric_with_a_name_that_nobody_would_want_to_read_in_full_".repeat(3);
    replay(Array.from({ length: 120 }, (_, minute) => [
      { ...door, recorded_timestamp: at(minute), motion_detected: minute % 40 < 10 },
      { ...meter, recorded_timestamp: at(minute), other_metrics: { total_bytes: 1e15 - minute * 1e9, energy_kwh: 123456789.5 - minute, [long]: 1 } },
    ]).flat());
    for (const one of [door, meter]) await until("the sensor", async () => (await api(`/api/sensors?find=${one.iot_sensor_id}`)).sensors === 1);
    await page.goto("about:blank");
    // The address has a metric that it does not measure.
    await page.goto(`${url}#sensor=${door.iot_sensor_id}&metric=humidity&last=1h`);
    let panes = [];
    await until("its strips", async () => (panes = await chart()).length === 1 && panes[0].states !== undefined);
    assert.deepEqual(panes[0].states, [["motion", ["no", "yes"]]]);
    assert.equal(await page.locator("#metric").isVisible(), false);
    await page.goto(`${url}#sensor=${meter.iot_sensor_id}&metric=energy_kwh&last=1h`);
    await until("the meter", async () => (await chart())[0]?.metric === "energy_kwh");
    assert.match(await text("#stats"), /highest 123,456,790 kWh|highest 123,456,789 kWh/);
    for (const metric of ["energy_kwh", "total_bytes"]) {
      await page.locator("#metric").selectOption(metric);
      await until(metric, async () => (await chart())[0]?.metric === metric);
      const cut = await page.evaluate(async () => {
        const { plots } = await import("/chart.js");
        const [, axis] = plots[0].axes;
        const { ctx } = plots[0];
        ctx.font = axis.font[0];
        return axis._values.filter((label) => ctx.measureText(label).width / devicePixelRatio > plots[0].over.offsetLeft);
      });
      assert.deepEqual(cut, []);
    }
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok((await overflow()) <= 1, `${await overflow()} pixels too wide`);
  },

  async "several metrics and sensors, the time before and states have charts with one cursor"() {
    const machine = (n, minute, more) => ({ location: "plant-1", device_type: "machine", iot_sensor_id: `00000000-0000-4000-8000-00000000001${n}`, recorded_timestamp: new Date(Date.now() - minute * 60e3).toISOString(), ...more });
    replay(Array.from({ length: 300 }, (_, minute) => [1, 2].map((n) => machine(n, minute, { temperature: 20 + n + (minute % 7) / 10, gas_concentration: 400 + minute, motion_detected: minute % 60 < 20, states: { mode: minute % 100 < 50 ? "idle" : "heating" } }))).flat());
    const [first, second] = [1, 2].map((n) => machine(n, 0).iot_sensor_id);
    await until("the machines", async () => (await api(`/api/sensors?find=${second}`)).sensors === 1);
    await page.goto("about:blank");
    await page.goto(`${url}#sensor=${first},${second}&metric=temperature,gas_concentration&last=1h&compare=before`);
    let panes = [];
    await until("its panes", async () => (panes = await chart()).length === 3 && panes[0].lines.length === 3 && panes[1].lines.length === 3);
    assert.deepEqual(panes.map((pane) => pane.metric), ["temperature", "gas_concentration", undefined]);
    assert.deepEqual(panes[0].lines.map((line) => line.role), ["main", "before", "other"]);
    assert.deepEqual(panes[2].states, [["mode", ["heating", "idle"]], ["motion", ["no", "yes"]]]);
    const box = await surface();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    const tips = page.locator(".tip");
    await until("three tips", async () => (await tips.filter({ visible: true }).count()) === 3);
    assert.match(await tips.nth(1).innerText(), /ppm/);
    assert.match(await tips.nth(2).innerText(), /mode: (idle|heating)/);
    // The date says year and zone.
    assert.match(await tips.first().innerText(), /20\d\d.*(UTC|GMT)/);
    const [picture] = await Promise.all([page.waitForEvent("download"), page.locator(".menu summary").first().click().then(() => page.locator("#png").click())]);
    assert.match(picture.suggestedFilename(), /temperature\.png$/);
    assert.equal(readFileSync(await picture.path()).subarray(1, 4).toString(), "PNG");
    const [sheet] = await Promise.all([page.waitForEvent("download"), page.locator("#csv").click()]);
    const rows = readFileSync(await sheet.path(), "utf8").trim().split("\r\n");
    assert.equal(rows[0], "time,iot_sensor_id,sensor_name,metric,unit,value,lowest,highest");
    assert.ok(rows.some((row) => row.includes(second) && row.includes("gas_concentration,ppm,4")), rows[1]);
    await page.keyboard.press("Escape");
  },

  async "zoom, range and comparison are in the address, and Back undoes them"() {
    const at = () => new URL(page.url()).hash;
    await page.locator("#ranges button", { hasText: "6h" }).click();
    await until("six hours", async () => at().includes("last=6h"));
    const box = await surface();
    await page.mouse.move(box.x + box.width * 0.3, box.y + 40);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.5, box.y + 40, { steps: 4 });
    await page.mouse.up();
    await page.locator("#reset").waitFor();
    const zoomed = at();
    assert.match(zoomed, /from=20\d\d-.*&to=20\d\d-/);
    await until("zoomed", async () => (await chart())[0].span.from === Date.parse(new URLSearchParams(zoomed.slice(1)).get("from")));
    await page.goBack();
    await page.locator("#reset").waitFor({ state: "hidden" });
    assert.equal(await page.locator('#ranges [aria-pressed="true"]').innerText(), "6h");
    await page.goForward();
    await page.locator("#reset").waitFor();
    assert.equal(at(), zoomed);
    await page.locator("#custom summary").click();
    const [from, to] = [7, 4].map((hours) => new Date(Date.now() - hours * 3600e3).toISOString().slice(0, 16));
    await page.locator("#from").fill(to);
    await page.locator("#to").fill(from);
    await page.locator("#custom-form button").click();
    assert.match(await text("#custom-note"), /end must be after/);
    await page.locator("#from").fill(from);
    await page.locator("#to").fill(to);
    await page.locator("#custom-form button").click();
    await until("the custom range", async () => Math.abs((await chart())[0]?.span.to - (await chart())[0]?.span.from - 3 * 3600e3) < 2);
  },

  async "the search finds parts of names and ids in closed locations, and says when nothing is found"() {
    const { readings } = await api("/api/sensors?location=plant-4");
    await page.locator("#find").fill(readings[0].iot_sensor_id.slice(3, 15).toUpperCase());
    const row = page.locator(`#found tr[data-sensor="${readings[0].iot_sensor_id}"]`);
    await row.waitFor();
    assert.equal(await text("#found-count"), "1 sensor");
    await page.locator("#find").press("Enter");
    await until("its chart", async () => (await text("#chart-note")).includes(readings[0].iot_sensor_id));
    await page.locator("#find").fill("no such thing");
    await until("nothing", async () => (await text("#found")).includes("Nothing found for “no such thing”"));
    assert.equal(await page.locator(".location:visible").count(), 0);
    await page.locator("#find").fill("");
    await page.locator(".location").first().waitFor();
  },

  async "rows are sorted by a click on the heading"() {
    await page.goto("about:blank");
    await page.goto(url);
    await page.locator(".location", { hasText: "plant-1" }).locator("button").first().click();
    const grid = page.locator(".fleet table", { has: page.locator("th", { hasText: "humidity" }) }).first();
    await grid.waitFor();
    const heading = grid.locator("th", { hasText: "humidity" });
    await heading.locator("button").click();
    assert.equal(await heading.getAttribute("aria-sort"), "ascending");
    const column = await heading.evaluate((cell) => cell.cellIndex + 1);
    const numbers = (await grid.locator(`tbody tr.row td:nth-child(${column})`).allInnerTexts()).map(Number).filter(Number.isFinite);
    assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
  },

  async "alerts have a tile, a list and marks in the chart"() {
    const sensor = "00000000-0000-4000-8000-0000000000dd";
    const fleet = page.locator("#tile-alerts");
    send("plant-1", sensor, 20);
    await until("the sensor", async () => (await api(`/api/sensors?find=${sensor}`)).sensors === 1);
    send("plant-1", sensor, 95);
    await until("the tile", async () => (await fleet.innerText()) === "1", 60_000);
    assert.equal(await text("#tile-alerts-note"), "firing, 1 critical");
    const row = page.locator(`#alerts tr[data-sensor="${sensor}"]`);
    assert.match(await row.innerText(), /critical\s+scalding/);
    await row.click();
    await until("its mark", async () => (await chart())[0]?.spans === 1, 60_000);
    send("plant-1", sensor, 20);
    await until("the end", async () => (await fleet.innerText()) === "0", 60_000);
    assert.match(await row.innerText(), /resolved/);
  },

  async "an operator signs in, acknowledges what fires, and signs out"() {
    const { LOGIN_URL: secured, OPERATOR: operator, VIEWER: viewer } = process.env;
    const sensor = "00000000-0000-4000-8000-0000000000de";
    send("plant-1", sensor, 20, { sensor_name: "boiler" });
    await until("the sensor", async () => (await api(`/api/sensors?find=${sensor}`)).sensors === 1);
    send("plant-1", sensor, 95, { sensor_name: "boiler" });
    const other = await context.newPage();
    const problems = [];
    other.on("pageerror", (error) => problems.push(error.message));
    other.on("request", (request) => request.url().startsWith(secured) || problems.push(request.url()));
    await other.goto(`${secured}/#sensor=${sensor}`);
    await other.waitForURL("**/login*");
    const axe = async () => {
      await other.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
      const { violations } = await other.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id, nodes }) => [id, nodes[0].html]), []);
    };
    await axe();
    if (process.env.SCREENSHOTS) await other.screenshot({ path: join(process.env.SCREENSHOTS, "login.png") });
    const signIn = async (token) => {
      await other.getByLabel("Token").fill(token);
      await other.keyboard.press("Enter");
    };
    await signIn("guess");
    await until("a refusal", async () => /not valid/.test(await other.locator("#note").innerText()));
    // A viewer sees the alert, and no button.
    await signIn(viewer);
    const row = other.locator(`#alerts tr[data-sensor="${sensor}"]`);
    await row.waitFor({ timeout: 60_000 });
    assert.ok(other.url().includes(sensor), "the address came along");
    assert.equal(await other.locator("#account-name").innerText(), "bob, viewer");
    assert.equal(await row.getByRole("button", { name: /^Acknowledge/ }).count(), 0);
    assert.equal(await other.evaluate(() => document.cookie), "", "scripts can read the cookie");
    await other.getByRole("button", { name: "Sign out" }).click();
    await other.waitForURL("**/login*");
    await signIn(operator);
    await row.getByRole("button", { name: /^Acknowledge scalding of boiler/ }).click({ timeout: 60_000 });
    await until("who has seen it", async () => /ada, /.test(await row.innerText()));
    if (process.env.SCREENSHOTS) await other.locator("#alerts-panel").screenshot({ path: join(process.env.SCREENSHOTS, "acknowledged.png") });
    await axe();
    // Without a login, the page shows it and has no buttons.
    const open = page.locator(`#alerts tr[data-sensor="${sensor}"]`);
    await until("the other dashboard shows it", async () => /ada, /.test(await open.innerText()), 60_000);
    assert.equal(await page.locator("#account").isVisible(), false);
    await other.getByRole("button", { name: "Sign out" }).click();
    await other.waitForURL("**/login*");
    await other.goto(secured);
    await other.waitForURL("**/login*");
    assert.deepEqual(problems, []);
    await other.close();
    send("plant-1", sensor, 20, { sensor_name: "boiler" });
  },

  async "paper is dark on white from a dark screen too"() {
    // A sensor of the simulated fleet, whose line has more than one slope: the edges of a single upright stroke may all be mixed colours.
    const { extremes } = await api("/api/extremes?metric=temperature&side=highest&last=24h&top=20");
    const { iot_sensor_id } = extremes.find((extreme) => !extreme.iot_sensor_id.startsWith("00000000"));
    await page.goto(`${url}#sensor=${iot_sensor_id}&metric=temperature&last=24h`);
    await until("a chart", async () => (await drawn()) !== null);
    await page.emulateMedia({ colorScheme: "dark" });
    const ink = () => page.evaluate(async () => {
      const canvas = document.querySelector(".chart canvas");
      const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
      const drawing = copy.getContext("2d", { willReadFrequently: true });
      drawing.drawImage(canvas, 0, 0);
      const { data } = drawing.getImageData(0, 0, canvas.width, canvas.height);
      // The line's colour in the dark, and on paper.
      const pixels = ([red, green, blue]) => {
        let found = 0;
        for (let at = 0; at < data.length; at += 4) {
          if (data[at + 3] > 250 && Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue) < 12) found += 1;
        }
        return found > 20;
      };
      return [getComputedStyle(document.documentElement).getPropertyValue("--ink").trim(), pixels([0x2d, 0xd4, 0xbf]), pixels([0x0d, 0x7a, 0x70])];
    });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    await until("a chart for paper", async () => JSON.stringify(await ink()) === JSON.stringify(["#000", false, true]));
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    await until("the dark page again", async () => JSON.stringify(await ink()) === JSON.stringify(["#e7edf2", true, false]));
    await page.emulateMedia({ colorScheme: "light" });
  },

  async "a sensor far down in the list keeps its chart in view"() {
    replay(Array.from({ length: 5000 }, (_, n) => ({ location: "plant-9", device_type: "thermostat", iot_sensor_id: `00000000-0000-4000-9000-${String(n).padStart(12, "0")}`, recorded_timestamp: new Date().toISOString(), temperature: 20 + (n % 50) / 10 })));
    await until("5,000 sensors", async () => (await api("/api/fleet")).groups.some((group) => group.location === "plant-9" && group.sensors === 5000), 60_000);
    const wide = page.locator(".location", { has: page.locator(".name", { hasText: "plant-9" }) });
    await wide.locator("button").first().click();
    await until("its rows", async () => (await wide.locator("tr.row").count()) > 5);
    assert.ok((await page.locator(".fleet tr.row").count()) < 300, "every row is in the page");
    const list = page.locator("#locations");
    // As fast as a wheel turns: the pauses between frames.
    const pauses = await list.evaluate(async (node) => {
      const found = [];
      let before = performance.now();
      for (let step = 0; step < 60; step += 1) {
        node.scrollTop += 900;
        await new Promise((done) => requestAnimationFrame(done));
        found.push(performance.now() - before);
        before = performance.now();
      }
      return found.sort((a, b) => a - b);
    });
    const [middle, longest] = [pauses[30], pauses.at(-1)];
    console.log(`  5,000 rows scrolled by 900 pixels a frame: ${middle.toFixed(0)} ms per frame, ${longest.toFixed(0)} ms at most`);
    assert.ok(middle < 250, `${middle} ms`);
    let index = 0;
    await until("rows far down", async () => (index = await wide.locator("tr.row").evaluateAll((rows) => Number(rows.at(-1).getAttribute("aria-rowindex")))) > 1000);
    const box = await list.boundingBox();
    await page.mouse.click(box.x + 60, box.y + box.height / 2);
    await until("its chart", async () => /4000-9000/.test(await text("#chart-note")) && (await drawn()) !== null);
    // The page may have to scroll to it.
    await until("the chart in view", async () => {
      const top = await page.locator("#chart-panel").evaluate((node) => node.getBoundingClientRect().top);
      return top > -2 && top < 700;
    });
    await wide.locator("button").first().click();
  },

  async "across a clock change the axis has every hour of the zone once, and small values differ"() {
    const client = await context.newCDPSession(page);
    await client.send("Emulation.setTimezoneOverride", { timezoneId: "Europe/Berlin" });
    const sensor = "00000000-0000-4000-8000-0000000000ee";
    replay(Array.from({ length: 300 }, (_, n) => ({ location: "plant-1", device_type: "scale", iot_sensor_id: sensor, recorded_timestamp: new Date(Date.parse("2026-10-24T20:00Z") + n * 120e3).toISOString(), temperature: 0.0001 + (n % 5) / 10_000 })));
    await until("the sensor", async () => (await api(`/api/sensors?find=${sensor}`)).sensors === 1);
    await page.goto("about:blank");
    await page.goto(`${url}#sensor=${sensor}&metric=temperature&from=2026-10-24T22:00:00.000Z&to=2026-10-25T04:00:00.000Z`);
    await until("a chart", async () => (await drawn()) !== null);
    const [{ ticks, values }] = await chart();
    const hours = ticks.slice(1).map(([at], index) => at - ticks[index][0]);
    assert.deepEqual(new Set(hours).size, 1, JSON.stringify(ticks));
    assert.ok(ticks.some(([, label]) => label.endsWith("+01:00")), JSON.stringify(ticks));
    assert.ok(values.length > 2 && new Set(values).size === values.length, values.join(" "));
    await client.send("Emulation.setTimezoneOverride", { timezoneId: "" });
  },

  async "a tap reads a value and two fingers zoom"() {
    const client = await context.newCDPSession(page);
    await client.send("Emulation.setTouchEmulationEnabled", { enabled: true, maxTouchPoints: 2 });
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto("about:blank");
    const { readings } = await api("/api/sensors?location=plant-2&device_type=thermostat");
    await page.goto(`${url}#sensor=${readings[0].iot_sensor_id}&metric=temperature&last=24h`);
    await until("a chart", async () => (await drawn()) !== null);
    await page.locator(".chart").scrollIntoViewIfNeeded();
    const box = await surface();
    const y = box.y + box.height / 2;
    const touch = (type, ...xs) => client.send("Input.dispatchTouchEvent", { type, touchPoints: xs.map((x, id) => ({ x, y, id })) });
    await touch("touchStart", box.x + box.width / 2);
    await touch("touchEnd");
    await page.locator(".tip").first().waitFor();
    const [{ span: before }] = await chart();
    await touch("touchStart", box.x + box.width * 0.4, box.x + box.width * 0.6);
    for (const part of [0.05, 0.1, 0.2]) await touch("touchMove", box.x + box.width * (0.4 - part), box.x + box.width * (0.6 + part));
    await touch("touchEnd");
    await page.locator("#reset").waitFor();
    await until("the zoom", async () => {
      const [{ span }] = await chart();
      return Math.abs((span.to - span.from) / (before.to - before.from) - 1 / 3) < 0.12;
    });
    await client.send("Emulation.setTouchEmulationEnabled", { enabled: false });
    await page.setViewportSize({ width: 1440, height: 1180 });
  },

  async "the wall view has large figures, no list, and an address"() {
    await page.goto("about:blank");
    await page.goto(`${url}#view=wall`);
    await until("a chart", async () => (await drawn()) !== null);
    assert.equal(await page.locator(".fleet").isVisible(), false);
    const size = await page.locator("#tile-sensors").evaluate((node) => Number.parseFloat(getComputedStyle(node).fontSize));
    assert.ok(size > 40, `${size} px`);
    await page.locator("#wall").click();
    await page.locator(".fleet").waitFor();
    assert.doesNotMatch(page.url(), /view=wall/);
  },

  async "axe finds nothing serious, in light and dark and on a phone"() {
    const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    for (const [colorScheme, width] of [["light", 1440], ["dark", 1440], ["light", 390]]) {
      await page.setViewportSize({ width, height: 1180 });
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.goto("about:blank");
      await page.goto(url);
      await until("a chart", async () => (await drawn()) !== null);
      await page.locator("#extremes tr.row").first().waitFor();
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      assert.deepEqual(grave.map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html.slice(0, 160))]), [], `${colorScheme}, ${width}`);
      if (violations.length) console.log(`  axe, minor: ${violations.map(({ id }) => id).join(", ")}`);
    }
    await page.emulateMedia({ colorScheme: "light", reducedMotion: null });
    await page.setViewportSize({ width: 1440, height: 1180 });
  },

  async "the page is small, and its first chart soon there"() {
    const client = await context.newCDPSession(page);
    await client.send("Network.enable");
    await client.send("Network.setCacheDisabled", { cacheDisabled: true });
    let bytes = 0;
    client.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
    await page.goto("about:blank");
    const began = Date.now();
    await page.goto(url);
    await until("a chart", async () => (await drawn()) !== null);
    console.log(`  first chart after ${Date.now() - began} ms, ${(bytes / 1000).toFixed(0)} kB transferred until then`);
    assert.ok(bytes < 150e3, `${bytes} bytes`);
    await client.send("Network.setCacheDisabled", { cacheDisabled: false });
  },

  async "it fits a phone and can be used by keyboard alone"() {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto("about:blank");
    await page.goto(url);
    await until("a chart", async () => (await drawn()) !== null);
    await until("a fitting chart", async () => (await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
    const closed = page.locator('.location button[aria-expanded="false"]').first();
    await closed.focus();
    await page.keyboard.press("Enter");
    await page.locator('.location button[aria-expanded="true"]').nth(1).waitFor();
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("button, select, input, [tabindex]:not(main *[tabindex='-1'])")].filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.length)).length,
    );
    assert.equal(unnamed, 0, "controls without a name");
    await page.setViewportSize({ width: 1440, height: 1180 });
  },
};

async function screenshots(folder) {
  const { extremes } = await api("/api/extremes?metric=temperature&side=highest&last=24h&top=20");
  const shown = extremes.find((extreme) => extreme.location === "plant-1" && extreme.device_type !== "weather-station") ?? extremes[0];
  for (const [name, width, height, colorScheme] of [["light", 1440, 1180, "light"], ["dark", 1440, 1180, "dark"], ["phone", 390, 844, "light"]]) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    await page.goto("about:blank");
    await page.goto(`${url}#sensor=${shown.iot_sensor_id}&metric=temperature&last=24h`);
    await until("a chart", async () => (await drawn()) !== null);
    await page.locator("#extremes tr.row").first().waitFor();
    await page.locator("#cassandra tr").first().waitFor();
    await page.waitForTimeout(4000);
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: name === "phone" });
  }
}

let failed = false;
try {
  if (process.env.SCREENSHOTS) {
    await page.goto(url);
    await screenshots(process.env.SCREENSHOTS);
    await page.setViewportSize({ width: 1440, height: 1180 });
    await page.emulateMedia({ colorScheme: "light" });
  }
  // ONLY=WORD: the steps whose name has it, such as those that were just changed.
  for (const [name, step] of Object.entries(steps).filter(([name]) => name.includes(process.env.ONLY ?? ""))) {
    const began = Date.now();
    await step();
    faults.push(...(await page.evaluate(() => globalThis.violations ?? [])));
    assert.deepEqual(faults, [], name);
    console.log(`ok   ${name} (${Date.now() - began} ms)`);
  }
} catch (error) {
  failed = true;
  console.error(`FAILED ${error.stack ?? error}`);
  if (faults.length) console.error(faults.join("\n"));
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, "failed.png") });
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;
