import type { ChinaMap, Seconds } from "./charts";
import { csv, save } from "./csv";
import { Live, connect } from "./live";
import { grouped } from "./money";
import { named, outline } from "./names";
import { Odometer } from "./odometer";
import { OperationsView, trouble } from "./operations";
import { Ranking } from "./ranking";
import { type Past, fetchPast, shownAt } from "./replay";
import type { Sales, Scope, Shown } from "./types";
import { type View, read, write } from "./view";
import { type Word, locale, say } from "./words";

const get = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const all = (selector: string) => document.querySelectorAll<HTMLElement>(selector);

let view: View = read(location.search);
let past: Past | null = null;
let position = 0;
let picked: string | null = null;
let lostSince: number | null = null;
let connected = false;
let correctionUntil = 0;

const live = new Live();
const odometer = new Odometer(get("odometer"));
let map: ChinaMap | null = null;
let seconds: Seconds | null = null;
const ranking = new Ranking(get("ranking"), pick);
const operations = new OperationsView(get("operations"));

const t = (word: Word) => say(word, view.language);
const shown = (): Shown => (past ? shownAt(past, position) : live.shown());
const time = (ms: number) => new Date(ms).toLocaleTimeString(locale(view.language));

function pick(province: string): void {
  picked = province;
  hover(shown());
}

/** The province that is pointed at or chosen, as text. */
function hover(now: Shown): void {
  const rows = now.scopes[view.scope];
  const row = rows.find((r) => r.province === picked || (picked !== null && outline(r.province) === picked));
  const off = rows.filter((r) => !outline(r.province)).length;
  let text = picked === null ? t("pick") : `${named(picked, view.language)}: ${t("noData")}`;
  if (row) {
    const facts: [Word, string][] = [["gmv", row.gmv], ["orders", String(row.orders)], ["mean", row.mean], ["min", row.min_amount], ["max", row.max_amount]];
    text = `${named(row.province, view.language)} · ${facts.map(([word, value]) => `${t(word)} ${grouped(value)}`).join(" · ")}`;
  }
  get("hover").textContent = off > 0 ? `${text} (${off} ${t("offMap")})` : text;
}

function terms(list: HTMLElement, facts: [string, string, string][]): void {
  list.replaceChildren(
    ...facts.map(([key, term, value]) => {
      const pair = document.createElement("div");
      const dd = Object.assign(document.createElement("dd"), { textContent: value });
      dd.dataset.fact = key;
      pair.append(Object.assign(document.createElement("dt"), { textContent: term }), dd);
      return pair;
    }),
  );
}

function drawScreen(): void {
  const now = shown();
  const known = past !== null || live.known;
  if (known) odometer.show(now.total.gmv);
  if (!past && known) get("total").dataset.commits = String(live.frame.commits);
  get("total-title").textContent = t(past ? "totalReplay" : "total");
  const last = now.windows.find((window) => window.start === now.secondStart);
  const fact = (value: string | number) => (known ? grouped(String(value)) : "–");
  terms(get("facts"), [
    ["rate", t("ordersPerSecond"), fact(last?.orders ?? 0)],
    ["orders", t("orders"), fact(now.total.orders)],
    ["mean", t("mean"), fact(now.total.mean)],
    ["min", t("min"), fact(now.total.min_amount)],
    ["max", t("max"), fact(now.total.max_amount)],
  ]);
  const rows = now.scopes[view.scope];
  map?.draw(rows, view.language);
  const leader = [...rows].sort((a, b) => Number(b.gmv) - Number(a.gmv))[0];
  get("map").ariaLabel = leader ? `${t("map")}: ${named(leader.province, view.language)} ${grouped(leader.gmv)}` : t("noData");
  ranking.draw(rows, view.language);
  get("ranking-empty").hidden = rows.length > 0;
  get("ranking").hidden = rows.length === 0;
  get("seconds-empty").hidden = now.windows.length > 0;
  get("seconds").hidden = now.windows.length === 0;
  seconds?.draw(now.windows, now.secondStart, view.language);
  get("seconds").ariaLabel = `${t("seconds")}: ${now.windows.length}`;
  hover(now);
  drawFresh();
}

function drawFresh(): void {
  const status = live.status;
  if (!status) return;
  const newest = status.newest_window;
  const fit = status.replicas.filter((replica) => replica.skipped === null);
  const lag = fit.map((replica) => replica.age_ms ?? 0).reduce((a, b) => Math.min(a, b), Infinity);
  terms(get("fresh"), [
    ["newest", t("newest"), newest === null ? "–" : time(newest)],
    ["age", t("age"), newest === null ? "–" : `${Math.max(0, (status.at - newest - 1000) / 1000).toFixed(1)} s`],
    ["lag", t("lag"), Number.isFinite(lag) ? `${(lag / 1000).toFixed(1)} s` : "–"],
    ["open", t("open"), grouped(String(status.windows_open))],
    ["late", t("late"), grouped(String(status.late))],
    ["quarantined", t("quarantined"), grouped(String(status.quarantined))],
  ]);
}

function drawStatus(): void {
  const connection = get("connection");
  const lost = lostSince !== null;
  connection.dataset.state = lost ? "lost" : past ? "replay" : connected ? "live" : "connecting";
  connection.textContent = lost
    ? `${t("lost")} ${t("since")} ${time(lostSince as number)}`
    : past
      ? `${t("replaying")} ${time(past.at + position * 1000)}`
      : t(connected ? "connected" : "connecting");
  const troubles = live.status?.troubles ?? [];
  get("troubles").hidden = troubles.length === 0;
  get("troubles").replaceChildren(...troubles.map((it) => trouble(it, view.language)));
  const correction = get("correction");
  if (live.correction !== null && !past) {
    const sign = live.correction.startsWith("-") ? "" : "+";
    correction.textContent = `${t("corrected")}: ${sign}${grouped(live.correction)}`;
    correctionUntil = Date.now() + 4000;
    live.correction = null;
  } else if (Date.now() > correctionUntil) correction.textContent = "";
  get("total").classList.toggle("corrected", Date.now() < correctionUntil);
}

function draw(): void {
  drawStatus();
  if (view.view === "screen") drawScreen();
  else operations.draw(live.status, live.operations, live.policy, view.language);
}

/** Words, theme and controls follow the view; the address bar holds it. */
function apply(): void {
  history.replaceState(null, "", write(view));
  document.documentElement.lang = view.language === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset.theme = view.theme;
  document.documentElement.dataset.shown = view.view;
  for (const element of all("[data-t]")) element.textContent = t(element.dataset.t as Word);
  for (const element of all("[data-label]")) element.ariaLabel = t(element.dataset.label as Word);
  for (const button of all("[data-view]")) button.ariaPressed = String(button.dataset.view === view.view);
  for (const button of all("[data-scope]")) button.ariaPressed = String(button.dataset.scope === view.scope);
  get("screen").hidden = view.view !== "screen";
  get("operations").hidden = view.view !== "operations";
  const replaying = view.at !== null;
  get("position-label").hidden = !replaying;
  get("to-live").hidden = !replaying;
  if (view.at !== null) {
    const local = new Date(view.at - new Date(view.at).getTimezoneOffset() * 60_000);
    get<HTMLInputElement>("at").value = local.toISOString().slice(0, 16);
  }
  draw();
}

let journeys = 0;

async function travel(): Promise<void> {
  past = null;
  position = 0;
  // An answer that comes when another minute, or the present, was chosen is nobody's any more.
  const journey = ++journeys;
  if (view.at !== null) {
    try {
      const fetched = await fetchPast(view.at);
      if (journey !== journeys) return;
      past = fetched;
    } catch (error) {
      if (journey !== journeys) return;
      view.at = null;
      apply();
      get("correction").textContent = `${t("failed")}: ${error instanceof Error ? error.message : ""}`;
      correctionUntil = Date.now() + 8000;
      return;
    }
  }
  apply();
}

for (const button of all("[data-view]")) button.addEventListener("click", () => ((view.view = button.dataset.view as View["view"]), apply()));
for (const button of all("[data-scope]")) button.addEventListener("click", () => ((view.scope = button.dataset.scope as Scope), apply()));
get("lang").addEventListener("click", () => ((view.language = view.language === "zh" ? "en" : "zh"), apply()));
get("theme").addEventListener("click", () => ((view.theme = view.theme === "dark" ? "light" : "dark"), apply()));
get("travel").addEventListener("submit", (event) => {
  event.preventDefault();
  const at = Date.parse(get<HTMLInputElement>("at").value);
  if (Number.isNaN(at)) return;
  view.at = Math.floor(at / 60_000) * 60_000;
  void travel();
});
get("to-live").addEventListener("click", () => ((view.at = null), void travel()));
get<HTMLInputElement>("position").addEventListener("input", (event) => {
  position = Number((event.target as HTMLInputElement).value);
  draw();
});
get("csv").addEventListener("click", () => {
  const rows: Record<string, string | number | null>[] =
    view.view === "operations" ? live.operations.map((o) => ({ ...o })) : shown().scopes[view.scope].map((row: Sales) => ({ province: row.province, orders: row.orders, gmv: row.gmv, mean: row.mean, min_amount: row.min_amount, max_amount: row.max_amount }));
  save(`windlass-${view.view}-${view.scope}.csv`, csv(rows));
});
addEventListener("popstate", () => ((view = read(location.search)), void travel()));
// One step of the replay a second; the live page's own clock otherwise.
setInterval(() => {
  if (past && position < 59) {
    position += 1;
    get<HTMLInputElement>("position").value = String(position);
    draw();
  } else drawStatus();
}, 1000);

void travel();
// The figures are there before the charts, which are most of the page's code.
void import("./charts").then((charts) => {
  map = new charts.ChinaMap(get("map"), (row, name) => pick(row?.province ?? name));
  seconds = new charts.Seconds(get("seconds"));
  operations.chart((box) => new charts.Lines(box));
  draw();
});
connect(live, (event) => {
  if (event === "lost") lostSince ??= Date.now();
  else (connected = true), (lostSince = null);
  if (past) drawStatus();
  else if (event === "status") (drawStatus(), view.view === "screen" ? drawFresh() : draw());
  else draw();
});
