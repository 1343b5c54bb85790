import type { Scope } from "./types";

/** What the address bar holds, so that a link shows the same to somebody else. */
export interface View {
  view: "screen" | "operations";
  scope: Scope;
  language: "en" | "zh";
  theme: "dark" | "light";
  /** The minute of the past that is replayed, ms UTC; null for live. */
  at: number | null;
  /** How many seconds into that minute. */
  second: number;
  /** Whether the replay stands still there. */
  paused: boolean;
  /** The province that was chosen. */
  province: string | null;
}

/** The last second of a replay. */
export const LAST = 59;

const one = <T extends string>(value: string | null, of: readonly T[], otherwise: T): T =>
  of.find((known) => known === value) ?? otherwise;

export function read(search: string): View {
  const query = new URLSearchParams(search);
  const at = Date.parse(query.get("at") ?? "");
  const second = Number(query.get("second") ?? 0);
  const chinese = navigator.language.startsWith("zh") ? "zh" : "en";
  const light = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  return {
    view: one(query.get("view"), ["screen", "operations"], "screen"),
    scope: one(query.get("scope"), ["second", "minute", "run"], "run"),
    language: one(query.get("lang"), ["en", "zh"], chinese),
    theme: one(query.get("theme"), ["dark", "light"], light),
    at: Number.isNaN(at) ? null : Math.floor(at / 60_000) * 60_000,
    second: Number.isInteger(second) && second >= 0 && second <= LAST ? second : 0,
    paused: query.get("paused") === "1",
    province: query.get("province"),
  };
}

export function write(view: View): string {
  const query = new URLSearchParams({ view: view.view, scope: view.scope, lang: view.language, theme: view.theme });
  if (view.province !== null) query.set("province", view.province);
  if (view.at !== null) {
    query.set("at", new Date(view.at).toISOString());
    query.set("second", String(view.second));
    if (view.paused) query.set("paused", "1");
  }
  return `?${query}`;
}
