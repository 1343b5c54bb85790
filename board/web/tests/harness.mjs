// What every test of the board needs: the program, stores, a browser that talks to nobody else.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
export const PROGRAM = process.env.WINDLASS_BIN ?? join(here, "../../../target/debug/windlass");
export const SHOTS = process.env.WINDLASS_SHOTS ?? join(here, "../shots");
mkdirSync(SHOTS, { recursive: true });

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
FLAGS.push("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info");

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const windlass = (...args) => execFileSync(PROGRAM, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 28 });
export const seed = (path, ...args) => execFileSync("python3", [join(here, "seed.py"), path, ...args.map(String)], { encoding: "utf8" });
export const totals = (path) => JSON.parse(windlass("query", "totals", "--store", `sqlite:${path}`, "--format", "json")).rows;

/** A migrated SQLite store, filled with a case of seed.py. */
export function store(what) {
  const path = join(mkdtempSync(join(tmpdir(), "windlass-board-")), "results.sqlite");
  windlass("migrate", "--store", `sqlite:${path}`);
  if (what) seed(path, what);
  return path;
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

/** Ends a process and waits for it. */
export async function end(child, signal = "SIGTERM") {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.on("exit", resolve));
  child.kill(signal);
  await ended;
}

/** `windlass board`, once it answers. */
export async function board(path, { port, args = [] } = {}) {
  port ??= await freePort();
  const child = spawn(PROGRAM, ["board", "--replica", `sqlite:${path}`, "--listen", `127.0.0.1:${port}`, ...args], {
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

export const launch = () => chromium.launch({ executablePath: process.env.WINDLASS_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/** A page that fails the test on errors, on requests elsewhere and on violations of the policy. */
export async function open(browser, url, { size = [1920, 1080], query = {}, quiet = false } = {}) {
  const context = await browser.newContext({ viewport: { width: size[0], height: size[1] }, locale: "en-GB", timezoneId: "UTC" });
  const page = await context.newPage();
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

export const shownTotal = (page) => page.locator("#odometer").getAttribute("data-value");
