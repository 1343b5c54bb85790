// What the board costs: its first view, its viewers, its memory, and how fast it reads a large store.
import assert from "node:assert/strict";
import { Agent, get } from "node:http";
import { after, before, test } from "node:test";
import { PROVINCES, board, commits, freePort, launch, open, seed, shownTotal, sleep, stalls, store, until, windlass } from "./harness.mjs";
import { LOAD, bulk, commitClock, dispatch, publish, servers, statementsOf } from "./servers.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

test("from a cold server to a new browser the first view takes at most a second, and the bundle a megabyte", async () => {
  const path = store("all");
  const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
  const loads = [];
  for (let load = 0; load < 5; load++) {
    const server = await board(path);
    const fresh = await launch();
    try {
      const { page } = await open(fresh, server.url);
      await page.waitForFunction(() => window.firstView !== undefined && window.chartsView !== undefined);
      loads.push(
        await page.evaluate(() => ({
          paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity,
          figures: window.firstView,
          charts: window.chartsView,
          bytes: performance.getEntriesByType("resource").reduce((all, r) => all + (r.initiatorType === "other" ? 0 : r.encodedBodySize), 0),
        })),
      );
    } finally {
      await fresh.close();
      await server.stop();
    }
  }
  const of = (what) => Math.round(median(loads.map((load) => load[what])));
  console.log(`# from the address, a new server and a new browser each time, median of ${loads.length}: first paint ${of("paint")} ms, the figures ${of("figures")} ms, the charts ${of("charts")} ms; ${of("bytes")} bytes`);
  assert.ok(of("charts") <= 1000 && of("figures") <= 1000, `first view: ${JSON.stringify(loads)}`);
  assert.ok(of("bytes") > 50_000 && of("bytes") <= 1 << 20, `${of("bytes")} bytes`);
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
  return { seen, close: () => sockets.forEach((socket) => socket.destroy()) };
}

const metrics = async (url) => (await fetch(`${url}/metrics`)).text();
const watched = (url, viewers) => until(`${viewers} viewers`, async () => (await metrics(url)).includes(`board_viewers ${viewers}\n`), 20_000);
const statements = async (url) => Number(/statements_total (\d+)/.exec(await metrics(url))[1]);

test("500 viewers cost the database what one does, and none is two seconds behind", async (t) => {
  const path = store("all");
  const servers = [await board(path), await board(path)];
  t.after(() => Promise.all(servers.map((server) => server.stop())));
  // Both at once, so that what else the machine does is the same for both.
  const [one, many] = [1, 500].map((viewers, at) => ({ viewers, url: servers[at].url, ...watch(servers[at].url, viewers) }));
  await Promise.all([one, many].map(({ url, viewers }) => watched(url, viewers)));
  const asked = () => Promise.all([one, many].map(({ url }) => statements(url)));
  const [before, began] = [await asked(), Date.now()];
  await commits(path, 20).ended;
  await sleep(500);
  const rates = (await asked()).map((count, at) => (count - before[at]) / ((Date.now() - began) / 1000));
  for (const { seen, viewers, close } of [one, many]) {
    close();
    assert.ok(seen.frames >= viewers * 5, `${seen.frames} frames for ${viewers} viewers`);
  }
  console.log(`# statements a second: 1 viewer ${rates[0].toFixed(1)}, 500 viewers ${rates[1].toFixed(1)}; slowest viewer ${many.seen.worst} ms behind the first`);
  assert.ok(rates[1] <= rates[0] * 1.2, "the database is asked as often for 500 as for one");
  assert.ok(many.seen.worst <= 2000, `${many.seen.worst} ms behind`);
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
  const observed = stalls();
  const publisher = publish(site, rate, seconds, ...LOAD);
  const published = new Promise((resolve) => publisher.on("exit", resolve));
  await until("a commit", () => clock.first.size > 0, 20_000);
  const { seen, close } = watch(server.url, 500);
  await watched(server.url, 500);
  // What was sent while they came is not for all of them.
  await sleep(1000);
  const early = new Set(seen.first.keys());
  assert.equal(await published, 0);
  await clock.stop();
  const newest = Math.max(...clock.first.keys());
  await until("the last commit", async () => (await (await fetch(`${server.url}/api/v1/totals`)).json()).commits >= newest, 5_000);
  await sleep(500);
  // Windows close after the last order, too, and a frame of one may be on its way: the streams end in the very turn
  // in which every viewer has every frame.
  const missed = () => [...seen.viewers].filter(([commit, viewers]) => !early.has(commit) && viewers !== 500);
  await until("every frame came to every viewer", () => missed().length === 0 && (close(), true), 5_000).catch((error) => {
    close();
    throw new Error(`${error.message}: ${JSON.stringify(missed())}`);
  });
  // A frame is of the newest commit; those that it overtook came with it.
  const frames = [...seen.last.keys()].sort((a, b) => a - b);
  const { within, stalled } = await observed();
  const behind = [];
  let unseen = 0;
  for (const [commit, at] of clock.first) {
    if (commit < Math.min(...frames.filter((frame) => !early.has(frame)))) continue;
    const frame = frames.find((frame) => frame >= commit);
    // What changed nothing that is shown has no frame, and after the last one none that it came with.
    if (frame === undefined) unseen++;
    else behind.push(Math.max(0, seen.last.get(frame) - at - within(at, seen.last.get(frame))));
  }
  assert.ok(stalled <= 200 * seconds, `the machine stood still for ${stalled} ms`);
  assert.ok(unseen <= 2, `${unseen} commits after the last frame`);
  behind.sort((a, b) => a - b);
  const p99 = behind[Math.floor(behind.length * 0.99)];
  console.log(`# ${rate} orders/s for ${seconds} s, 500 viewers: the last one had a commit after p50 ${behind[behind.length >> 1]} ms, p99 ${p99} ms, at most ${behind.at(-1)} ms of ${behind.length} commits, which came in ${frames.length} frames; at most ${seen.worst} ms behind the first; in ${stalled} ms of it the machine let nobody run`);
  assert.ok(behind.length > seconds / 2, `${behind.length} commits`);
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
// A bound for what a database does, in an unoptimised build on a busy machine.
const SLOW_MS = 1_000;
// The goal of the API's last five minutes for those who measure. Else it is an unoptimised build beside other
// tests: twice that and five times the p99 of the reference, which is how long a processor has to be waited for;
// and the best of five rounds, since a machine that stalls spoils one, a slower board all of them.
const MEASURING = Boolean(process.env.WINDLASS_TEST_BOARD_ROWS);
const GOAL_MS = MEASURING ? 20 : 40;
const WAITS = MEASURING ? 0 : 5;
const ROUNDS = MEASURING ? 1 : 5;

/** An answer as bytes: what it takes to make text or rows of it is its reader's. */
const ask = (agent, url) =>
  new Promise((resolve, reject) => {
    get(url, { agent }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve(parts));
      response.on("error", reject);
    }).on("error", reject);
  });

/** Asks for windows as a page and a replay do, and each time, for reference, for an answer of three bytes. */
async function quick(url, first, seconds) {
  const end = first + seconds * 1000;
  const past = (i) => first + ((i * 7919) % Math.max(1, seconds - 700)) * 1000;
  const gmv = (from, step) => `/api/v1/gmv?from=${from}&to=${from + 300_000}&step=${step}`;
  const cases = [
    ["the last five minutes by second", () => gmv(end - 300_000, "second"), "Zhejiang", 1_000, GOAL_MS],
    ["the last five minutes of a province by second", () => `${gmv(end - 300_000, "second")}&province=Zhejiang`, "Zhejiang", 1_000, GOAL_MS],
    ["the last five minutes by minute", () => gmv(end - 300_000, "minute"), "Zhejiang", 1_000, GOAL_MS],
    ["five minutes of the past by second", (i) => gmv(past(i), "second"), "Zhejiang", 200, SLOW_MS],
    ["five minutes of the past by minute", (i) => gmv(past(i), "minute"), "Zhejiang", 200, SLOW_MS],
  ];
  const agent = new Agent({ keepAlive: true });
  const timed = async (path, holds) => {
    const began = performance.now();
    const parts = await ask(agent, url + path);
    const took = performance.now() - began;
    assert.ok(parts.some((part) => part.includes(holds)), `${path}: ${parts[0]?.subarray(0, 200)}`);
    return took;
  };
  const at = (values, share) => [...values].sort((a, b) => a - b)[Math.floor(values.length * share)];
  const slow = [];
  for (const [what, path, holds, times, bound] of cases) {
    const rounds = [];
    for (let round = 0; round < ROUNDS; round++) {
      const [took, waited] = [[], []];
      for (let i = round; i < times; i += ROUNDS) {
        took.push(await timed(path(i), holds));
        waited.push(await timed("/healthz", "ok"));
      }
      rounds.push({ p50: at(took, 0.5), p99: at(took, 0.99), reference: [0.5, 0.99].map((share) => at(waited, share).toFixed(1)), limit: bound + (bound === GOAL_MS ? WAITS * at(waited, 0.99) : 0) });
    }
    const [{ p50, p99, reference, limit }] = rounds.sort((a, b) => a.p99 - b.p99);
    const figures = `${what}, of ${seconds * PROVINCES.length} rows: p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms of ${times / ROUNDS}`;
    console.log(`# ${figures}; three bytes p50 and p99 ${reference.join(" and ")} ms; limit ${limit.toFixed(0)} ms`);
    if (p99 > limit) slow.push(figures);
  }
  agent.destroy();
  assert.deepEqual(slow, [], "slower than the limit");
}

/** Reads that take long are ended, blame nobody and keep no short one waiting. */
async function bounded(replica, first, seconds, t) {
  const server = await board(null, { replica, args: ["--read-limit", "5s"] });
  t.after(() => server.stop());
  await until("a total", async () => (await fetch(`${server.url}/api/v1/totals`)).status === 200);
  const all = `/api/v1/gmv?from=${first}&to=${first + seconds * 1000}&step=hour`;
  const given = new AbortController();
  let ended = 0;
  const long = Array.from({ length: 5 }, () => fetch(server.url + all, { signal: given.signal }).catch(() => null).finally(() => ended++));
  await sleep(50);
  const some = await fetch(`${server.url}/api/v1/gmv?from=${first + 5_000}&to=${first + 65_000}&step=second`);
  assert.equal(some.status, 200);
  assert.equal((await some.json()).rows.length, 60 * PROVINCES.length);
  assert.equal(ended, 0, "a replay does not wait for those who read more");
  given.abort();
  await Promise.all(long);

  const strict = await board(null, { replica, args: ["--read-limit", "50ms"] });
  t.after(() => strict.stop());
  await until("a total", async () => (await fetch(`${strict.url}/api/v1/totals`)).status === 200);
  const refused = await fetch(strict.url + all);
  assert.equal(refused.status, 503);
  assert.match((await refused.json()).error, /^expected a read that the database does in 50ms, got a longer one: ask for a shorter time/);
  const { troubles, replicas } = await (await fetch(`${strict.url}/api/v1/status`)).json();
  assert.deepEqual([troubles.filter((it) => it.kind !== "stale"), replicas[0].skipped], [[], null]);
}

test("five minutes out of a million rows of SQLite are quick to read", async (t) => {
  const path = store(null);
  const first = Number(seed(path, "bulk", ROWS));
  const server = await board(path);
  t.after(() => server.stop());
  await quick(server.url, first, Math.floor(ROWS / PROVINCES.length));
  await bounded(`sqlite:${path}`, first, Math.floor(ROWS / PROVINCES.length), t);
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
  await bounded(large.url, large.first, large.seconds, t);
});

test("the last minutes from memory equal what the store gives", async (t) => {
  // The newest window 80 s into an hour, so that the hour is short enough to be kept.
  const into = Math.floor(Date.now() / 1000 - 80) % 3600;
  const path = store("all", into);
  const server = await board(path);
  t.after(() => server.stop());
  let newest = null;
  while (newest === null) {
    newest = (await (await fetch(`${server.url}/api/v1/status`)).json()).newest_window;
    await sleep(50);
  }
  const hour = newest - (newest % 3_600_000);
  for (const province of [null, "Zhejiang"]) {
    for (const [step, since, steps] of [["second", newest - 300_000, 120], ["minute", newest - 300_000, 2], ["hour", hour, 1]]) {
      const ask = async (from) => {
        const query = new URLSearchParams({ from, to: newest + 1000, step, ...(province && { province }) });
        return (await (await fetch(`${server.url}/api/v1/gmv?${query}`)).json()).rows;
      };
      const kept = await ask(since);
      assert.ok(kept.length >= steps * (province ? 1 : PROVINCES.length), `${kept.length} rows by ${step}`);
      // From further back than is kept: the database is asked.
      const read = (await ask(hour - 3_600_000)).filter((row) => Date.parse(`${row.start.replace(" ", "T")}Z`) >= since);
      assert.deepEqual(kept, read, `by ${step}, ${province}`);
    }
  }
});
