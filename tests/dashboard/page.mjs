// The page as a person uses it, in a real browser on real readings. Started by run.sh with the dashboard's address.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
page.on("console", (message) => ["error", "warning"].includes(message.type()) && faults.push(`console: ${message.text()}`));
page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
page.on("request", (request) => new URL(request.url()).origin !== origin && faults.push(`another origin: ${request.url()}`));
page.on("dialog", (dialog) => (faults.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
await page.addInitScript(() => {
  globalThis.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
});

const text = (selector) => page.locator(selector).innerText();
const path = () => page.locator(".chart .curve").getAttribute("d");
const api = async (question) => (await fetch(origin + question)).json();
const until = async (what, holds, patience = 20_000) => {
  const began = Date.now();
  while (!(await holds())) {
    if (Date.now() - began > patience) throw new Error(`${what}: not within ${patience} ms`);
    await new Promise((done) => setTimeout(done, 100));
  }
  return Date.now() - began;
};
/** The chart is drawn anew while readings come, so there may be none at an instant. */
const surface = async () => {
  let box = null;
  await until("the chart's surface", async () => (box = await page.locator(".chart .surface").boundingBox()) !== null);
  return box;
};
/** A reading sent as any client would. */
function send(location, sensor, temperature, more = {}) {
  const file = join(profile, "reading.ndjson");
  const reading = { location, device_type: "thermostat", iot_sensor_id: sensor, recorded_timestamp: new Date().toISOString(), temperature, ...more };
  writeFileSync(file, `${JSON.stringify(reading)}\n`);
  execFileSync(process.env.IOTCTL, ["-q", "simulate", "--replay", file, "--format", "json"]);
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
    await page.locator(`.fleet tr[data-sensor="${sensor.iot_sensor_id}"] button`).click();
    await until("its chart", async () => (await text("#chart-note")).includes(sensor.iot_sensor_id) && (await page.locator(".chart .curve").count()) === 1);
    await until("values", async () => /[\d,]+ values/.test(await text("#stats")));
    const values = async () => Number((await text("#stats")).match(/([\d,]+) values?/)[1].replaceAll(",", ""));
    const all = await values();
    assert.ok(all > 2000, `${all} values`);
    assert.ok((await path()).length > 3000, "the curve is short");
    const box = await surface();
    const middle = box.y + box.height / 2;
    await page.mouse.move(box.x + box.width / 2, middle);
    assert.match(await text(".tip"), /°C/);
    const hovered = await path();
    await until("drawn anew", async () => (await path()) !== hovered);
    assert.match(await text(".tip"), /°C/, "what is read is gone when a reading comes");
    const before = await path();
    await page.mouse.move(box.x + box.width * 0.4, middle);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, middle, { steps: 5 });
    await page.mouse.up();
    await page.locator("#reset").waitFor();
    const zoomed = await values();
    assert.ok(zoomed > all * 0.1 && zoomed < all * 0.3, `${zoomed} of ${all} values`);
    assert.notEqual(await path(), before);
    await page.locator(".chart svg").dblclick({ position: { x: 300, y: 80 } });
    await page.locator("#reset").waitFor({ state: "hidden" });
    assert.ok((await values()) > all * 0.99);
    await page.locator(".chart svg").focus();
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
    await until("its curve", async () => (await page.locator(".chart .curve").count()) === 1);
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
    await row.locator("button").click();
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
    await page.locator(".chart .band").waitFor({ state: "attached" });
    assert.match(await page.locator(".chart .band").getAttribute("d"), /^M.*Z$/);
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
    await page.locator(".chart .curve").waitFor({ state: "attached" });
  },

  async "it fits a phone and can be used by keyboard alone"() {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto("about:blank");
    await page.goto(url);
    await page.locator(".chart .curve").waitFor({ state: "attached" });
    await until("a fitting chart", async () => (await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
    const closed = page.locator('.location button[aria-expanded="false"]').first();
    await closed.focus();
    await page.keyboard.press("Enter");
    await page.locator('.location button[aria-expanded="true"]').nth(1).waitFor();
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("button, select, input, svg[tabindex]")].filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim())).length,
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
    await page.locator(".chart .curve").waitFor({ state: "attached" });
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
  for (const [name, step] of Object.entries(steps)) {
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
