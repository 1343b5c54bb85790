import type { Line, Lines } from "./charts";
import { ColdStarts, recent } from "./cold";
import { ScalerPanel } from "./scaler";
import { complaint, trouble } from "./troubles";
import type { Operations, Policy, Replica, Status } from "./types";
import { type Word, say, tell } from "./words";

type Figure = Exclude<keyof Operations, "at">;
type Value = (now: Operations, before: Operations | undefined) => number | null;
const CHARTS: Record<string, [Word, Value][]> = {
  pool: [of("size", "size"), of("busy", "busy"), of("idle", "idle"), of("desired", "desired")],
  queue: [of("ready", "queue_ready"), of("unacked", "queue_unacked")],
  waiting: [of("waitingFor", "waiting"), of("inFlight", "in_flight"), of("open", "windows_open")],
  latency: [of("windowP50", "window_p50_ms"), of("windowP99", "window_p99_ms"), of("callP50", "invocation_p50_ms"), of("callP99", "invocation_p99_ms")],
  ran: [rate("ranWarm", "ran_warm"), rate("ranOverflow", "ran_overflow"), rate("ranAsked", "ran_asked")],
};

function of(word: Word, figure: Figure): [Word, Value] {
  return [word, (o) => o[figure]];
}

/** How much a counter grew a second; after a restart of what counts, from zero. */
function rate(word: Word, figure: Figure): [Word, Value] {
  return [
    word,
    (now, before) => {
      if (!before || now.at <= before.at) return null;
      const grown = (now[figure] ?? 0) - (before[figure] ?? 0);
      return Math.max(0, grown) / ((now.at - before.at) / 1000);
    },
  ];
}

/** The operations view. */
export class OperationsView {
  private readonly charts = new Map<string, Lines>();
  private readonly scaler: ScalerPanel;
  private readonly cold: ColdStarts;
  private make: ((box: HTMLElement) => Lines) | null = null;

  constructor(private readonly root: HTMLElement) {
    this.scaler = new ScalerPanel(this.part("#scaler-box"));
    this.cold = new ColdStarts(this.part("#phases"), this.part("#jobs"));
  }

  private part(selector: string): HTMLElement {
    return this.root.querySelector(selector) as HTMLElement;
  }

  /** Gives the way to make a chart, once it has been loaded. */
  chart(make: (box: HTMLElement) => Lines): void {
    this.make = make;
  }

  draw(status: Status | null, history: Operations[], policy: Policy | null, language: string): void {
    const some = history.length > 0;
    const placement = status?.placement ?? null;
    const jobs = (placement?.jobs.length ?? 0) > 0;
    this.part("#no-dispatcher").hidden = some;
    tell(this.part("#no-dispatcher"), say(status?.has_dispatcher ? "dispatcherSilent" : "noDispatcher", language));
    this.root.classList.toggle("alone", !some);
    this.root.classList.toggle("no-scaler", !status?.scaler?.running);
    this.root.classList.toggle("no-jobs", !jobs);
    this.root.classList.toggle("no-placement", placement === null);
    // Seen before they are drawn, so that charts have a size.
    for (const section of this.root.querySelectorAll<HTMLElement>("[data-ops]")) section.hidden = !some || (section.dataset.ops === "ran" && placement === null);
    this.part("#jobs-box").hidden = !jobs;
    for (const section of this.root.querySelectorAll<HTMLElement>("[data-ops]:not([hidden])")) this.lines(section, history, language);
    if (!status) return;
    if (placement) {
      this.part("#ran-note").textContent = this.note(status, language);
      recent(this.part("#recent"), placement, language);
      if (jobs) this.cold.draw(placement, language);
    }
    this.scaler.draw(status.scaler, policy, language);
    this.replicas(status, language);
    const troubles = status.troubles.map((it) => trouble(it, language));
    this.part("#wrong").replaceChildren(...(troubles.length ? troubles : [line(say("nothingWrong", language))]));
  }

  private lines(section: HTMLElement, history: Operations[], language: string): void {
    const key = section.dataset.ops ?? "";
    const box = section.querySelector<HTMLElement>(".chart");
    const chart = this.charts.get(key) ?? (box && this.make?.(box));
    if (!box || !chart) return;
    this.charts.set(key, chart);
    const lines: Line[] = [];
    for (const [word, value] of CHARTS[key] ?? []) {
      const points: [number, number][] = [];
      history.forEach((o, i) => {
        const figure = value(o, history[i - 1]);
        if (figure !== null) points.push([o.at, figure]);
      });
      // Nobody says how many workers there are to be, say.
      if (points.length === 0) continue;
      lines.push({ name: say(word, language), dashed: word === "size" || word === "desired", points });
    }
    chart.draw(lines, language);
    const last = lines.map((it) => `${it.name} ${it.points.at(-1)?.[1] ?? 0}`).join(", ");
    box.ariaLabel = `${section.querySelector("h2")?.textContent}: ${last}`;
  }

  /** Placement in a line: the mode, live Jobs, and what is the matter with Jobs. */
  private note(status: Status, language: string): string {
    const placement = status.placement;
    if (!placement) return "";
    const facts = [`${say("placement", language)} ${placement.mode}`, `${say("liveJobs", language)} ${placement.live_jobs}`];
    if (placement.creating_paused) facts.push(`${say("paused", language)}: ${placement.creating_paused}`);
    else if (placement.jobs.length === 0) facts.push(say("noJobs", language));
    return facts.join(" · ");
  }

  private replicas(status: Status, language: string): void {
    const row = (tag: string, cells: string[]) => {
      const tr = document.createElement("tr");
      for (const text of cells) tr.append(Object.assign(document.createElement(tag), { textContent: text }));
      return tr;
    };
    const why = (replica: Replica) => {
      const known = status.troubles.find((it) => it.kind === "replica" && it.subject === replica.server);
      return (known && complaint(known, language)) ?? replica.skipped;
    };
    const head = (["server", "state", "commits", "lag"] as Word[]).map((word) => say(word, language));
    const rows = status.replicas.map((replica) =>
      row("td", [
        replica.server,
        replica.skipped === null ? say("fine", language) : `${say("skipped", language)}: ${why(replica)}`,
        String(replica.commits),
        lag(replica),
      ]),
    );
    this.part("#lag-note").hidden = !status.replicas.some((replica) => lag(replica).startsWith("≤"));
    this.part("#replicas").replaceChildren(row("th", head), ...rows);
  }
}

function line(text: string): HTMLElement {
  return Object.assign(document.createElement("li"), { textContent: text });
}

/** How far a replica is behind: as it says itself, else at most as far as what it holds is old. */
export function lag({ server, behind_s, age_ms }: Replica): string {
  // A file is no copy of another.
  if (server.startsWith("sqlite:")) return "–";
  if (behind_s !== null) return `${behind_s} s`;
  return age_ms === null ? "–" : `≤ ${(age_ms / 1000).toFixed(1)} s`;
}
