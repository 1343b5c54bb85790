import type { ChinaMap, Seconds } from "./charts";
import { csv, operationsRows, save, screenRows } from "./csv";
import { Live, SILENT_MS, connect } from "./live";
import { grouped } from "./money";
import { named, outline } from "./names";
import { Odometer } from "./odometer";
import { OperationsView, lag } from "./operations";
import { Ranking } from "./ranking";
import { type Past, fetchPast, shownAt } from "./replay";
import { trouble } from "./troubles";
import type { Scope, Shown } from "./types";
import { LAST, type View, read, write } from "./view";
import { type Word, locale, say } from "./words";

const get = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const all = (selector: string) => document.querySelectorAll<HTMLElement>(selector);

let view: View = read(location.search);
let past: Past | null = null;
/** The province that is pointed at, for as long as no other one is. */
let pointed: string | null = view.province;
/** Since when nothing comes, and whether the connection is gone or silent. */
let lost: { how: "lost" | "silent"; since: number } | null = null;
let connected = false;
let correctionUntil = 0;

const live = new Live();
const odometer = new Odometer(get("odometer"));
let map: ChinaMap | null = null;
let seconds: Seconds | null = null;
const ranking = new Ranking(get("ranking"), point, choose);
const operations = new OperationsView(get("operations"));

const t = (word: Word) => say(word, view.language);
const shown = (): Shown => (past ? shownAt(past, view.second) : live.shown());
/** The time span that is shown: of the whole run a replay knows nothing. */
const scope = (): Scope => (view.at !== null && view.scope === "run" ? "minute" : view.scope);
const sales = (now: Shown) => now.scopes[scope()] ?? [];
const time = (ms: number) => new Date(ms).toLocaleTimeString(locale(view.language));

const address = () => history.replaceState(null, "", write(view));

function point(province: string): void {
  pointed = province;
  hover(shown());
}

function choose(province: string | null): void {
  pointed = view.province = province;
  address();
  draw();
}

/** The province that is pointed at or chosen, as text. */
function hover(now: Shown): void {
  const rows = sales(now);
  const row = rows.find((r) => r.province === pointed || (pointed !== null && outline(r.province) === pointed));
  const off = rows.filter((r) => !outline(r.province)).length;
  let text = pointed === null ? t("pick") : `${named(pointed, view.language)}: ${t("noData")}`;
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
  const fact = (value: string | number) => (known ? grouped(String(value)) : "–");
  // Of no orders there is no mean.
  const ofSome = (value: string) => (now.total.orders > 0 ? fact(value) : "–");
  terms(get("facts"), [
    ["rate", t("ordersPerSecond"), fact(rate())],
    ["orders", t("orders"), fact(now.total.orders)],
    ["mean", t("mean"), ofSome(now.total.mean)],
    ["min", t("min"), ofSome(now.total.min_amount)],
    ["max", t("max"), ofSome(now.total.max_amount)],
  ]);
  const rows = sales(now);
  map?.draw(rows, view.province, view.language);
  const leader = [...rows].sort((a, b) => Number(b.gmv) - Number(a.gmv))[0];
  get("map").ariaLabel = leader ? `${t("map")}: ${named(leader.province, view.language)} ${grouped(leader.gmv)}` : t("noData");
  ranking.draw(rows, view.province, view.language);
  get("ranking-empty").hidden = rows.length > 0;
  get("ranking").hidden = rows.length === 0;
  get("seconds-empty").hidden = now.windows.length > 0;
  get("seconds").hidden = now.windows.length === 0;
  seconds?.draw(now.windows, now.secondStart, view.language);
  get("seconds").ariaLabel = `${t("seconds")}: ${now.windows.length}`;
  hover(now);
  drawFresh();
}

/** Orders a second: of the second that is replayed, or now. */
const rate = () => (past ? (past.rows.get(past.at + view.second * 1000) ?? []).reduce((all, row) => all + row.orders, 0) : live.rate());

function drawFresh(): void {
  const status = live.status;
  if (!status) return;
  // With the stream it ends, without a frame that says so.
  const shownRate = document.querySelector("[data-fact=rate]");
  if (shownRate && !past && live.known) shownRate.textContent = grouped(String(rate()));
  const newest = status.newest_window;
  const count = (value: number | null) => (value === null ? "–" : grouped(String(value)));
  const fit = status.replicas.filter((replica) => replica.skipped === null);
  const [freshest] = [...fit].sort((a, b) => (a.behind_s ?? Infinity) - (b.behind_s ?? Infinity) || (a.age_ms ?? Infinity) - (b.age_ms ?? Infinity));
  get("fresh-title").textContent = t(past ? "freshNow" : "fresh");
  terms(get("fresh"), [
    ["newest", t("newest"), newest === null ? "–" : time(newest)],
    ["age", t("age"), newest === null ? "–" : `${Math.max(0, (status.at - newest - 1000) / 1000).toFixed(1)} s`],
    ["lag", t("lag"), freshest ? lag(freshest) : "–"],
    ["open", t("open"), count(status.windows_open)],
    ["late", t("late"), count(status.late)],
    ["quarantined", t("quarantined"), count(status.quarantined)],
  ]);
}

function drawStatus(): void {
  const connection = get("connection");
  connection.dataset.state = lost ? lost.how : past ? "replay" : connected ? "live" : "connecting";
  connection.textContent = lost
    ? `${t(lost.how)} ${t("since")} ${time(lost.since)}`
    : past
      ? `${t("replaying")} ${time(past.at + view.second * 1000)}${view.view === "operations" ? ` · ${t("operationsNow")}` : ""}`
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
  address();
  document.documentElement.lang = view.language === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset.theme = view.theme;
  document.documentElement.dataset.shown = view.view;
  for (const element of all("[data-t]")) element.textContent = t(element.dataset.t as Word);
  for (const element of all("[data-label]")) element.ariaLabel = t(element.dataset.label as Word);
  for (const button of all("[data-view]")) button.ariaPressed = String(button.dataset.view === view.view);
  for (const button of all("[data-scope]")) {
    button.ariaPressed = String(button.dataset.scope === scope());
    button.hidden = button.dataset.scope === "run" && view.at !== null;
  }
  get("screen").hidden = view.view !== "screen";
  get("operations").hidden = view.view !== "operations";
  const replaying = view.at !== null;
  get("position-label").hidden = !replaying;
  get("play").hidden = !replaying;
  showPosition();
  get("to-live").hidden = !replaying;
  if (view.at !== null) {
    const local = new Date(view.at - new Date(view.at).getTimezoneOffset() * 60_000);
    get<HTMLInputElement>("at").value = local.toISOString().slice(0, 16);
  }
  draw();
}

/** Where the replay is, on its controls and in the address. */
function showPosition(): void {
  get<HTMLInputElement>("position").value = String(view.second);
  get("play").textContent = t(view.paused || view.second === LAST ? "play" : "pause");
  address();
}

let journeys = 0;

async function travel(): Promise<void> {
  past = null;
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
  Object.assign(view, { at: Math.floor(at / 60_000) * 60_000, second: 0, paused: false });
  void travel();
});
get("to-live").addEventListener("click", () => ((view.at = null), void travel()));
get<HTMLInputElement>("position").addEventListener("input", (event) => {
  view.second = Number((event.target as HTMLInputElement).value);
  showPosition();
  draw();
});
get("play").addEventListener("click", () => {
  // From the end it begins again.
  if (view.second === LAST) Object.assign(view, { second: 0, paused: false });
  else view.paused = !view.paused;
  showPosition();
  draw();
});
addEventListener("keydown", (event) => event.key === "Escape" && view.province !== null && choose(null));
get("csv").addEventListener("click", () => {
  if (view.view === "operations") save("windlass-operations.csv", csv(operationsRows(live.operations, live.status, live.policy)));
  else save(`windlass-screen-${scope()}.csv`, csv(screenRows(shown(), scope(), live.status)));
});
addEventListener("popstate", () => ((view = read(location.search)), (pointed = view.province), void travel()));
// One step of the replay a second; the live page's own clock otherwise.
setInterval(() => {
  if (past && !view.paused && view.second < LAST) {
    view.second += 1;
    showPosition();
    draw();
  } else drawStatus();
}, 1000);

void travel();
// The figures are there before the charts, which are most of the page's code.
void import("./charts").then((charts) => {
  map = new charts.ChinaMap(get("map"), point, choose);
  seconds = new charts.Seconds(get("seconds"));
  operations.chart((box) => new charts.Lines(box));
  draw();
});
connect(live, (event) => {
  if (event === "lost") lost = { how: event, since: lost?.since ?? Date.now() };
  else if (event === "silent") lost = { how: event, since: lost?.since ?? Date.now() - SILENT_MS };
  else (connected = true), (lost = null);
  // What is beside a replay is of now, as it says.
  if (past === null && event !== "status") draw();
  else if (view.view === "operations") draw();
  else (drawStatus(), drawFresh());
});
