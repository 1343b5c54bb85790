import type { Operations, Policy, Scope, Shown, Status } from "./types";

type Row = Record<string, string | number | null>;

/** A cell that a spreadsheet takes as text or number, never as a formula. */
function cell(value: string | number | null): string {
  let text = String(value ?? "");
  if (/^[=+\-@\t\r]/.test(text) && !/^-?\d+(\.\d+)?$/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows under the names of all of them, in the order in which they first come. */
export function csv(rows: Row[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = rows.map((row) => names.map((name) => cell(row[name] ?? null)).join(","));
  return `${[names.join(","), ...lines].join("\r\n")}\r\n`;
}

const instant = (ms: number) => new Date(ms).toISOString();

/** All that the screen shows: `part` says of what a row is, a province of the chosen time span, say. */
export function screenRows(shown: Shown, scope: Scope, status: Status | null): Row[] {
  const { total, windows } = shown;
  const figures = ({ orders, gmv, mean, min_amount, max_amount }: typeof total) => ({ orders, gmv, mean, min_amount, max_amount });
  return [
    { part: "total", start: null, province: null, ...figures(total), revision: null, state: null },
    ...(shown.scopes[scope] ?? []).map((row) => ({ part: `province (${scope})`, province: row.province, ...figures(row) })),
    ...windows.map(({ start, orders, gmv, revision, state }) => ({ part: "second", start: instant(start), orders, gmv, revision, state })),
    ...(status ? [freshness(status)] : []),
  ];
}

function freshness({ at, newest_window, counted, late, quarantined, windows_open, replicas }: Status): Row {
  const fit = replicas.filter((replica) => replica.skipped === null);
  const least = (values: (number | null)[]) => values.reduce<number | null>((a, b) => (b === null || (a !== null && a <= b) ? a : b), null);
  return {
    part: "freshness",
    at: instant(at),
    newest_window: newest_window === null ? null : instant(newest_window),
    replica_age_ms: least(fit.map((replica) => replica.age_ms)),
    replica_behind_s: least(fit.map((replica) => replica.behind_s)),
    windows_open,
    counted,
    late,
    quarantined,
  };
}

/** All that the operations view shows. */
export function operationsRows(history: Operations[], status: Status | null, policy: Policy | null): Row[] {
  const { placement, scaler, replicas, troubles } = status ?? { placement: null, scaler: null, replicas: [], troubles: [] };
  const runs = [...(placement?.recent ?? []).map((run) => ({ part: "invocation", run })), ...(placement?.jobs ?? []).map((run) => ({ part: "job", run }))];
  const choice = scaler?.running ? scaler.choice : null;
  const table = policy && policy.agent === scaler?.mode ? policy : null;
  return [
    ...history.map((now) => ({ part: "moment", ...now, at: instant(now.at) })),
    ...runs.map(({ part, run: { window_start, phases_ms, ...run } }) => ({
      part,
      window: instant(window_start),
      ...run,
      ...Object.fromEntries(Object.entries(phases_ms).map(([phase, ms]) => [`${phase}_ms`, ms])),
    })),
    ...(scaler?.running ? [{ part: "scaler", at: instant(scaler.at), size: scaler.size, desired: scaler.desired, mode: scaler.mode, why: scaler.reason, state: choice?.state ?? null, action: choice?.chosen ?? null, guards: choice?.guards.join(" ") ?? null }] : []),
    ...(choice?.actions ?? []).map(({ action, q }) => ({ part: "choice", at: instant(choice?.at ?? 0), action, q })),
    ...(table?.states ?? []).flatMap(({ q, visits }, state) => q.map((value, at) => ({ part: "q-table", state, action: table?.actions[at]?.label ?? null, q: value, visits }))),
    ...replicas.map(({ server, skipped, commits, age_ms, behind_s }) => ({ part: "replica", server, why: skipped, commits, age_ms, behind_s })),
    ...troubles.map(({ kind, text, since }) => ({ part: "trouble", at: instant(since), kind, why: text })),
  ];
}

export function save(name: string, content: string): void {
  const url = URL.createObjectURL(new Blob([content], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
