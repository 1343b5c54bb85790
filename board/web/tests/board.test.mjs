// The page in a real browser against the real program.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { get } from "node:http";
import { get as httpsGet } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { PROGRAM, SHOTS, board, commitClock, commits, end, servers, freePort, launch, open, seed, shownTotal, sleep, store, totals, windlass } from "./harness.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const cents = (text) => BigInt(text.replace(".", ""));
const sum = (rows) => rows.reduce((all, row) => all + cents(row.gmv), 0n);
const until = async (what, check, ms = 10_000) => {
  const end = Date.now() + ms;
  for (;;) {
    if (await check()) return;
    if (Date.now() > end) assert.fail(`not within ${ms} ms: ${what}`);
    await sleep(20);
  }
};

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

test("during the demo every total is true, and after it the screen equals the query", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "windlass-demo-"));
  const run = spawn(PROGRAM, ["demo", "--rate", "2000", "--for", "12s", "--dir", dir], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface(run.stdout);
  const link = await new Promise((resolve) => lines.on("line", (line) => /the big screen: (\S+)\//.exec(line) && resolve(RegExp.$1)));
  const { page, context, wrong } = await open(browser, link, { quiet: true });
  await page.evaluate(() => {
    window.seen = [];
    const root = document.getElementById("odometer");
    new MutationObserver(() => window.seen.push(root.dataset.value)).observe(root, { attributes: true, attributeFilter: ["data-value"] });
    window.told = new Set();
    const feed = new EventSource("/api/v1/events");
    for (const name of ["whole", "frame"]) feed.addEventListener(name, (event) => window.told.add(JSON.parse(event.data).total.gmv));
  });
  const ended = new Promise((resolve) => run.on("exit", resolve));
  await until("orders on the screen", async () => Number(await shownTotal(page)) > 0, 20_000);
  assert.equal(await ended, 0, "the demo's own audit found no difference");
  const seen = await page.evaluate(() => window.seen);
  const told = new Set(await page.evaluate(() => [...window.told]));
  assert.ok(seen.length > 5, `${seen.length} totals were shown`);
  const path = join(dir, "results.sqlite");
  const truth = totals(path);
  const untrue = seen.slice(2).filter((value) => !told.has(value));
  assert.deepEqual(untrue, [], "every total shown was a total of the store");
  await context.close();
  assert.deepEqual(wrong, []);

  const server = await board(path);
  t.after(() => server.stop());
  const opened = await open(browser, server.url);
  await until("the final total", async () => cents((await shownTotal(opened.page)) ?? "0.00") === sum(truth));
  const ranked = await opened.page.locator("#ranking li").evaluateAll((items) => items.map((li) => [li.dataset.province, li.dataset.gmv, Number(li.dataset.orders)]));
  assert.deepEqual(
    ranked.sort(),
    truth.map((row) => [row.province, row.gmv, row.orders]).sort(),
  );
  const rows = JSON.parse(windlass("query", "gmv", "--store", `sqlite:${path}`, "--last", "1h", "--format", "json")).rows;
  const from = Date.parse(`${rows[0].window_start.replace(" ", "T")}Z`);
  const answer = await (await fetch(`${server.url}/api/v1/gmv?from=${from}&to=${from + 3_600_000}&step=second`)).json();
  assert.deepEqual(answer.rows.map(({ start, ...row }) => ({ window_start: start, ...row })), rows);
  const minutes = await (await fetch(`${server.url}/api/v1/gmv?from=${from}&to=${from + 3_600_000}&step=minute`)).json();
  assert.equal(sum(minutes.rows), sum(rows));
  await opened.context.close();
  assert.deepEqual(opened.wrong, []);
});

test("at 20,000 orders a second a commit is on the screen within a second, and late revisions are right to the cent", async (t) => {
  const site = servers(t);
  if (!site) return;
  const common = ["--config", site.config, "--log", "warn"];
  windlass("migrate", "--store", site.primary, ...common);
  const dispatcher = spawn(PROGRAM, ["dispatch", "--broker", site.broker, "--store", site.primary, "--listen", `127.0.0.1:${await freePort()}`, "--workers", "1", ...common], { stdio: ["ignore", "ignore", "inherit"] });
  t.after(() => end(dispatcher));
  const server = await board(null, { replica: site.replica, args: common });
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url);
  await until("the page", async () => (await page.locator("#total").getAttribute("data-commits")) !== null);
  await page.evaluate(() => {
    window.shownAt = [];
    const root = document.getElementById("total");
    new MutationObserver(() => window.shownAt.push([Number(root.dataset.commits), Date.now()])).observe(root, { attributes: true, attributeFilter: ["data-commits"] });
  });
  const clock = commitClock(site.database);
  const seconds = process.env.WINDLASS_TEST_BOARD_SECONDS ?? "60";
  const rate = process.env.WINDLASS_TEST_BOARD_RATE ?? "20000";
  const publisher = spawn(PROGRAM, ["datagen", "publish", "--broker", site.broker, "--rate", rate, "--for", `${seconds}s`, "--disorder", "2s", "--format", "ndjson", "--batch", "100", "--manifest", join(site.config, "../manifest.json"), ...common], { stdio: ["ignore", "ignore", "inherit"] });
  assert.equal(await new Promise((resolve) => publisher.on("exit", resolve)), 0);
  await sleep(500);
  const shownAt = await page.evaluate(() => window.shownAt);
  const behind = [];
  for (const [commit, at] of clock.first) {
    const shown = shownAt.find(([held]) => held >= commit);
    if (shown) behind.push(Math.max(0, shown[1] - at));
  }
  await clock.stop();
  behind.sort((a, b) => a - b);
  const p99 = behind[Math.floor(behind.length * 0.99)];
  console.log(`# ${rate} orders/s for ${seconds} s: commit to screen p50 ${behind[behind.length >> 1]} ms, p99 ${p99} ms of ${behind.length} commits`);
  assert.ok(behind.length > Number(seconds) / 2, `${behind.length} commits`);

  const query = (...args) => JSON.parse(windlass("query", ...args, "--store", site.primary, "--config", site.config, "--format", "json")).rows;
  const published = Number(rate) * Number(seconds);
  await until("all orders counted", async () => query("totals").reduce((all, row) => all + row.orders, 0) >= published, 60_000);
  const truth = query("totals");
  await until("the screen's total", async () => cents(await shownTotal(page)) === sum(truth));
  const ranked = await page.locator("#ranking li").evaluateAll((items) => items.map((li) => [li.dataset.province, li.dataset.gmv]));
  assert.deepEqual(ranked.sort(), truth.map((row) => [row.province, row.gmv]).sort());
  const rows = query("gmv", "--last", "1h");
  assert.ok(rows.some((row) => row.revision > 0), "some windows were revised");
  const from = Date.parse(`${rows[0].window_start.replace(" ", "T")}Z`);
  const answer = await (await fetch(`${server.url}/api/v1/gmv?from=${from}&to=${from + 3_600_000}&step=second`)).json();
  const bare = (all) => all.map((row) => [row.start ?? row.window_start, row.province, row.orders, row.gmv, row.revision]);
  assert.deepEqual(bare(answer.rows), bare(rows));
  await context.close();
  assert.deepEqual(wrong, []);
  assert.ok(p99 <= 1000, `p99 ${p99} ms`);
});

test("every commit comes to the screen, and a restart heals by itself", async (t) => {
  const path = store("all");
  let server = await board(path);
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url, { quiet: true });
  await until("the first total", async () => (await shownTotal(page)) !== null);
  await page.evaluate(() => {
    window.shownAt = {};
    const root = document.getElementById("odometer");
    new MutationObserver(() => (window.shownAt[root.dataset.value] ??= Date.now())).observe(root, { attributes: true, attributeFilter: ["data-value"] });
  });
  const many = Number(process.env.WINDLASS_TEST_BOARD_COMMITS ?? 60);
  const writer = commits(path, many);
  await writer.ended;
  await until("the last total", async () => (await shownTotal(page)) === writer.done.at(-1)[1]);
  const shownAt = await page.evaluate(() => window.shownAt);
  // A total that was overtaken within one poll is on the screen as part of the next.
  const late = writer.done.map(([at], i) => {
    const next = writer.done.slice(i).find(([, total]) => shownAt[total] !== undefined);
    return shownAt[next[1]] - at;
  });
  late.sort((a, b) => a - b);
  const p99 = late[Math.floor(late.length * 0.99)];
  console.log(`# committed to shown: p50 ${late[late.length >> 1]} ms, p99 ${p99} ms of ${late.length}`);
  // The tail on a shared machine is the machine's; the test with real servers holds the p99.
  assert.ok(late[late.length >> 1] <= 1000, `p50 ${late[late.length >> 1]} ms`);

  await server.stop("SIGKILL");
  await until("the loss is said", async () => (await page.locator("#connection").getAttribute("data-state")) === "lost");
  const missed = commits(path, 3);
  await missed.ended;
  server = await board(path, { port: server.port });
  await until("healed", async () => (await shownTotal(page)) === missed.done.at(-1)[1], 5000);
  const shown = await page.locator("#seconds").getAttribute("aria-label");
  const windows = Number(shown.split(": ").at(-1));
  assert.equal(windows, 120 + many + 3, "no gap and no double in the chart");
  seed(path, "revise");
  await until("the correction is said", async () => /late orders corrected: \+0\.01/.test(await page.locator("#correction").textContent()));
  await context.close();
  assert.deepEqual(wrong, []);
});

test("a hostile province is text, on the page and in the CSV", async (t) => {
  const server = await board(store("hostile"));
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url);
  const hostile = page.locator("#ranking .name", { hasText: "<img src=x onerror=alert(1)>" });
  await hostile.waitFor();
  await hostile.click();
  assert.match(await page.locator("#hover").textContent(), /^<img src=x onerror=alert\(1\)> · Sales/);
  assert.equal(await page.locator("main img, main script").count(), 0);
  const download = page.waitForEvent("download");
  await page.locator("#csv").click();
  const csv = readFileSync(await (await download).path(), "utf8");
  const shown = await page.locator("#ranking li").evaluateAll((items) => items.map((li) => li.dataset.gmv));
  for (const gmv of shown) assert.ok(csv.includes(gmv), csv);
  assert.ok(csv.includes("\n'=1+1,"), "a formula is defused");
  await context.close();
  assert.deepEqual(wrong, []);
});

test("a link to a minute of the past replays it", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const at = Math.floor((Date.now() - 70_000) / 60_000) * 60_000;
  const { page, context, wrong } = await open(browser, server.url, { query: { at: new Date(at).toISOString(), scope: "minute" } });
  await until("the replay", async () => (await page.locator("#connection").getAttribute("data-state")) === "replay");
  await page.locator("#position").fill("59");
  const answer = await (await fetch(`${server.url}/api/v1/gmv?from=${at}&to=${at + 60_000}&step=second`)).json();
  await until("the whole minute", async () => cents(await shownTotal(page)) === sum(answer.rows));
  assert.ok(page.url().includes("scope=minute") && page.url().includes("at="));
  await page.locator("#to-live").click();
  await until("live again", async () => cents(await shownTotal(page)) === sum(totals(path)));
  assert.ok(!page.url().includes("at="));
  await context.close();
  assert.deepEqual(wrong, []);
});

test("everything can be reached by keyboard", async (t) => {
  const server = await board(store("one"));
  t.after(() => server.stop());
  const { page, context } = await open(browser, server.url);
  await page.locator("#ranking li").first().waitFor();
  const reached = new Set();
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.dataset.view || document.activeElement.dataset.scope || document.activeElement.className));
  }
  for (const stop of ["screen", "operations", "second", "run", "at", "csv", "lang", "theme", "pick"]) assert.ok(reached.has(stop), `${stop} of ${[...reached]}`);
  await context.close();
});

test("beyond this machine a token or TLS is needed, and a token lets in once it was shown", async (t) => {
  const path = store("one");
  const refused = spawnSync(PROGRAM, ["board", "--replica", `sqlite:${path}`, "--listen", "0.0.0.0:0"], { encoding: "utf8" });
  assert.notEqual(refused.status, 0);
  assert.match(refused.stderr, /expected a token or TLS/);
  const server = await board(path, { args: ["--token", "s3cret"] });
  t.after(() => server.stop());
  assert.equal((await fetch(`${server.url}/api/v1/totals`)).status, 401);
  assert.equal((await fetch(`${server.url}/?token=wrong`)).status, 401);
  assert.equal((await fetch(`${server.url}/api/v1/totals`, { headers: { authorization: "Bearer s3cret" } })).status, 200);
  const { page, context, wrong } = await open(browser, server.url, { query: { token: "s3cret" } });
  await page.locator("#ranking li").first().waitFor();
  assert.ok(!page.url().includes("s3cret"));
  await context.close();
  assert.deepEqual(wrong, []);
});

test("with a certificate the board speaks HTTPS", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "windlass-tls-"));
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  const made = spawnSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"]);
  assert.equal(made.status, 0);
  const port = await freePort();
  const child = spawn(PROGRAM, ["board", "--replica", `sqlite:${store("one")}`, "--listen", `127.0.0.1:${port}`, "--tls-cert", cert, "--tls-key", key, "--log", "warn"], { stdio: ["ignore", "ignore", "inherit"] });
  t.after(() => end(child));
  const ask = () => new Promise((resolve) => httpsGet({ host: "127.0.0.1", port, path: "/healthz", rejectUnauthorized: false }, (response) => resolve(response.statusCode)).on("error", () => resolve(null)));
  await until("HTTPS", async () => (await ask()) === 200);
});

test("a dispatcher that is gone is said, with since when", async (t) => {
  const port = await freePort();
  const server = await board(store("one"), { args: ["--dispatcher", `http://127.0.0.1:${port}`] });
  t.after(() => server.stop());
  const { page, context } = await open(browser, server.url);
  await page.locator("#troubles", { hasText: `dispatcher http://127.0.0.1:${port}: nothing listens there (since` }).waitFor();
  await context.close();
});

const SIZES = { wall: [1920, 1080], laptop: [1280, 720], phone: [390, 844] };

/** Boxes whose text does not fit, and a page that is wider than the screen. */
function misfits() {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.querySelectorAll("h1, h2, button, dt, dd, .name, .gmv, #hover, #correction, #odometer, .digits, td, th")) {
    if (element.closest("[hidden]") || element.offsetParent === null) continue;
    const clips = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0 && getComputedStyle(element).display !== "inline";
    if (clips && !element.matches(".name")) found.push(`clipped: ${element.tagName}.${element.className} ${element.textContent.slice(0, 40)}`);
  }
  for (const section of document.querySelectorAll("main:not([hidden]) section:not([hidden])")) {
    const box = section.getBoundingClientRect();
    if (box.height < 60) found.push(`flat: ${section.id}`);
    for (const child of section.children) {
      if (child.offsetParent === null) continue;
      const inner = child.getBoundingClientRect();
      if (inner.bottom > box.bottom + 1 || inner.right > box.right + 1) found.push(`sticks out of ${section.id}: ${child.id || child.className || child.tagName}`);
    }
  }
  return found;
}

for (const [name, what] of [["empty", null], ["one", "one"], ["all", "all"], ["huge", "huge"]]) {
  test(`screenshots and axe: ${name}`, async (t) => {
    const path = store(what);
    const dispatcher = name === "all" ? await demoDispatcher(t) : null;
    const server = await board(path, { args: dispatcher ? ["--dispatcher", dispatcher] : [] });
    t.after(() => server.stop());
    const problems = [];
    for (const [sized, size] of Object.entries(SIZES)) {
      // One case is enough for the size in between.
      if (sized === "laptop" && name !== "all") continue;
      const { page, context, wrong } = await open(browser, server.url, { size });
      if (what) await page.locator("#ranking li").first().waitFor();
      if (dispatcher) await until("operations", async () => (await (await fetch(`${server.url}/api/v1/status`)).json()).operations !== null);
      await sleep(1200);
      for (const view of ["screen", "operations"]) {
        await page.locator(`[data-view=${view}]`).click();
        for (const theme of ["dark", "light"]) {
          if ((await page.evaluate(() => document.documentElement.dataset.theme)) !== theme) await page.locator("#theme").click();
          if (sized === "wall" && theme === "light") await page.locator("#lang").click();
          await sleep(700);
          await page.screenshot({ path: join(SHOTS, `${name}-${view}-${theme}-${sized}.png`), fullPage: true });
          for (const misfit of await page.evaluate(misfits)) problems.push(`${view} ${theme} ${sized}: ${misfit}`);
          await page.evaluate(`${AXE};0`).catch(() => null);
          const result = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "best-practice"] }));
          for (const v of result.violations) if (["serious", "critical"].includes(v.impact)) problems.push(`${view} ${theme} ${sized}: axe ${v.id}: ${v.nodes.map((n) => n.target).slice(0, 3)}`);
          if (sized === "wall" && theme === "light") await page.locator("#lang").click();
        }
      }
      await context.close();
      problems.push(...wrong);
    }
    assert.deepEqual(problems, []);
  });
}

/** A real dispatcher for the operations view: the demo's, which serves its status to anybody here. */
async function demoDispatcher(t) {
  const dir = mkdtempSync(join(tmpdir(), "windlass-demo-"));
  const run = spawn(PROGRAM, ["demo", "--rate", "500", "--for", "120s", "--dir", dir], { stdio: ["ignore", "pipe", "ignore"] });
  t.after(() => end(run, "SIGKILL"));
  const lines = createInterface(run.stdout);
  return new Promise((resolve) => lines.on("line", (line) => /dispatcher: (http\S+)/.exec(line) && resolve(RegExp.$1)));
}

test("the first view takes at most a second, and the bundle a megabyte", async (t) => {
  const path = store("all");
  const port = await freePort();
  const began = Date.now();
  const server = await board(path, { port });
  t.after(() => server.stop());
  const { page, context } = await open(browser, server.url);
  await until("a total", async () => (await shownTotal(page)) !== null);
  await page.locator("#map canvas").waitFor();
  const painted = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  const loaded = await page.evaluate(() => performance.getEntriesByType("resource").reduce((all, r) => all + (r.initiatorType === "other" ? 0 : r.encodedBodySize), 0));
  // The fastest of three loads: what else the machine does is not the page's.
  let view = Infinity;
  for (let load = 0; load < 3; load++) {
    if (load > 0) await page.reload();
    await page.waitForFunction(() => window.firstView !== undefined);
    view = Math.min(view, await page.evaluate(() => window.firstView));
  }
  await page.locator("#map canvas").waitFor();
  console.log(`# first view ${Math.round(view)} ms after the address; cold start to the total: ${Date.now() - began} ms with the browser's tab; first paint ${Math.round(painted)} ms; ${loaded} bytes`);
  assert.ok(view <= 1000, `first view after ${view} ms`);
  assert.ok(loaded > 50_000 && loaded <= 1 << 20, `${loaded} bytes`);
  await context.close();
});

test("500 viewers cost the database what one does, and none is two seconds behind", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const statements = async () => Number(/statements_total (\d+)/.exec(await (await fetch(`${server.url}/metrics`)).text())[1]);
  const measure = async (viewers) => {
    let worst = 0;
    let frames = 0;
    const first = new Map();
    const sockets = [];
    for (let i = 0; i < viewers; i++) {
      sockets.push(get(`${server.url}/api/v1/events`, { agent: false }, (response) => {
        let rest = "";
        response.on("error", () => {});
        response.on("data", (chunk) => {
          rest += chunk;
          const events = rest.split("\n\n");
          rest = events.pop();
          for (const event of events) {
            const commit = /^event: frame\ndata: \{"commits":(\d+)/.exec(event)?.[1];
            if (!commit) continue;
            frames++;
            if (!first.has(commit)) first.set(commit, Date.now());
            worst = Math.max(worst, Date.now() - first.get(commit));
          }
        });
      }).on("error", () => {}));
    }
    await until("viewers", async () => (await (await fetch(`${server.url}/metrics`)).text()).includes(`board_viewers ${viewers}\n`), 20_000);
    const [before, began] = [await statements(), Date.now()];
    await commits(path, 20).ended;
    await sleep(500);
    const rate = ((await statements()) - before) / ((Date.now() - began) / 1000);
    for (const socket of sockets) socket.destroy();
    assert.ok(frames >= viewers * 5, `${frames} frames for ${viewers} viewers`);
    return { rate, worst };
  };
  const one = await measure(1);
  await until("nobody", async () => (await (await fetch(`${server.url}/metrics`)).text()).includes("board_viewers 0\n"));
  const many = await measure(500);
  console.log(`# statements a second: 1 viewer ${one.rate.toFixed(1)}, 500 viewers ${many.rate.toFixed(1)}; slowest viewer ${many.worst} ms behind the first`);
  assert.ok(many.rate <= one.rate * 1.2, "the database is asked as often for 500 as for one");
  assert.ok(many.worst <= 2000, `${many.worst} ms behind`);
});

test("the browser's memory stays flat", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const { page, context } = await open(browser, server.url);
  const seconds = Number(process.env.WINDLASS_TEST_BOARD_SOAK ?? 180);
  const client = await context.newCDPSession(page);
  const heap = async () => {
    await client.send("HeapProfiler.collectGarbage");
    return (await client.send("Runtime.getHeapUsage")).usedSize / (1 << 20);
  };
  const writer = commits(path, seconds * 4);
  await sleep(Math.min(20_000, seconds * 300));
  const early = await heap();
  await writer.ended;
  const late = await heap();
  console.log(`# heap after a start ${early.toFixed(1)} MiB, after ${seconds} s ${late.toFixed(1)} MiB`);
  assert.ok(late < early + 8, `${early} to ${late} MiB`);
  await context.close();
});

test("five minutes out of a million rows are quick to read", async (t) => {
  const path = store(null);
  const rows = Number(process.env.WINDLASS_TEST_BOARD_ROWS ?? 1_000_000);
  const first = Number(seed(path, "bulk", rows));
  const server = await board(path);
  t.after(() => server.stop());
  const took = [];
  for (let i = 0; i < 120; i++) {
    const from = first + ((i * 7919) % Math.max(1, Math.floor(rows / 34) - 300)) * 1000;
    const began = performance.now();
    const answer = await (await fetch(`${server.url}/api/v1/gmv?from=${from}&to=${from + 300_000}&step=minute`)).text();
    took.push(performance.now() - began);
    assert.ok(answer.includes("Zhejiang"));
  }
  took.sort((a, b) => a - b);
  console.log(`# five minutes of ${rows} rows by minute: p50 ${took[60].toFixed(1)} ms, p99 ${took[118].toFixed(1)} ms`);
  const limit = Number(process.env.WINDLASS_TEST_BOARD_API_MS ?? 200);
  assert.ok(took[118] <= limit, `p99 ${took[118]} ms, limit ${limit} ms`);
});
