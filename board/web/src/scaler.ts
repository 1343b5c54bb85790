import { grouped } from "./money";
import type { Choice, Policy, Scaler } from "./types";
import { type Word, axisName, locale, say, tell } from "./words";

const make = (tag: string, name: string, text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });
const signed = (q: number) => q.toFixed(3).replace("-", "−");

/** A state's bins, the axes' names with them. */
function bins(policy: Policy, state: number, language: string): string[] {
  const found: string[] = [];
  for (const axis of [...policy.axes].reverse()) {
    found.unshift(`${axisName(axis.name, language)} ${axis.bins[state % axis.bins.length] ?? ""}`);
    state = Math.floor(state / axis.bins.length);
  }
  return found;
}

/** The scaler's state, its last choice, and its Q-table as a heat map. */
export class ScalerPanel {
  private cells: HTMLButtonElement[] = [];
  private shades: number[] = [];
  private drawn: { policy: Policy; language: string } | null = null;

  constructor(private readonly root: HTMLElement) {}

  private part(name: string): HTMLElement {
    return this.root.querySelector(`[data-part=${name}]`) as HTMLElement;
  }

  draw(scaler: Scaler | null, policy: Policy | null, language: string): void {
    const t = (word: Word) => say(word, language);
    const running = scaler?.running ?? false;
    this.part("none").hidden = running;
    this.part("some").hidden = !running;
    if (!scaler || !running) {
      const seen = scaler ? ` ${t("scalerSeen")} ${new Date(scaler.at).toLocaleString(locale(language))}.` : "";
      tell(this.part("none"), `${t("noScaler")}${seen} ${t("startScaler")}`);
      return;
    }
    // The table belongs to one agent; another mode has none.
    const own = policy?.agent === scaler.mode ? policy : null;
    const choice = scaler.choice;
    const state = choice?.state ?? null;
    const named = own && !own.problem && state !== null ? bins(own, state, language).join(" · ") : null;
    const facts: [Word, string][] = [
      ["mode", scaler.mode],
      ["sizeWanted", `${scaler.size} → ${scaler.desired ?? scaler.size}`],
      ["scalerState", named ?? (state === null ? "–" : String(state))],
      ["action", choice ? `${choice.chosen}${choice.explored ? ` (${t("explored")})` : ""}` : "–"],
      ["guards", choice?.guards.join(", ") || t("noGuard")],
    ];
    this.part("facts").replaceChildren(
      ...facts.map(([word, value]) => {
        const pair = make("div", "");
        const dd = make("dd", "", value);
        dd.dataset.fact = word;
        pair.append(make("dt", "", t(word)), dd);
        return pair;
      }),
    );
    this.part("reason").textContent = `${scaler.pool}: ${scaler.reason}`;
    this.values(choice, t);
    const problem = own?.problem ?? (own ? null : t("noTable"));
    this.part("problem").hidden = problem === null;
    this.part("problem").textContent = problem ?? "";
    this.part("table").hidden = problem !== null;
    this.part("detail").hidden = problem !== null;
    if (!own || problem !== null) return;
    if (this.drawn?.policy !== own || this.drawn.language !== language) {
      this.table(own, language);
      delete this.part("detail").dataset.state;
      this.drawn = { policy: own, language };
    }
    this.cells.forEach((cell, at) => {
      const here = Number(cell.dataset.state) === state;
      cell.classList.toggle("here", here);
      cell.tabIndex = (state === null ? at === 0 : here) ? 0 : -1;
    });
    const detail = this.part("detail");
    if (!detail.dataset.state || detail.dataset.state === String(state)) detail.textContent = t("pickState");
  }

  /** Q of every action at the moment of the choice. */
  private values(choice: Choice | null, t: (word: Word) => string): void {
    const all = choice?.actions ?? [];
    const least = Math.min(...all.map((it) => it.q));
    const most = Math.max(...all.map((it) => it.q));
    this.part("values").hidden = all.length === 0;
    this.part("values").replaceChildren(
      ...all.map(({ action, q }) => {
        const row = make("li", action === choice?.chosen ? "chosen" : "");
        const bar = make("span", "bar");
        bar.style.setProperty("--share", String(most > least ? 0.05 + (0.95 * (q - least)) / (most - least) : 1));
        row.append(make("span", "name", action), bar, make("span", "gmv", signed(q)), make("span", "soft", action === choice?.chosen ? t("chosen") : ""));
        return row;
      }),
    );
  }

  /** A panel a bin of the last axes; rows are the first axis, columns the second. */
  private table(policy: Policy, language: string): void {
    const [first, second] = policy.axes.length > 1 ? policy.axes : [{ name: "", bins: [""] }, policy.axes[0]];
    const rows = first?.bins ?? [""];
    const columns = second?.bins ?? [""];
    const count = policy.states.length / (rows.length * columns.length);
    const [down, across] = [first, second].map((axis) => axisName(axis?.name ?? "", language));
    this.part("axes").textContent = down ? `${down} ↓ ${across} →` : `${across} →`;
    const bold = policy.actions.map((action) => action.boldness);
    const [least, most] = [Math.min(...bold), Math.max(...bold)];
    // The boldest of these actions has the full colour, the most careful one none.
    this.shades = bold.map((it) => (most > least ? (it - least) / (most - least) : 0));
    this.cells = [];
    const panels = Array.from({ length: count }, (_, panel) => {
      const table = make("table", "heat");
      table.append(make("caption", "", bins(policy, panel, language).slice(2).join(" · ")));
      const head = make("tr", "");
      head.append(make("td", ""), ...columns.map((bin) => Object.assign(make("th", "", bin), { scope: "col" })));
      table.append(head);
      rows.forEach((bin, row) => {
        const line = make("tr", "");
        line.append(Object.assign(make("th", "", bin), { scope: "row" }));
        columns.forEach((_, column) => {
          const cell = make("td", "");
          cell.append(this.cell(policy, (row * columns.length + column) * count + panel, language));
          line.append(cell);
        });
        table.append(line);
      });
      return table;
    });
    this.part("table").replaceChildren(...panels);
  }

  private cell(policy: Policy, index: number, language: string): HTMLButtonElement {
    const state = policy.states[index];
    const action = policy.actions[state?.best ?? 0];
    const button = make("button", "cell", action?.label) as HTMLButtonElement;
    button.type = "button";
    button.dataset.state = String(index);
    button.style.setProperty("--bold", String(this.shades[state?.best ?? 0] ?? 0));
    button.classList.toggle("seldom", (state?.visits ?? 0) < policy.trusted_visits);
    const values = policy.actions.map((it, at) => `${it.label} ${signed(state?.q[at] ?? 0)}`).join(" · ");
    const text = `${bins(policy, index, language).join(" · ")}: Q ${values}; ${grouped(String(state?.visits ?? 0))} ${say("visits", language)}`;
    button.title = text;
    const show = () => {
      this.part("detail").textContent = text;
      this.part("detail").dataset.state = "picked";
    };
    button.addEventListener("mouseenter", show);
    button.addEventListener("focus", show);
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.cells[(this.cells.indexOf(button) + step + this.cells.length) % this.cells.length]?.focus();
    });
    this.cells.push(button);
    return button;
  }
}
