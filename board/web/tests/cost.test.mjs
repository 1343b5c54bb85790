// What the board costs: its first view, its viewers, its memory, and how fast it reads a large store.
import assert from "node:assert/strict";
import { get } from "node:http";
import { after, before, test } from "node:test";
import { PROVINCES, board, commits, freePort, launch, open, seed, shownTotal, sleep, store, until, windlass } from "./harness.mjs";
import { LOAD, bulk, commitClock, dispatch, publish, servers, statementsOf } from "./servers.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

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

/** Event streams that note when each frame came to each of them, and to how many it did. */
function watch(url, viewers) {
  const seen = { frames: 0, worst: 0, first: new Map(), last: new Map(), viewers: new Map() };
  const sockets = Array.from({ length: viewers }, () =>
    get(`${url}/api/v1/events`, { agent: false }, (response) => {
      let rest = "";
      response.on("error", () => {});
      response.on("data", (chunk) => {
        rest += chunk;
        const events = rest.split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const commit = Number(/^event: frame\ndata: \{"commits":(\d+)/.exec(event)?.[1]);
          if (!commit) continue;
          const now = Date.now();
          seen.frames++;
          if (!seen.first.has(commit)) seen.first.set(commit, now);
          seen.last.set(commit, now);
          seen.viewers.set(commit, (seen.viewers.get(commit) ?? 0) + 1);
          seen.worst = Math.max(seen.worst, now - seen.first.get(commit));
        }
      });
    }).on("error", () => {}),
  );
  return { ...seen, seen, close: () => sockets.forEach((socket) => socket.destroy()) };
}

const metrics = async (url) => (await fetch(`${url}/metrics`)).text();
const watched = (url, viewers) => until(`${viewers} viewers`, async () => (await metrics(url)).includes(`board_viewers ${viewers}\n`), 20_000);
const statements = async (url) => Number(/statements_total (\d+)/.exec(await metrics(url))[1]);

test("500 viewers cost the database what one does, and none is two seconds behind", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const measure = async (viewers) => {
    const { seen, close } = watch(server.url, viewers);
    await watched(server.url, viewers);
    const [before, began] = [await statements(server.url), Date.now()];
    await commits(path, 20).ended;
    await sleep(500);
    const rate = ((await statements(server.url)) - before) / ((Date.now() - began) / 1000);
    close();
    assert.ok(seen.frames >= viewers * 5, `${seen.frames} frames for ${viewers} viewers`);
    return { rate, worst: seen.worst };
  };
  const one = await measure(1);
  await watched(server.url, 0);
  const many = await measure(500);
  console.log(`# statements a second: 1 viewer ${one.rate.toFixed(1)}, 500 viewers ${many.rate.toFixed(1)}; slowest viewer ${many.worst} ms behind the first`);
  assert.ok(many.rate <= one.rate * 1.2, "the database is asked as often for 500 as for one");
  assert.ok(many.worst <= 2000, `${many.worst} ms behind`);
});

test("beside the pipeline at 20,000 orders a second no viewer of 500 is two seconds behind", async (t) => {
  const site = servers(t);
  if (!site) return;
  const common = await dispatch(site);
  const server = await board(null, { replica: site.replica, args: common });
  t.after(() => server.stop());
  const seconds = Number(process.env.WINDLASS_TEST_BOARD_SECONDS ?? 30);
  const rate = Number(process.env.WINDLASS_TEST_BOARD_RATE ?? 20_000);
  const clock = commitClock(site.database);
  const publisher = publish(site, rate, seconds, ...LOAD);
  const published = new Promise((resolve) => publisher.on("exit", resolve));
  await until("a commit", () => clock.first.size > 0, 20_000);
  const { seen, close } = watch(server.url, 500);
  await watched(server.url, 500);
  // What was sent while they came is not for all of them.
  await sleep(1000);
  const early = new Set(seen.first.keys());
  assert.equal(await published, 0);
  await sleep(500);
  close();
  await clock.stop();
  // A frame is of the newest commit; those that it overtook came with it.
  const behind = [...seen.last].flatMap(([commit, at]) => (clock.first.has(commit) ? [at - clock.first.get(commit)] : []));
  behind.sort((a, b) => a - b);
  const p99 = behind[Math.floor(behind.length * 0.99)];
  console.log(`# ${rate} orders/s for ${seconds} s, 500 viewers: the last one had a commit after p50 ${behind[behind.length >> 1]} ms, p99 ${p99} ms, at most ${behind.at(-1)} ms of ${behind.length} frames; at most ${seen.worst} ms behind the first`);
  assert.ok(behind.length > seconds / 2, `${behind.length} frames`);
  const missed = [...seen.viewers].filter(([commit, viewers]) => !early.has(commit) && viewers !== 500);
  assert.deepEqual(missed, [], "every frame came to every viewer");
  const limit = Number(process.env.WINDLASS_TEST_BOARD_BEHIND_MS ?? 2_000);
  assert.ok(behind.at(-1) <= limit, `${behind.at(-1)} ms behind, limit ${limit} ms`);
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
  const began = Date.now();
  const writer = commits(path, seconds * 4);
  await sleep(Math.min(20_000, seconds * 300));
  const early = await heap();
  await writer.ended;
  const late = await heap();
  console.log(`# heap after a start ${early.toFixed(1)} MiB, after ${seconds * 4} commits in ${Math.round((Date.now() - began) / 1000)} s ${late.toFixed(1)} MiB`);
  assert.ok(late < early + 8, `${early} to ${late} MiB`);
  await context.close();
});

const ROWS = Number(process.env.WINDLASS_TEST_BOARD_ROWS ?? 1_000_000);
// An unoptimised build on a busy machine; reading all rows would take longer still.
const API_MS = Number(process.env.WINDLASS_TEST_BOARD_API_MS ?? 1_000);

/**
 * Asks for windows as a page and a replay do. For reference it first asks for an answer of three bytes: how
 * long a processor has to be waited for.
 */
async function quick(url, first, seconds) {
  const end = first + seconds * 1000;
  const past = (i) => first + ((i * 7919) % Math.max(1, seconds - 700)) * 1000;
  const gmv = (from, step) => `/api/v1/gmv?from=${from}&to=${from + 300_000}&step=${step}`;
  const cases = [
    ["for reference, three bytes", () => "/healthz", "ok"],
    ["the last five minutes by second", () => gmv(end - 300_000, "second"), "Zhejiang"],
    ["the last five minutes by minute", () => gmv(end - 300_000, "minute"), "Zhejiang"],
    ["five minutes of the past by second", (i) => gmv(past(i), "second"), "Zhejiang"],
    ["five minutes of the past by minute", (i) => gmv(past(i), "minute"), "Zhejiang"],
  ];
  for (const [what, path, holds] of cases) {
    const took = [];
    for (let i = 0; i < 200; i++) {
      const began = performance.now();
      const text = await (await fetch(url + path(i))).text();
      took.push(performance.now() - began);
      assert.ok(text.includes(holds), text.slice(0, 200));
    }
    took.sort((a, b) => a - b);
    const p99 = took[Math.floor(took.length * 0.99)];
    console.log(`# ${what}, of ${seconds * PROVINCES.length} rows: p50 ${took[took.length >> 1].toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
    assert.ok(p99 <= API_MS, `${what}: p99 ${p99} ms, limit ${API_MS} ms`);
  }
}

test("five minutes out of a million rows of SQLite are quick to read", async (t) => {
  const path = store(null);
  const first = Number(seed(path, "bulk", ROWS));
  const server = await board(path);
  t.after(() => server.stop());
  await quick(server.url, first, Math.floor(ROWS / PROVINCES.length));
});

test("five minutes out of a million rows of MariaDB are quick to read, and nothing reads them all", async (t) => {
  const large = bulk(t, ROWS);
  if (!large) return;
  const asked = statementsOf(t, large.database);
  const port = await freePort();
  const began = Date.now();
  const server = await board(null, { replica: large.url, port });
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url);
  await until("a total", async () => (await shownTotal(page)) !== null);
  const total = Date.now() - began;
  const view = await page.evaluate(() => window.firstView);
  const whole = Date.now();
  const rows = JSON.parse(windlass("query", "gmv", "--last", "60s", "--store", large.url, "--format", "json")).rows;
  console.log(`# of ${ROWS} rows: a board that was just started shows the total after ${total} ms, ${Math.round(view)} ms after the address; query gmv --last 60s ${Date.now() - whole} ms`);
  assert.equal(rows.length, 60 * PROVINCES.length);
  await context.close();
  assert.deepEqual(wrong, []);
  await quick(server.url, large.first, large.seconds);
  const view60 = `SELECT * FROM gmv_per_second WHERE window_start >= TIMESTAMP('${rows[0].window_start}')`;
  const plans = asked.plans([view60]);
  assert.ok(plans.length >= 5, `${plans.length} statements read the results`);
  for (const { statement, table, type, key, rows: read } of plans) {
    // By the key up to the window's start: by stream and query alone it would be all rows.
    assert.ok(key === "PRIMARY" && type === "range" && read < 100_000, `${table}: ${type} by ${key}, about ${read} rows: ${statement}`);
  }
});

test("the last minutes from memory equal what the store gives", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  let newest = null;
  while (newest === null) {
    newest = (await (await fetch(`${server.url}/api/v1/status`)).json()).newest_window;
    await sleep(50);
  }
  for (const step of ["second", "minute"]) {
    const ask = async (from) => {
      const answer = await fetch(`${server.url}/api/v1/gmv?from=${from}&to=${newest + 1000}&step=${step}`);
      return (await answer.json()).rows;
    };
    const kept = await ask(newest - 300_000);
    assert.ok(kept.length >= 34 * (step === "second" ? 120 : 2), `${kept.length} rows`);
    // From further back than is kept: the database is asked.
    assert.deepEqual(await ask(newest - 3_600_000), kept);
  }
});
