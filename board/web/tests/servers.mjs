// The servers of tests/services: a pipeline on them, and a store with many rows.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { PROGRAM, PROVINCES, end, freePort, windlass } from "./harness.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const services = (...args) => [join(here, "../../../tests/services"), args];
/** What a root client of a test server prints. */
export const sqlOn = (server, ...args) => execFileSync(...services("sql", server, ...args), { encoding: "utf8", maxBuffer: 1 << 28 });

let made = 0;

/** The test servers' addresses; null where there are none. */
function addresses(t) {
  const { WINDLASS_TEST_AMQP: broker, WINDLASS_TEST_MARIADB: primary, WINDLASS_TEST_MARIADB_REPLICA: replica } = process.env;
  if (broker && primary && replica) return { broker, primary, replica };
  if (process.env.WINDLASS_TEST_REQUIRED === "1") throw new Error("WINDLASS_TEST_AMQP, _MARIADB and _MARIADB_REPLICA must be set");
  t.skip("no servers: eval \"$(tests/services env)\"");
  return null;
}

const of = (url, database) => url.replace(/[^/]*$/, database);

/** A database of its own on the test servers, and a stream; null where there are no servers. */
export function servers(t) {
  const found = addresses(t);
  if (!found) return null;
  const name = `board_${process.pid}_${made++}`;
  const database = `windlass_${name}`;
  const children = [];
  sqlOn("mariadb", "-e", `CREATE DATABASE ${database}`);
  t.after(async () => {
    for (const child of children) await end(child);
    sqlOn("mariadb", "-e", `DROP DATABASE ${database}`);
  });
  const config = join(mkdtempSync(join(tmpdir(), "windlass-board-")), "windlass.toml");
  writeFileSync(config, `[stream]\nname = "${name}"\n`);
  return { broker: found.broker, config, database, children, primary: of(found.primary, database), replica: of(found.replica, database), onReplica: (statement) => sqlOn("mariadb-replica", "-e", statement) };
}

/** A dispatcher on the test servers; the arguments that every other command needs to mean its stream. */
export async function dispatch(site) {
  const common = ["--config", site.config, "--log", "warn"];
  windlass("migrate", "--store", site.primary, ...common);
  const args = ["dispatch", "--broker", site.broker, "--store", site.primary, "--listen", `127.0.0.1:${await freePort()}`, "--workers", "1", ...common];
  site.children.push(spawn(PROGRAM, args, { stdio: ["ignore", "ignore", "inherit"] }));
  return common;
}

/** Publishes orders to the test servers' broker. */
export function publish(site, rate, seconds, ...args) {
  const load = ["--rate", String(rate), "--for", `${seconds}s`, "--manifest", join(site.config, "../manifest.json")];
  const child = spawn(PROGRAM, ["datagen", "publish", "--broker", site.broker, ...load, ...args, "--config", site.config, "--log", "warn"], { stdio: ["ignore", "ignore", "inherit"] });
  site.children.push(child);
  return child;
}

/** Twenty thousand orders a second, say: late ones among them. */
export const LOAD = ["--disorder", "2s", "--format", "ndjson", "--batch", "100"];

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

/** Rows of one transaction: 10,000 seconds of every province. */
const BATCH = 10_000 * PROVINCES.length;

/**
 * A store with as many rows of windows up to now, a second each, as large and as dense as a dispatcher
 * would have left it; null where there are no servers. Made within the server and not replicated, so
 * that it is on disk once. With WINDLASS_TEST_BOARD_KEEP=1 it stays, and is used again.
 */
export function bulk(t, rows) {
  const found = addresses(t);
  if (!found) return null;
  const database = `windlass_board_rows_${rows}`;
  const url = of(found.primary, database);
  const seconds = Math.floor(rows / PROVINCES.length);
  const alone = (...args) => sqlOn("mariadb", "--init-command=SET sql_log_bin = 0, time_zone = '+00:00'", ...args);
  const kept = process.env.WINDLASS_TEST_BOARD_KEEP === "1";
  if (!kept) t.after(() => sqlOn("mariadb", "-e", `DROP DATABASE ${database}`));
  const full = kept && sqlOn("mariadb", "-e", `SHOW DATABASES LIKE '${database}'`) !== "" && Number(alone(database, "-e", "SELECT SUM(commit_no) FROM shards")) === seconds;
  const make = () => fill(alone, database, url, seconds);
  if (!full) rows > 10_000_000 ? relaxed(make) : make();
  const end = Number(alone(database, "-e", "SELECT ROUND(UNIX_TIMESTAMP(MAX(window_start))) FROM results WHERE stream = 'orders' AND query = 'gmv'")) * 1000 + 1000;
  return { database, url, seconds, first: end - seconds * 1000 };
}

/** Settings of a server whose rows need not survive its crash, and come faster for it. */
const RELAXED = { innodb_flush_log_at_trx_commit: 0, innodb_log_file_size: 2 ** 31, innodb_buffer_pool_size: 2 ** 31 };

function relaxed(work) {
  const set = (settings) => sqlOn("mariadb", "-e", `SET ${settings.map(([name, value]) => `GLOBAL ${name} = ${value}`)}`);
  const before = Object.keys(RELAXED).map((name) => [name, sqlOn("mariadb", "-e", `SELECT @@GLOBAL.${name}`).trim()]);
  set(Object.entries(RELAXED));
  try {
    work();
  } finally {
    set(before);
  }
}

function fill(alone, database, url, seconds) {
  // Logged, so that the replica has what the tables are made in. The rows alone are not.
  sqlOn("mariadb", "-e", `DROP DATABASE IF EXISTS ${database}; CREATE DATABASE ${database}`);
  windlass("migrate", "--store", url);
  const end = Math.floor(Date.now() / 1000) * 1000;
  const at = (ms) => `'${new Date(ms).toISOString().slice(0, 19).replace("T", " ")}'`;
  const first = at(end - seconds * 1000);
  const of = PROVINCES.length;
  const name = `ELT(seq MOD ${of} + 1, ${PROVINCES.map((province) => `'${province}'`)})`;
  const rows = seconds * of;
  // In the order of the primary key, so that its pages are as full as those of a stream.
  for (let from = 0; from < rows; from += BATCH) {
    const some = `seq_${from}_to_${Math.min(rows, from + BATCH) - 1}`;
    alone(database, "-e", `INSERT INTO results SELECT 'orders', 'gmv', ${first} + INTERVAL seq DIV ${of} SECOND, ${name}, 0, 5, 50 + (seq MOD ${of}) / 100, 1, 90, 0 FROM ${some}`);
  }
  alone(
    database,
    "-e",
    `INSERT INTO totals SELECT stream, query, item_key, shard, ${seconds} * orders, ${seconds} * gmv, min_amount, max_amount FROM results WHERE stream = 'orders' AND query = 'gmv' AND window_start = ${first};
     UPDATE shards SET commit_no = ${seconds}, watermark = ${at(end)}, final_before = ${at(end - 5000)}, seen_at = NOW(3);
     ANALYZE TABLE results`,
  );
}

/**
 * What is asked of a database from now on, as the server's own log has it. `plans` explains each of these
 * statements that names `results`, and those it is given: the steps of their plans that read its rows.
 */
export function statementsOf(t, database) {
  const set = (log, output) => sqlOn("mariadb", "-e", `SET GLOBAL general_log = ${log}, GLOBAL log_output = '${output}'`);
  sqlOn("mariadb", "-e", "TRUNCATE mysql.general_log");
  set("ON", "TABLE");
  t.after(() => set("OFF", "FILE"));
  const mine = `SELECT thread_id FROM mysql.general_log WHERE command_type = 'Connect' AND argument LIKE '% on ${database} %'`;
  const log = `SELECT DISTINCT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') AND argument LIKE '%SELECT%results%' AND thread_id IN (${mine})`;
  const plan = (statement) => {
    const steps = sqlOn("mariadb", database, "-e", `EXPLAIN ${statement.replace(/^SET STATEMENT \S+ = \S+ FOR /, "")}`).trim().split("\n");
    return steps.flatMap((step) => {
      const [, , table, type, , key, , , rows] = step.split("\t");
      return ["r", "results"].includes(table) ? [{ statement, table, type, key, rows: Number(rows) }] : [];
    });
  };
  return { plans: (more) => [...sqlOn("mariadb", "--raw", "-e", log).trim().split("\n"), ...more].flatMap(plan) };
}
