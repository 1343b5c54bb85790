import { grouped } from "./money";
import type { Phases, Placement, Run } from "./types";
import { type Word, say } from "./words";

/** Phases of a Job's cold start, in order, with the word for each. */
const PHASES: [keyof Phases, Word][] = [
  ["created", "created"],
  ["scheduled", "scheduled"],
  ["started", "started"],
  ["pulled", "pulled"],
  ["answered", "answered"],
];
/** Jobs that are drawn. */
const DRAWN = 12;

const make = (tag: string, name: string, text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });
const total = (phases: Phases) => PHASES.reduce((all, [phase]) => all + (phases[phase] ?? 0), 0);
const ms = (value: number) => `${grouped(String(Math.round(value)))} ms`;

/** The middle of some numbers; of none, nothing. */
export function median(values: number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle];
  if (high === undefined) return null;
  return sorted.length % 2 ? high : ((sorted[middle - 1] ?? high) + high) / 2;
}

/** Where an invocation ran and why, in words. */
export function where(run: Run, language: string): string {
  if (run.place !== "job") return say("ranWarm", language);
  return say(run.reason === "asked" ? "ranAsked" : "ranOverflow", language);
}

/** How long each phase of a Job's start took: the medians, then a bar a Job. */
export class ColdStarts {
  constructor(
    private readonly legend: HTMLElement,
    private readonly list: HTMLElement,
  ) {}

  draw({ jobs }: Placement, language: string): void {
    this.legend.replaceChildren(
      ...PHASES.map(([phase, word]) => {
        const pair = make("div", `phase ${phase}`);
        const middle = median(jobs.map((run) => run.phases_ms[phase]).filter((value) => value !== null));
        pair.append(make("dt", "", say(word, language)), make("dd", "", middle === null ? "–" : ms(middle)));
        return pair;
      }),
    );
    const longest = Math.max(1, ...jobs.map((run) => total(run.phases_ms)));
    this.list.replaceChildren(
      ...jobs.slice(0, DRAWN).map((run) => {
        const row = make("li", "");
        const bar = make("span", "phases");
        bar.style.setProperty("--share", String(total(run.phases_ms) / longest));
        const said: string[] = [];
        for (const [phase, word] of PHASES) {
          const took = run.phases_ms[phase];
          if (took === null) continue;
          const part = make("span", `part ${phase}`);
          part.style.flexGrow = String(took);
          bar.append(part);
          said.push(`${say(word, language)} ${ms(took)}`);
        }
        row.title = said.join(", ");
        row.append(make("span", "soft", new Date(run.window_start).toLocaleTimeString("en-GB")), bar, make("span", "took", ms(total(run.phases_ms))));
        return row;
      }),
    );
  }
}

/** The last invocations, a line each. */
export function recent(table: HTMLElement, placement: Placement, language: string): void {
  const row = (tag: string, cells: string[]) => {
    const tr = document.createElement("tr");
    tr.append(...cells.map((text) => make(tag, "", text)));
    return tr;
  };
  const head = (["window", "tuples", "ranWhere", "waited", "took"] as Word[]).map((word) => say(word, language));
  const rows = placement.recent.map((run) =>
    row("td", [new Date(run.window_start).toLocaleTimeString("en-GB"), grouped(String(run.rows)), where(run, language), ms(run.waited_ms), ms(total(run.phases_ms))]),
  );
  table.replaceChildren(row("th", head), ...rows);
}
