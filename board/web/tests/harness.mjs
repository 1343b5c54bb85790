// What every test of the board needs: the program, stores, a browser that talks to nobody else.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
export const PROGRAM = process.env.WINDLASS_TEST_BIN ?? join(here, "../../../target/debug/windlass");
export const SHOTS = process.env.WINDLASS_TEST_SHOTS ?? join(here, "../shots");
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
    new MutationObserver((_, observer) => {
      if (!document.getElementById("total")?.dataset.commits) return;
      observer.disconnect();
      window.firstView = performance.now();
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

export const shownTotal = (page) => page.locator("#odometer").getAttribute("data-value");

const services = (...args) => [join(here, "../../../tests/services"), args];

/** A database of its own on the test servers, and a stream; null where there are no servers. */
export function servers(t) {
  const { WINDLASS_TEST_AMQP: broker, WINDLASS_TEST_MARIADB: primary, WINDLASS_TEST_MARIADB_REPLICA: replica } = process.env;
  if (!broker || !primary || !replica) {
    if (process.env.WINDLASS_TEST_REQUIRED === "1") throw new Error("WINDLASS_TEST_AMQP, _MARIADB and _MARIADB_REPLICA must be set");
    t.skip("no servers: eval \"$(tests/services env)\"");
    return null;
  }
  const name = `board_${process.pid}`;
  const database = `windlass_${name}`;
  const sql = (...args) => execFileSync(...services("sql", "mariadb", ...args), { encoding: "utf8" });
  sql("-e", `CREATE DATABASE ${database}`);
  t.after(() => sql("-e", `DROP DATABASE ${database}`));
  const config = join(mkdtempSync(join(tmpdir(), "windlass-board-")), "windlass.toml");
  writeFileSync(config, `[stream]\nname = "${name}"\n`);
  const at = (url) => url.replace(/[^/]*$/, database);
  return { broker, config, database, primary: at(primary), replica: at(replica) };
}

/** When the primary first held each number of commits, unix ms, as its own clock has it. */
export function commitClock(database) {
  const [program, args] = services("sql", "mariadb", "-N", "-B", "--unbuffered", database);
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  const first = new Map();
  createInterface(child.stdout).on("line", (line) => {
    const [at, commits] = line.split("\t").map(Number);
    if (commits && !first.has(commits)) first.set(commits, at);
  });
  const ask = "SELECT ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000), COALESCE(SUM(commit_no), 0) FROM shards;\n";
  const timer = setInterval(() => child.stdin.write(ask), 20);
  return { first, stop: () => (clearInterval(timer), end(child)) };
}
