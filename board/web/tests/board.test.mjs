// The page in a real browser against the real program.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { PROGRAM, PROVINCES, SHOTS, board, cents, commits, download, end, freePort, grouped, launch, open, placingDispatcher, scaler, seed, seenTotal, shownTotal, sleep, stalls, store, sum, totals, until, windlass } from "./harness.mjs";
import { LOAD, commitClock, dispatch, publish, servers } from "./servers.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Waits until the page knows how old the newest window is, which comes with the first status. */
const aged = (page) => page.locator("[data-fact=age]", { hasText: /\d/ }).waitFor();

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
  // The second feed may begin some frames after the page's own.
  const untrue = seen.slice(seen.findIndex((value) => told.has(value))).filter((value) => !told.has(value));
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
  const common = await dispatch(site);
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
  const watched = stalls();
  const seconds = process.env.WINDLASS_TEST_BOARD_SECONDS ?? "60";
  const rate = process.env.WINDLASS_TEST_BOARD_RATE ?? "20000";
  const publisher = publish(site, rate, seconds, ...LOAD);
  assert.equal(await new Promise((resolve) => publisher.on("exit", resolve)), 0);
  await sleep(500);
  await clock.stop();
  const { within, stalled } = await watched();
  const query = (...args) => JSON.parse(windlass("query", ...args, "--store", site.primary, "--config", site.config, "--format", "json")).rows;
  const published = Number(rate) * Number(seconds);
  await until("all orders counted", async () => query("totals").reduce((all, row) => all + row.orders, 0) >= published, 60_000);
  const truth = query("totals");
  await until("the screen's total", async () => cents(await shownTotal(page)) === sum(truth));
  const shownAt = await page.evaluate(() => window.shownAt);
  const behind = [];
  let unseen = 0;
  for (const [commit, at] of clock.first) {
    const shown = shownAt.find(([held]) => held >= commit);
    if (shown) behind.push(Math.max(0, shown[1] - at - within(at, shown[1])));
    else unseen++;
  }
  behind.sort((a, b) => a - b);
  const p99 = behind[Math.floor(behind.length * 0.99)];
  console.log(`# ${rate} orders/s for ${seconds} s: commit to screen p50 ${behind[behind.length >> 1]} ms, p99 ${p99} ms of ${behind.length} commits; in ${stalled} ms of it the machine let nobody run`);
  assert.ok(behind.length > Number(seconds) / 2, `${behind.length} commits`);
  assert.ok(stalled <= 200 * Number(seconds), `the machine stood still for ${stalled} ms`);
  // What changed nothing that is shown comes with the next frame, and after the last one with none.
  assert.ok(unseen <= 2, `${unseen} commits were never shown`);
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
  const committed = new Set(writer.done.map(([, total]) => total));
  assert.deepEqual(Object.keys(shownAt).filter((total) => !committed.has(total)), [], "every total shown was one that was committed");
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

test("a board that is frozen is said to bring no news, and heals with no gap", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop("SIGKILL"));
  const { page, context, wrong } = await open(browser, server.url, { quiet: true });
  await until("the first total", async () => (await shownTotal(page)) !== null);
  const connection = page.locator("#connection");
  await until("live", async () => (await connection.textContent()) === "live");
  const frozen = Date.now();
  server.child.kill("SIGSTOP");
  await until("the silence is said", async () => (await connection.getAttribute("data-state")) === "silent", 8_000);
  console.log(`# a frozen board was said to bring no news after ${Date.now() - frozen} ms`);
  const [, since] = /^no news since (\d\d:\d\d:\d\d)$/.exec(await connection.textContent());
  const off = Date.parse(`${new Date(frozen).toISOString().slice(0, 11)}${since}Z`) - frozen;
  assert.ok(off > -3_000 && off < 2_000, `since ${since}, frozen at ${new Date(frozen).toISOString()}`);
  await page.locator("#lang").click();
  assert.equal(await connection.textContent(), `无新消息 自 ${since}`);
  await page.locator("#lang").click();
  const missed = commits(path, 3);
  await missed.ended;
  server.child.kill("SIGCONT");
  await until("healed", async () => (await shownTotal(page)) === missed.done.at(-1)[1] && (await connection.textContent()) === "live", 8_000);
  assert.equal(await page.locator("#seconds").getAttribute("aria-label"), `${(await page.locator("#seconds-title").textContent())}: ${120 + 3}`, "no gap and no double in the chart");
  await context.close();
  assert.deepEqual(wrong, []);
});

test("orders a second are those of the last second, and none once the stream has ended", async (t) => {
  const rate = (page) => page.locator("[data-fact=rate]").textContent();
  const fresh = store(null);
  const live = await board(fresh);
  t.after(() => live.stop());
  const going = await open(browser, live.url);
  await until("no total", async () => (await shownTotal(going.page)) === "0.00");
  seed(fresh, "all", 0);
  const rows = JSON.parse(windlass("query", "gmv", "--store", `sqlite:${fresh}`, "--last", "1h", "--format", "json")).rows;
  const last = rows.filter((row) => row.window_start === rows.at(-1).window_start && row.state !== "open");
  await until("the rate", async () => Number((await rate(going.page)).replaceAll(",", "")) === last.reduce((all, row) => all + row.orders, 0));

  const path = store("all", 60);
  const server = await board(path);
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url);
  await until("the total", async () => (await shownTotal(page)) !== null);
  await aged(page);
  assert.equal(await rate(page), "0", "nothing has come for a minute");
  // Old, but coming: a backlog that is worked off.
  await commits(path, 1).ended;
  await until("its rate", async () => (await rate(page)) === String(3 * PROVINCES.length));
  await until("none again", async () => (await rate(page)) === "0", 14_000);
  await until("none here", async () => (await rate(going.page)) === "0", 3_000);
  await going.context.close();
  await context.close();
  assert.deepEqual([...wrong, ...going.wrong], []);
});

test("a second, a minute and the whole run are what the query says, in both languages", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url);
  await page.locator("#ranking li").first().waitFor();
  const rows = JSON.parse(windlass("query", "gmv", "--store", `sqlite:${path}`, "--last", "1h", "--format", "json")).rows;
  const closed = rows.filter((row) => row.state !== "open");
  const starts = [...new Set(closed.map((row) => row.window_start))];
  const byProvince = (some) => {
    const sums = new Map();
    for (const row of some) sums.set(row.province, (sums.get(row.province) ?? 0n) + cents(row.gmv));
    return [...sums].sort();
  };
  const last = (seconds) => byProvince(closed.filter((row) => starts.slice(-seconds).includes(row.window_start)));
  for (const [scope, truth] of [["second", last(1)], ["minute", last(60)], ["run", byProvince(totals(path))]]) {
    await page.locator(`[data-scope=${scope}]`).click();
    assert.ok(page.url().includes(`scope=${scope}`), page.url());
    const shown = await page.locator("#ranking li").evaluateAll((items) => items.map((li) => [li.dataset.province, li.dataset.gmv]));
    assert.deepEqual(shown.map(([province, gmv]) => [province, cents(gmv)]).sort(), truth, scope);
    assert.deepEqual(shown.map(([, gmv]) => gmv), shown.map(([, gmv]) => gmv).sort((a, b) => Number(cents(b) - cents(a))), "the first has sold most");
  }
  const whole = sum(totals(path)).toString();
  const seen = grouped(`${whole.slice(0, -2)}.${whole.slice(-2)}`);
  await until("the digits", async () => (await seenTotal(page)) === seen);
  const one = totals(path).find((row) => row.province === "Neimenggu");
  await page.locator("#ranking li[data-province=Neimenggu] button").hover();
  const bare = (text) => text.replaceAll(",", "");
  assert.equal(bare(await page.locator("#hover").textContent()), `Inner Mongolia · Sales ${one.gmv} · Orders ${one.orders} · Mean ${one.mean} · Min ${one.min_amount} · Max ${one.max_amount}`);
  // The map itself: the pointer on its largest outline, which is Xinjiang's.
  const box = await page.locator("#map").boundingBox();
  await until("the map's own figures", async () => {
    await page.mouse.move(box.x + box.width * (0.15 + 0.1 * Math.random()), box.y + box.height * (0.3 + 0.1 * Math.random()));
    return /^Xinjiang · Sales/.test(await page.locator("#hover").textContent());
  });
  await page.locator("#lang").click();
  assert.match(await page.locator("#hover").textContent(), /^新疆 · /);
  assert.equal(await page.locator("#ranking li[data-province=Neimenggu] .name").textContent(), "内蒙古");
  assert.equal(await seenTotal(page), seen);
  await commits(path, 1).ended;
  await until("the next total", async () => cents(await shownTotal(page)) === sum(totals(path)));
  await until("its digits", async () => (await seenTotal(page)) === grouped(await shownTotal(page)));
  assert.ok(page.url().includes("lang=zh"));
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
  const rows = (await download(page)).filter((row) => row.part === "province (run)");
  const shown = await page.locator("#ranking li").evaluateAll((items) => items.map((li) => [li.dataset.province.replace(/^=/, "'="), li.dataset.gmv]));
  assert.deepEqual(rows.map((row) => [row.province, row.gmv]).sort(), shown.sort(), "with a formula defused");
  await context.close();
  assert.deepEqual(wrong, []);
});

test("a link to a minute of the past replays it", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const at = Math.floor((Date.now() - 70_000) / 60_000) * 60_000;
  const { page, context, wrong } = await open(browser, server.url, { query: { at: new Date(at).toISOString() } });
  await until("the replay", async () => (await page.locator("#connection").getAttribute("data-state")) === "replay");
  // It knows its minute, not the whole run up to then.
  const spans = () => page.locator("[data-scope]:visible").evaluateAll((buttons) => buttons.map((button) => [button.textContent, button.ariaPressed]));
  assert.deepEqual(await spans(), [["Second", "false"], ["Minute", "true"]]);
  await page.locator("#position").fill("59");
  const answer = await (await fetch(`${server.url}/api/v1/gmv?from=${at}&to=${at + 60_000}&step=second`)).json();
  await until("the whole minute", async () => cents(await shownTotal(page)) === sum(answer.rows));
  const rows = (await download(page)).filter((row) => row.part === "province (minute)");
  const minute = await (await fetch(`${server.url}/api/v1/gmv?from=${at}&to=${at + 60_000}&step=minute`)).json();
  const row = (it) => [it.province, it.orders, it.gmv, it.mean, it.min_amount, it.max_amount].join(",");
  assert.deepEqual(rows.map(row).sort(), minute.rows.map(row).sort(), "added up as the database does");
  assert.ok(page.url().includes("at="));
  await page.locator("#to-live").click();
  assert.deepEqual(await spans(), [["Second", "false"], ["Minute", "false"], ["All", "true"]]);
  await until("live again", async () => cents(await shownTotal(page)) === sum(totals(path)));
  assert.ok(!page.url().includes("at="));
  await context.close();
  assert.deepEqual(wrong, []);
});

test("a link holds where a replay stands, and what is beside it is of now", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const at = Math.floor((Date.now() - 70_000) / 60_000) * 60_000;
  const link = { at: new Date(at).toISOString(), second: "37", paused: "1", province: "Neimenggu", scope: "minute" };
  const { page, context, wrong } = await open(browser, server.url, { query: link });
  const position = (page) => page.locator("#position").inputValue();
  await until("the replay", async () => (await page.locator("#connection").getAttribute("data-state")) === "replay");
  const answer = await (await fetch(`${server.url}/api/v1/gmv?from=${at}&to=${at + 38_000}&step=second`)).json();
  const then = async (page) => [await position(page), cents(await shownTotal(page)), await page.locator("#hover").textContent()];
  const told = await then(page);
  assert.deepEqual(told.slice(0, 2), ["37", sum(answer.rows)]);
  assert.match(told[2], /^Inner Mongolia · Sales \d/);
  assert.equal(await page.locator("#ranking [aria-current=true]").count(), 1);
  // What is beside it goes on, and says that it is of now.
  await aged(page);
  assert.equal(await page.locator("#fresh-title").textContent(), "Freshness now, not in the replay");
  const age = page.locator("[data-fact=age]");
  const before = await age.textContent();
  await until("a later age", async () => (await age.textContent()) !== before, 5_000);
  assert.deepEqual(await then(page), told, "a replay that is paused stands still");
  // It goes on where it stood, and the address with it.
  await page.locator("#play").click();
  await until("the next second", async () => Number(await position(page)) > 37);
  await page.locator("#play").click();
  await page.locator("#ranking li[data-province=Hainan] button").click();
  const [url, here] = [new URL(page.url()), await then(page)];
  assert.equal(url.searchParams.get("second"), here[0]);
  const other = await open(browser, server.url, { query: Object.fromEntries(url.searchParams) });
  await until("the same for somebody else", async () => (await other.page.locator("#connection").getAttribute("data-state")) === "replay");
  assert.deepEqual(await then(other.page), here);
  await other.page.keyboard.press("Escape");
  assert.ok(!other.page.url().includes("province="), "nothing is chosen any more");
  await other.page.locator("[data-view=operations]").click();
  assert.match(await other.page.locator("#connection").textContent(), /^replay \d\d:\d\d:\d\d · operations are those of now$/);
  await other.context.close();
  await context.close();
  assert.deepEqual([...wrong, ...other.wrong], []);
});

test("the focus stays with its province when the ranking is re-ordered", async (t) => {
  const path = store("all");
  const server = await board(path);
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url);
  const places = () => page.locator("#ranking li").evaluateAll((items) => items.map((li) => [li.dataset.province, li.querySelector(".place").textContent]));
  await until("the ranking", async () => (await places()).at(-1)?.[0] === "Zhejiang");
  const focused = () => page.evaluate(() => document.activeElement.closest("li")?.dataset.province);
  await page.locator("#ranking li[data-province=Zhejiang] button").focus();
  await page.evaluate(() => {
    window.blurred = 0;
    document.activeElement.addEventListener("blur", () => window.blurred++);
  });
  seed(path, "boost");
  await until("the first place", async () => (await places())[0][0] === "Zhejiang");
  assert.deepEqual((await places()).map(([, place]) => Number(place)), PROVINCES.map((_, i) => i + 1));
  const sales = await page.locator("#ranking li").evaluateAll((items) => items.map((li) => li.dataset.gmv));
  assert.deepEqual(sales, [...sales].sort((a, b) => Number(cents(b) - cents(a))));
  assert.equal(await focused(), "Zhejiang");
  assert.equal(await page.evaluate(() => window.blurred), 0, "a reader is not told of it anew");
  // On from its new place.
  await page.keyboard.press("Tab");
  assert.equal(await focused(), (await places())[1][0]);
  await context.close();
  assert.deepEqual(wrong, []);
});

test("the CSV of each view holds all that it shows", async (t) => {
  const path = store("all");
  const dispatcher = await placingDispatcher(t, { paused: "forbidden" });
  scaler(path);
  const server = await board(path, { args: ["--dispatcher", dispatcher] });
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url, { query: { scope: "second" } });
  await page.locator("#ranking li").first().waitFor();
  await aged(page);
  const screen = await download(page);
  const of = (rows, part) => rows.filter((row) => row.part === part);
  assert.equal(of(screen, "total")[0].gmv, await shownTotal(page));
  assert.equal(of(screen, "province (second)").length, PROVINCES.length);
  const drawn = (await page.locator("#seconds").getAttribute("aria-label")).split(": ").at(-1);
  assert.equal(of(screen, "second").length, Number(drawn));
  assert.ok(of(screen, "second").some((row) => Number(row.revision) > 0), "with what was revised");
  assert.equal(of(screen, "freshness")[0].windows_open, await page.locator("[data-fact=open]").textContent());

  await page.locator("[data-view=operations]").click();
  await page.locator(".cell.here").waitFor({ timeout: 20_000 });
  await page.locator("#jobs li").first().waitFor();
  const count = (selector) => page.locator(selector).count();
  const jobs = await count("#jobs li");
  const rows = await download(page);
  assert.ok(of(rows, "moment").length > 0 && of(rows, "moment").every((row) => Number(row.size) >= 4));
  assert.equal(of(rows, "invocation").length, 20);
  assert.ok(of(rows, "job").length >= jobs && of(rows, "job").every((row) => Number(row.started_ms) >= 610));
  assert.equal(of(rows, "choice").length, await count("[data-part=values] li"));
  assert.equal(new Set(of(rows, "q-table").map((row) => row.state)).size, await count(".cell"));
  assert.equal(of(rows, "scaler")[0].action, await page.locator("[data-fact=action]").textContent());
  assert.equal(of(rows, "replica")[0].server, `sqlite:${path}`);
  assert.deepEqual(of(rows, "trouble").map((row) => row.why), ["no Job is created: forbidden"]);
  await context.close();
  assert.deepEqual(wrong, []);
});

test("before a replica has answered, no figure is shown", async (t) => {
  const server = await board(null, { replica: "mysql://nobody@127.0.0.1:1/none" });
  t.after(() => server.stop());
  const { page, context } = await open(browser, server.url, { quiet: true });
  await page.locator("#troubles > *").first().waitFor();
  assert.equal(await shownTotal(page), null);
  await page.locator("[data-fact=late]").waitFor();
  const facts = await page.locator("#facts dd, #fresh dd").evaluateAll((all) => all.map((dd) => [dd.dataset.fact, dd.textContent]));
  assert.deepEqual(facts, ["rate", "orders", "mean", "min", "max", "newest", "age", "lag", "open", "late", "quarantined"].map((fact) => [fact, "–"]));
  const { counted, late, quarantined, windows_open } = await (await fetch(`${server.url}/api/v1/status`)).json();
  assert.deepEqual([counted, late, quarantined, windows_open], [null, null, null, null]);
  assert.equal((await fetch(`${server.url}/api/v1/totals`)).status, 503);
  await context.close();
});

test("everything can be reached by keyboard", async (t) => {
  const path = store("one");
  scaler(path);
  const server = await board(path, { args: ["--dispatcher", await placingDispatcher(t)] });
  t.after(() => server.stop());
  const name = () => (document.activeElement.id || document.activeElement.dataset.view || document.activeElement.dataset.scope || document.activeElement.className).replace(/ .*/, "");
  const walk = async (query, ready, stops) => {
    const { page, context, wrong } = await open(browser, server.url, { query });
    for (const part of ready) await page.locator(part).first().waitFor({ timeout: 20_000 });
    const reached = new Set();
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(name));
      const ring = await page.evaluate(() => document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== "none");
      assert.ok(ring, `${await page.evaluate(name)} does not show that it has the focus`);
    }
    for (const stop of stops) assert.ok(reached.has(stop), `${stop} of ${[...reached]}`);
    return { page, done: async () => (await context.close(), assert.deepEqual(wrong, [])) };
  };
  const header = ["screen", "operations", "at", "csv", "lang", "theme"];
  const screen = await walk({}, ["#ranking li"], [...header, "second", "minute", "run", "ranking", "pick"]);
  await screen.done();
  const operations = await walk({ view: "operations" }, [".cell.here", "#jobs li"], [...header, "scroll", "jobs", "cell"]);
  await operations.done();

  const at = new Date(Math.floor((Date.now() - 70_000) / 60_000) * 60_000).toISOString();
  const replay = await walk({ at, second: "20", paused: "1" }, ["[data-state=replay]"], [...header, "second", "minute", "pick", "to-live", "play", "position"]);
  const { page } = replay;
  const on = async (id, key) => (await page.locator(id).focus(), await page.keyboard.press(key));
  await on("#position", "ArrowRight");
  assert.equal(await page.locator("#position").inputValue(), "21");
  await on("#play", "Space");
  await until("it plays", async () => Number(await page.locator("#position").inputValue()) > 21);
  await on("#to-live", "Enter");
  await until("live again", async () => (await page.locator("#connection").getAttribute("data-state")) === "live");
  await replay.done();
});

test("a dispatcher that is gone is said, with since when", async (t) => {
  const port = await freePort();
  const server = await board(store("one"), { args: ["--dispatcher", `http://127.0.0.1:${port}`] });
  t.after(() => server.stop());
  const { page, context } = await open(browser, server.url);
  await page.locator("#troubles", { hasText: `dispatcher http://127.0.0.1:${port}: nothing listens there (since` }).waitFor();
  await page.locator("[data-view=operations]").click();
  assert.match(await page.locator("#no-dispatcher").textContent(), /^The dispatcher has not answered yet/);
  await page.locator("#lang").click();
  const said = page.locator("#wrong li", { hasText: `调度器 http://127.0.0.1:${port}：该地址无人监听 (自 ` });
  await said.waitFor();
  assert.match(await page.locator("#no-dispatcher").textContent(), /^调度器尚未应答/);
  await context.close();
});

test("a replica that lags is skipped and said, with since when, and comes back", async (t) => {
  const site = servers(t);
  if (!site) return;
  const common = await dispatch(site);
  publish(site, 500, 60);
  const server = await board(null, { replica: site.primary, args: ["--replica", site.replica, "--max-lag", "1s", ...common] });
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url, { query: { view: "operations" } });
  const said = page.locator("#troubles li", { hasText: /lags \d+ commits and \d+ ms behind the newest replica: is its replication running\? \(since \d\d:\d\d:\d\d\)/ });
  const rows = page.locator("#replicas tr", { hasText: "read in turn" });
  await until("both are read", async () => (await rows.count()) === 2, 30_000);
  assert.equal(await said.count(), 0);
  t.after(() => site.onReplica("START SLAVE"));
  const stopped = Date.now();
  site.onReplica("STOP SLAVE SQL_THREAD");
  await said.waitFor();
  console.log(`# a replica that stopped was said to lag after ${Date.now() - stopped} ms, of 1000 allowed`);
  assert.equal(await page.locator("#replicas tr", { hasText: "skipped: lags" }).count(), 1);
  const status = async () => (await fetch(`${server.url}/api/v1/status`)).json();
  const { since } = (await status()).troubles.find((it) => it.kind === "replica");
  assert.ok(since >= stopped && since <= Date.now(), `since ${since}, stopped ${stopped}`);
  // What is shown comes from the other one, and goes on.
  await page.locator("[data-view=screen]").click();
  await until("a total", async () => (await shownTotal(page)) !== null);
  const shown = cents(await shownTotal(page));
  await until("the total goes on", async () => cents(await shownTotal(page)) > shown);
  await page.locator("[data-view=operations]").click();
  site.onReplica("START SLAVE");
  await until("it is read again", async () => (await rows.count()) === 2 && (await said.count()) === 0, 20_000);
  await context.close();
  assert.deepEqual(wrong, []);
});

test("while a replica hangs the status is told once a second, and says so", async (t) => {
  const site = servers(t);
  if (!site) return;
  const common = await dispatch(site);
  const server = await board(null, { replica: site.replica, args: common });
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url);
  await until("a total", async () => (await shownTotal(page)) !== null, 20_000);
  const service = (what) => execFileSync(join(import.meta.dirname, "../../../tests/services"), [what, "mariadb-replica"], { stdio: "ignore" });
  t.after(() => service("thaw"));
  service("freeze");
  const frozen = Date.now();
  const ask = async () => {
    const asked = Date.now();
    const status = await (await fetch(`${server.url}/api/v1/status`)).json();
    return { ...status, took: Date.now() - asked, age: Date.now() - status.at };
  };
  const causes = (status) => status.troubles.map((it) => it.cause).filter((cause) => cause !== "stale").sort();
  let said = null;
  let worst = { took: 0, age: 0 };
  // For as long as one statement may take.
  while (Date.now() - frozen < 9_000) {
    const status = await ask();
    if (said === null && causes(status).includes("no-replica")) said = Date.now() - frozen;
    worst = { took: Math.max(worst.took, status.took), age: Math.max(worst.age, status.age) };
    await sleep(100);
  }
  console.log(`# with its only replica frozen a status took at most ${worst.took} ms and was at most ${worst.age} ms old; said after ${said} ms`);
  assert.ok(said !== null && said < 5_000, `said after ${said} ms`);
  assert.ok(worst.took < 1_000 && worst.age < 3_000, JSON.stringify(worst));
  assert.equal(await page.locator("#connection").getAttribute("data-state"), "live", "the board lives");
  await page.locator("#troubles li", { hasText: "no answer from" }).waitFor();
  service("thaw");
  await until("well again", async () => causes(await ask()).length === 0, 20_000);
  await context.close();
  assert.deepEqual(wrong, []);
});

test("a replica by itself says how far behind it is, or else what that is at most", async (t) => {
  const site = servers(t);
  if (!site) return;
  const common = await dispatch(site);
  publish(site, 500, 60);
  const watcher = site.replica.replace("windlass:windlass@", "windlass_reader:reader@");
  const lag = async (replica) => {
    const server = await board(null, { replica, args: common });
    t.after(() => server.stop());
    const { page, context } = await open(browser, server.url);
    await until("a total", async () => (await shownTotal(page)) !== null, 30_000);
    return { page, context, shown: page.locator("[data-fact=lag]") };
  };
  const blind = await lag(site.replica);
  await until("at most", async () => /^≤ \d+\.\d s$/.test(await blind.shown.textContent()));
  await blind.page.locator("[data-view=operations]").click();
  assert.match(await blind.page.locator("#lag-note").textContent(), /^≤: the age of the newest stamp/);
  await blind.context.close();

  const told = await lag(watcher);
  await until("its own word", async () => /^\d+ s$/.test(await told.shown.textContent()));
  await told.page.locator("[data-view=operations]").click();
  assert.equal(await told.page.locator("#lag-note").isVisible(), false);
  t.after(() => site.onReplica("START SLAVE"));
  site.onReplica("STOP SLAVE SQL_THREAD");
  const stopped = told.page.locator("#troubles li", { hasText: /its replication does not run \(since/ });
  await stopped.waitFor();
  site.onReplica("START SLAVE");
  await until("it runs again", async () => (await stopped.count()) === 0);
  await told.context.close();
});

test("the operations show where windows ran, and the scaler as its own commands tell of it", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "windlass-demo-"));
  const run = spawn(PROGRAM, ["demo", "--rate", "2000", "--for", "120s", "--dir", dir], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => end(run, "SIGKILL"));
  const lines = createInterface(run.stdout);
  const link = await new Promise((resolve) => lines.on("line", (line) => /the big screen: (\S+)\//.exec(line) && resolve(RegExp.$1)));
  const { page, context, wrong } = await open(browser, link, { query: { view: "operations" } });
  await page.locator("#recent td", { hasText: "pool" }).first().waitFor();
  await until("the desired size", async () => /desired \d/.test((await page.locator("[data-ops=pool] .chart").getAttribute("aria-label")) ?? ""), 20_000);
  await until("invocations a second", async () => /pool [1-9]/.test((await page.locator("[data-ops=ran] .chart").getAttribute("aria-label")) ?? ""));
  assert.equal(await page.locator("#jobs-box").isVisible(), false, "no Job ran");
  assert.match(await page.locator("#ran-note").textContent(), /no function ran in a Job yet/);
  await page.locator(".cell.here").waitFor({ timeout: 20_000 });
  assert.equal(await page.locator("[data-fact=mode]").textContent(), "elastic");
  const { version } = await (await fetch(`${link}/api/v1/policy`)).json();
  const of = ["--store", `sqlite:${join(dir, "results.sqlite")}`];
  const csv = join(dir, "policy.csv");
  windlass("scaler", "policy", ...of, "--version", String(version), "--csv", csv);
  const told = readFileSync(csv, "utf8").trim().split("\n").slice(1).map((line) => line.split(",").at(-3));
  const drawn = await page.locator(".cell").evaluateAll((cells) => cells.map((cell) => [Number(cell.dataset.state), cell.textContent]));
  assert.deepEqual(drawn.sort((a, b) => a[0] - b[0]).map(([, action]) => action), told);
  const { scaler: seen } = await (await fetch(`${link}/api/v1/status`)).json();
  const explained = JSON.parse(windlass("scaler", "explain", ...of, "--at", String(seen.choice.at), "-o", "json"));
  assert.deepEqual([seen.choice.state, seen.choice.chosen, seen.choice.before, seen.choice.desired], [explained.state, explained.action, explained.before, explained.desired]);
  assert.equal(seen.choice.actions.map(({ action, q }) => `${action}=${q.toFixed(4)}`).join(","), explained.q_values);
  await context.close();
  assert.deepEqual(wrong, []);
});

test("where no scaler runs the page says how to start one", async (t) => {
  const path = store("one");
  const server = await board(path);
  t.after(() => server.stop());
  const { page, context, wrong } = await open(browser, server.url, { query: { view: "operations" } });
  const none = page.locator("[data-part=none]");
  await until("none", async () => (await none.textContent()).startsWith("No scaler runs on this store. Start one: windlass dispatch --workers auto"));
  scaler(path);
  await page.locator("[data-fact=action]", { hasText: "κ×0.57" }).waitFor({ timeout: 20_000 });
  assert.equal(await page.locator(".cell.here").getAttribute("data-state"), "17");
  assert.equal(await none.isVisible(), false);
  await page.locator(".cell.here").focus();
  await page.keyboard.press("ArrowRight");
  assert.match(await page.locator("[data-part=detail]").textContent(), /^demand .*: Q κ×1\.00 −\d/);
  await page.locator("#lang").click();
  assert.equal(await page.locator("[data-part=axes]").textContent(), "需求 ↓ 波动 →");
  assert.match(await page.locator("[data-part=detail]").textContent(), /^指向某个状态/);
  assert.match(await page.locator("[data-fact=scalerState]").textContent(), /^需求 .* · 波动 .* · 积压 .*$/);
  await page.locator("#lang").click();
  seed(path, "silent");
  await until("silent", async () => /^No scaler runs on this store\. The last one was alive at \d/.test(await none.textContent()));
  await context.close();
  assert.deepEqual(wrong, []);
});

const SIZES = { wall: [1920, 1080], laptop: [1280, 720], phone: [390, 844] };

/** Boxes whose text does not fit, and a page that is wider than the screen. */
function misfits() {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.querySelectorAll("h1, h2, button, dt, dd, .name, .gmv, #hover, #correction, #odometer, .digits, td, th")) {
    if (element.closest("[hidden]") || element.offsetParent === null) continue;
    const clips = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0 && getComputedStyle(element).display !== "inline";
    if (clips) found.push(`clipped: ${element.tagName}.${element.className} ${element.textContent.slice(0, 40)}`);
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

for (const [name, what] of [["empty", null], ["one", "one"], ["all", "all"], ["huge", "huge"], ["jobs", "all"]]) {
  test(`screenshots and axe: ${name}`, async (t) => {
    const path = store(what);
    const dispatcher = name === "all" ? await demoDispatcher(t) : name === "jobs" ? await placingDispatcher(t) : null;
    if (name === "jobs") scaler(path);
    const server = await board(path, { args: dispatcher ? ["--dispatcher", dispatcher] : [] });
    t.after(() => server.stop());
    const problems = [];
    for (const [sized, size] of Object.entries(SIZES)) {
      const { page, context, wrong } = await open(browser, server.url, { size });
      if (what) await page.locator("#ranking li").first().waitFor();
      else await until("the total", async () => (await shownTotal(page)) === "0.00");
      if (!what) assert.deepEqual(await page.locator("#facts dd").allTextContents(), ["0", "0", "–", "–", "–"], "of no orders there is no mean");
      if (dispatcher) await until("operations", async () => (await (await fetch(`${server.url}/api/v1/status`)).json()).operations !== null);
      await sleep(1200);
      const shoot = async (view, theme) => {
        await sleep(700);
        await page.screenshot({ path: join(SHOTS, `${name}-${view}-${theme}-${sized}.png`), fullPage: true });
        for (const misfit of await page.evaluate(misfits)) problems.push(`${view} ${theme} ${sized}: ${misfit}`);
        await page.evaluate(`${AXE};0`).catch(() => null);
        const result = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "best-practice"] }));
        for (const v of result.violations) if (["serious", "critical"].includes(v.impact)) problems.push(`${view} ${theme} ${sized}: axe ${v.id}: ${v.nodes.map((n) => n.target).slice(0, 3)}`);
      };
      for (const view of ["screen", "operations"]) {
        await page.locator(`[data-view=${view}]`).click();
        for (const theme of ["dark", "light"]) {
          if ((await page.evaluate(() => document.documentElement.dataset.theme)) !== theme) await page.locator("#theme").click();
          if (sized === "wall" && theme === "light") await page.locator("#lang").click();
          await shoot(view, theme);
          if (sized === "wall" && theme === "light") await page.locator("#lang").click();
        }
      }
      if (name === "all") {
        const at = new Date(Math.floor((Date.now() - 70_000) / 60_000) * 60_000).toISOString();
        await page.goto(`${server.url}/?${new URLSearchParams({ lang: "en", theme: "dark", at, second: "37", paused: "1", province: "Zhejiang", scope: "minute" })}`);
        await until("the replay", async () => (await page.locator("#connection").getAttribute("data-state")) === "replay");
        await shoot("replay", "dark");
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

