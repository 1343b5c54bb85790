import { hundredths, mean, text } from "./money";
import type { Sales, Shown, StepRow, Window } from "./types";

/** A minute of the past, and the four before it for the chart. */
export interface Past {
  at: number;
  rows: Map<number, StepRow[]>;
}

export async function fetchPast(at: number): Promise<Past> {
  const query = new URLSearchParams({ from: String(at - 240_000), to: String(at + 60_000), step: "second" });
  const response = await fetch(`/api/v1/gmv?${query}`);
  const body = (await response.json()) as { rows?: StepRow[]; error?: string };
  if (!response.ok || !body.rows) throw new Error(body.error ?? response.statusText);
  const rows = new Map<number, StepRow[]>();
  for (const row of body.rows) {
    const start = Date.parse(`${row.start.replace(" ", "T")}Z`);
    const list = rows.get(start);
    if (list) list.push(row);
    else rows.set(start, [row]);
  }
  return { at, rows };
}

function add(province: string, rows: Sales[]): Sales {
  let orders = 0;
  let sum = 0n;
  let least: bigint | null = null;
  let most: bigint | null = null;
  for (const row of rows) {
    orders += row.orders;
    sum += hundredths(row.gmv);
    const [low, high] = [hundredths(row.min_amount), hundredths(row.max_amount)];
    if (least === null || low < least) least = low;
    if (most === null || high > most) most = high;
  }
  return { province, orders, gmv: text(sum), mean: mean(sum, orders), min_amount: text(least ?? 0n), max_amount: text(most ?? 0n) };
}

/** What the screen shows `position` seconds into the minute. */
export function shownAt(past: Past, position: number): Shown {
  const now = past.at + position * 1000;
  const windows: Window[] = [];
  const minute = new Map<string, Sales[]>();
  for (const [start, rows] of past.rows) {
    if (start > now) continue;
    const sum = add("", rows);
    const revision = rows.reduce((all, row) => all + row.revision, 0);
    windows.push({ start, orders: sum.orders, gmv: sum.gmv, revision, state: rows[0]?.state ?? "final" });
    if (start < past.at) continue;
    for (const row of rows) minute.set(row.province, [...(minute.get(row.province) ?? []), row]);
  }
  windows.sort((a, b) => a.start - b.start);
  const sums = [...minute].map(([province, rows]) => add(province, rows));
  const second = past.rows.get(now) ?? [];
  return { total: add("", sums), scopes: { second, minute: sums }, secondStart: now, windows };
}
