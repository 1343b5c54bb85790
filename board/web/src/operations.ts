import type { Line, Lines } from "./charts";
import type { Operations, Status } from "./types";
import { type Word, say } from "./words";

type Figure = Exclude<keyof Operations, "at">;
const CHARTS: Record<string, [Word, (o: Operations) => number][]> = {
  pool: [["size", (o) => o.busy + o.idle], of("busy", "busy"), of("idle", "idle")],
  queue: [of("ready", "queue_ready"), of("unacked", "queue_unacked")],
  waiting: [of("waitingFor", "waiting"), of("inFlight", "in_flight"), of("open", "windows_open")],
  latency: [of("windowP50", "window_p50_ms"), of("windowP99", "window_p99_ms"), of("callP50", "invocation_p50_ms"), of("callP99", "invocation_p99_ms")],
};

function of(word: Word, figure: Figure): [Word, (o: Operations) => number] {
  return [word, (o) => o[figure]];
}

/** The operations view. */
export class OperationsView {
  private readonly charts = new Map<string, Lines>();

  private make: ((box: HTMLElement) => Lines) | null = null;

  constructor(private readonly root: HTMLElement) {}

  /** Gives the way to make a chart, once it has been loaded. */
  chart(make: (box: HTMLElement) => Lines): void {
    this.make = make;
  }

  draw(status: Status | null, history: Operations[], language: string): void {
    const some = history.length > 0;
    (this.root.querySelector("#no-dispatcher") as HTMLElement).hidden = some;
    this.root.classList.toggle("alone", !some);
    for (const section of this.root.querySelectorAll<HTMLElement>("[data-ops]")) {
      section.hidden = !some;
      const key = section.dataset.ops ?? "";
      if (!some) continue;
      const box = section.querySelector<HTMLElement>(".chart");
      const chart = this.charts.get(key) ?? (box && this.make?.(box));
      if (!box || !chart) continue;
      this.charts.set(key, chart);
      const lines: Line[] = (CHARTS[key] ?? []).map(([word, figure]) => ({
        name: say(word, language),
        dashed: word === "size",
        points: history.map((o) => [o.at, figure(o)]),
      }));
      chart.draw(lines);
      const last = lines.map((line) => `${line.name} ${line.points.at(-1)?.[1] ?? 0}`).join(", ");
      box.ariaLabel = `${section.querySelector("h2")?.textContent}: ${last}`;
    }
    if (!status) return;
    this.replicas(status, language);
    const list = this.root.querySelector("#wrong") as HTMLElement;
    list.replaceChildren(...(status.troubles.length ? status.troubles.map((t) => trouble(t, language)) : [line(say("nothingWrong", language))]));
  }

  private replicas(status: Status, language: string): void {
    const row = (tag: string, cells: string[]) => {
      const tr = document.createElement("tr");
      for (const text of cells) tr.append(Object.assign(document.createElement(tag), { textContent: text }));
      return tr;
    };
    const head = (["server", "state", "commits", "lag"] as Word[]).map((word) => say(word, language));
    const rows = status.replicas.map((replica) =>
      row("td", [
        replica.server,
        replica.skipped === null ? say("fine", language) : `${say("skipped", language)}: ${replica.skipped}`,
        String(replica.commits),
        replica.age_ms === null ? "–" : `${(replica.age_ms / 1000).toFixed(1)} s`,
      ]),
    );
    (this.root.querySelector("#replicas") as HTMLElement).replaceChildren(row("th", head), ...rows);
  }
}

function line(text: string): HTMLElement {
  return Object.assign(document.createElement("li"), { textContent: text });
}

/** What is wrong, and since when. */
export function trouble(it: Status["troubles"][number], language: string): HTMLElement {
  const since = new Date(it.since).toLocaleTimeString(language === "zh" ? "zh-CN" : "en-GB");
  return line(`${it.text} (${say("since", language)} ${since})`);
}
