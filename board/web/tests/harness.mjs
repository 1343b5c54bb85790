// What every test of the board needs: the program, stores, a browser that talks to nobody else.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
export const PROGRAM = process.env.WINDLASS_TEST_BIN ?? join(here, "../../../target/debug/windlass");
export const SHOTS = process.env.WINDLASS_TEST_SHOTS ?? join(here, "../shots");
mkdirSync(SHOTS, { recursive: true });

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
FLAGS.push("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info");

/** The provinces of seed.py, in their order in a store. */
export const PROVINCES = "Anhui Aomen Beijing Chongqing Fujian Gansu Guangdong Guangxi Guizhou Hainan Hebei Heilongjiang Henan Hubei Hunan Jiangsu Jiangxi Jilin Liaoning Neimenggu Ningxia Qinghai Shaanxi Shandong Shanghai Shanxi Sichuan Taiwan Tianjin Xianggang Xinjiang Xizang Yunnan Zhejiang".split(" ");

export const cents = (text) => BigInt(text.replace(".", ""));
export const sum = (rows) => rows.reduce((all, row) => all + cents(row.gmv), 0n);
export const until = async (what, check, ms = 10_000) => {
  const end = Date.now() + ms;
  for (;;) {
    if (await check()) return;
    if (Date.now() > end) assert.fail(`not within ${ms} ms: ${what}`);
    await sleep(20);
  }
};
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** Notes, in a thread that does nothing else, when a timer of 20 ms came more than 100 ms after the last one. */
const LATE_TIMERS = `
const { parentPort } = require("node:worker_threads");
const found = [];
let last = Date.now();
setInterval(() => {
  const now = Date.now();
  if (now - last > 100) found.push([last, now]);
  last = now;
}, 20);
parentPort.once("message", () => parentPort.postMessage(found));`;

/**
 * Watches from now on when the machine let a thread that wanted to run wait: what took long then is the machine's.
 * The function that it gives ends that, and tells how much of the time between two moments was such, and of all, ms.
 */
export function stalls() {
  const watcher = new Worker(LATE_TIMERS, { eval: true });
  return async () => {
    const told = once(watcher, "message");
    watcher.postMessage(null);
    const [found] = await told;
    await watcher.terminate();
    const within = (from, to) => found.reduce((all, [began, ended]) => all + Math.max(0, Math.min(to, ended) - Math.max(from, began)), 0);
    return { within, stalled: within(-Infinity, Infinity) };
  };
}

export const windlass = (...args) => execFileSync(PROGRAM, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 28 });
export const seed = (path, ...args) => execFileSync("python3", [join(here, "seed.py"), path, ...args.map(String)], { encoding: "utf8" });
export const totals = (path) => JSON.parse(windlass("query", "totals", "--store", `sqlite:${path}`, "--format", "json")).rows;

/** A migrated SQLite store, filled with a case of seed.py, some seconds ago. */
export function store(what, ago = 0) {
  const path = join(mkdtempSync(join(tmpdir(), "windlass-board-")), "results.sqlite");
  windlass("migrate", "--store", `sqlite:${path}`);
  if (what) seed(path, what, ago);
  return path;
}

/** A scaler that is alive in a store, with the shipped Q-table. */
export function scaler(path) {
  windlass("scaler", "import", join(here, "../../../scaler/data/elastic.txt"), "--store", `sqlite:${path}`);
  seed(path, "scaler");
}

/** Commits new windows while the test goes on; each resolves into [unix ms, total]. */
export function commits(path, count) {
  const child = spawn("python3", [join(here, "seed.py"), path, "commits", String(count)], { stdio: ["ignore", "pipe", "inherit"] });
  const done = [];
  createInterface(child.stdout).on("line", (line) => {
    const [at, total] = line.split(" ");
    done.push([Number(at), total]);
  });
  return { done, ended: new Promise((resolve) => child.on("exit", resolve)) };
}

export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A dispatcher that says what no run here makes it say: pool and Jobs, three of them in each ten seconds. */
export async function placingDispatcher(t, { paused = null } = {}) {
  const began = Date.now();
  const server = createHttp((request, response) => {
    const second = Math.floor((Date.now() - began) / 1000);
    const [warm, overflow, asked] = [14 * second, 2 * second, Math.floor(second / 3)];
    const run = (back) => {
      const n = warm + overflow + asked - back;
      const job = n % 4 === 1;
      const phases = job ? { created: 14 + (n % 9), scheduled: 31 + (n % 17), started: 610 + ((n * 37) % 240), pulled: 9 + (n % 5), answered: 4 + (n % 3) } : { created: null, scheduled: null, started: null, pulled: null, answered: 1 + (n % 3) };
      return { window_start: Math.floor(Date.now() / 1000) * 1000 - 1000 * Math.floor(back / 2), rows: 4_000 + ((n * 131) % 900), place: job ? "job" : "pool", reason: !job ? "warm" : n % 8 === 1 ? "asked" : "overflow", waited_ms: job ? 500 + (n % 40) : n % 3, phases_ms: phases };
    };
    const size = 4 + (second % 5);
    const status = {
      shards: { 0: { role: "owner", queue_ready: 1_200 + ((second * 311) % 900), queue_unacked: 640, figures: { windows_open: 2 } } },
      invocations: { waiting: second % 4, in_flight: 3, busy: 3, idle: size - 3, handed_out: warm, answered: warm, failed: 0 },
      placement: { mode: "auto", live_jobs: second % 3, waiting: second % 4, creating_paused: paused, ran: { warm, overflow, asked }, recent: Array.from({ length: 20 }, (_, back) => run(back)) },
      workload: { workers_ready: size },
      window_latency: { p50_ms: 21 + (second % 5), p99_ms: 66 + (second % 13) },
      invocation_latency: { p50_ms: 2, p99_ms: 9 + (second % 3) },
    };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(status));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

/** Ends a process and waits for it. */
export async function end(child, signal = "SIGTERM") {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.on("exit", resolve));
  child.kill(signal);
  await ended;
}

/** `windlass board`, once it answers. */
export async function board(path, { port, args = [], replica = `sqlite:${path}` } = {}) {
  port ??= await freePort();
  const child = spawn(PROGRAM, ["board", "--replica", replica, "--listen", `127.0.0.1:${port}`, ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, WINDLASS_LOG: "warn" },
  });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; ; tries++) {
    const answer = await fetch(`${url}/healthz`).catch(() => null);
    if (answer?.ok) break;
    if (tries > 400 || child.exitCode !== null) throw new Error("the board did not start");
    await sleep(25);
  }
  return { url, port, child, stop: (signal) => end(child, signal) };
}

export const launch = () => chromium.launch({ executablePath: process.env.WINDLASS_TEST_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/** A page that fails the test on errors, on requests elsewhere and on violations of the policy. */
export async function open(browser, url, { size = [1920, 1080], query = {}, quiet = false } = {}) {
  const context = await browser.newContext({ viewport: { width: size[0], height: size[1] }, locale: "en-GB", timezoneId: "UTC" });
  const page = await context.newPage();
  await page.addInitScript(() => {
    const marks = { firstView: "#total[data-commits]", chartsView: "#map canvas" };
    new MutationObserver((_, observer) => {
      for (const [mark, selector] of Object.entries(marks)) if (document.querySelector(selector)) window[mark] ??= performance.now();
      if (window.firstView && window.chartsView) observer.disconnect();
    }).observe(document, { subtree: true, childList: true, attributes: true });
  });
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => (wrong.push(`dialog ${dialog.message()}`), dialog.dismiss()));
  page.on("console", (message) => {
    const lost = quiet && /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE|ERR_CONNECTION_RESET/.test(message.text());
    if (message.type() === "error" && !lost) wrong.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) wrong.push(`asked ${request.url()}`);
  });
  await page.goto(`${url}/?${new URLSearchParams({ lang: "en", theme: "dark", ...query })}`);
  return { page, context, wrong };
}

/** What the page's CSV holds, a row an object. */
export async function download(page) {
  const coming = page.waitForEvent("download");
  await page.locator("#csv").click();
  const text = readFileSync(await (await coming).path(), "utf8");
  const [names, ...rows] = text.trim().split("\r\n").map((line) => [...line.matchAll(/("(?:[^"]|"")*"|[^,]*)(?:,|$)/g)].map(([, cell]) => cell.replace(/^"(.*)"$/s, "$1").replaceAll('""', '"')));
  return rows.map((row) => Object.fromEntries(names.slice(0, -1).map((name, at) => [name, row[at]])));
}

/** Decimal text with its digits in threes, as people read it. */
export const grouped = (decimal) => {
  const [whole, cents] = decimal.split(".");
  return `${Number(whole) < 1e15 ? new Intl.NumberFormat("en").format(Number(whole)) : whole.replace(/(?<=\d)(?=(\d{3})+$)/g, ",")}.${cents}`;
};

/** The total as it is seen: of each strip of digits the one that lies in its cell. */
export const seenTotal = (page) =>
  page.locator("#odometer .digits").evaluate((digits) =>
    [...digits.children]
      .map((cell) => {
        const strip = cell.querySelector(".strip");
        if (!strip) return cell.textContent;
        const box = cell.getBoundingClientRect();
        const [text, range] = [strip.firstChild, document.createRange()];
        return [...text.data]
          .filter((char, at) => {
            if (char === "\n") return false;
            range.setStart(text, at);
            range.setEnd(text, at + 1);
            const { top, bottom, width } = range.getBoundingClientRect();
            const middle = (top + bottom) / 2;
            return width > 0 && middle > box.top && middle < box.bottom;
          })
          .join("");
      })
      .join(""),
  );

export const shownTotal = (page) => page.locator("#odometer").getAttribute("data-value");
