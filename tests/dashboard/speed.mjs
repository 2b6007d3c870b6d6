// Time to the first chart, and bytes until then. Started by speed.sh with the dashboard's address.
import http from "node:http";
import { chromium } from "playwright-core";

const [url] = process.argv.slice(2);
const MOST = 150e3;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});

/** The size of an answer as a client without compression gets it. */
const plain = (address) =>
  new Promise((done, failed) => {
    http.get(address, { headers: { "accept-encoding": "identity" } }, (answer) => {
      let bytes = 0;
      answer.on("data", (part) => (bytes += part.length));
      answer.on("end", () => done(bytes));
    }).on("error", failed);
  });

/** A visit of a browser that has never been here. */
async function visit() {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1180 } });
  const page = await context.newPage();
  const client = await context.newCDPSession(page);
  await client.send("Network.enable");
  const asked = new Map();
  client.on("Network.requestWillBeSent", ({ requestId, request }) => asked.set(requestId, { url: request.url, bytes: 0 }));
  client.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => asked.has(requestId) && (asked.get(requestId).bytes = encodedDataLength));
  // The first frame after the first line is drawn; from the start of the navigation.
  await page.addInitScript(() => {
    const look = () => {
      const canvas = document.querySelector(".chart .u-wrap canvas");
      if (canvas && canvas.width > 0) requestAnimationFrame(() => (globalThis.firstChart = performance.now()));
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
  await page.goto(url);
  await page.waitForFunction(() => globalThis.firstChart !== undefined, null, { polling: 20 });
  const [time, api] = await page.evaluate(() => [
    globalThis.firstChart,
    performance.getEntriesByType("resource").filter(({ name }) => name.includes("/api/")).map(({ name, startTime, responseStart, responseEnd }) => [new URL(name).pathname, startTime, responseStart, responseEnd].map((value) => (typeof value === "number" ? Math.round(value) : value)).join(" ")),
  ]);
  const files = [...asked.values()];
  await context.close();
  return { time, files, api };
}

const times = [];
let last;
for (let run = 0; run < 10; run += 1) {
  last = await visit();
  times.push(last.time);
}
const [first, ...others] = times;
others.sort((a, b) => a - b);
const isApi = ({ url: address }) => new URL(address).pathname.startsWith("/api/");
const files = last.files.filter((file) => !isApi(file));
const packed = files.reduce((sum, { bytes }) => sum + bytes, 0);
const whole = last.files.reduce((sum, { bytes }) => sum + bytes, 0);
let unpacked = 0;
for (const file of files) unpacked += await plain(file.url);
console.log(`  first chart: ${first.toFixed(0)} ms at the first visit, then ${others[4].toFixed(0)} ms (median of 9), ${others.at(-1).toFixed(0)} ms at most`);
console.log(`  the page: ${(packed / 1000).toFixed(0)} kB in ${files.length} files as gzip, ${(unpacked / 1000).toFixed(0)} kB without; ${(whole / 1000).toFixed(0)} kB with its data until the first chart`);
if (process.env.DETAILS) console.log(last.api.join("\n"));
await browser.close();
if (whole > MOST) {
  console.error(`FAILED ${whole} bytes until the first chart, at most ${MOST} are meant`);
  process.exitCode = 1;
}
