/** The shapes of the JSON, as /openapi.json describes them: money is decimal text, times are ms UTC. */
export interface Sales {
  province: string;
  orders: number;
  gmv: string;
  mean: string;
  min_amount: string;
  max_amount: string;
}
export interface Window {
  start: number;
  orders: number;
  gmv: string;
  revision: number;
  state: string;
}
export interface Frame {
  commits: number;
  total: Sales;
  run: Sales[];
  minute: Sales[];
  second: Sales[];
  second_start: number | null;
  windows: Window[];
  forget_before: number;
}
export interface Operations {
  at: number;
  busy: number;
  idle: number;
  waiting: number;
  in_flight: number;
  queue_ready: number;
  queue_unacked: number;
  windows_open: number;
  failed: number;
  window_p50_ms: number;
  window_p99_ms: number;
  invocation_p50_ms: number;
  invocation_p99_ms: number;
}
export interface Status {
  at: number;
  newest_window: number | null;
  counted: number;
  late: number;
  quarantined: number;
  windows_open: number;
  replicas: { server: string; skipped: string | null; commits: number; age_ms: number | null }[];
  has_dispatcher: boolean;
  operations: Operations | null;
  troubles: { kind: string; text: string; since: number }[];
}
export interface StepRow extends Sales {
  start: string;
  revision: number;
  state: string;
}
export type Scope = "second" | "minute" | "run";
/** What the screen draws, live or of the past. */
export interface Shown {
  total: Sales;
  scopes: Record<Scope, Sales[]>;
  secondStart: number | null;
  windows: Window[];
}
