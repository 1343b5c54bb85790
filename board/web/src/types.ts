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
  size: number;
  busy: number;
  idle: number;
  desired: number | null;
  waiting: number;
  in_flight: number;
  queue_ready: number;
  queue_unacked: number;
  windows_open: number;
  live_jobs: number;
  ran_warm: number;
  ran_overflow: number;
  ran_asked: number;
  failed: number;
  window_p50_ms: number;
  window_p99_ms: number;
  invocation_p50_ms: number;
  invocation_p99_ms: number;
}
export interface Phases {
  created: number | null;
  scheduled: number | null;
  started: number | null;
  pulled: number | null;
  answered: number | null;
}
export interface Run {
  window_start: number;
  rows: number;
  place: string;
  reason: string;
  waited_ms: number;
  phases_ms: Phases;
}
export interface Placement {
  mode: string;
  live_jobs: number;
  creating_paused: string | null;
  recent: Run[];
  jobs: Run[];
}
export interface Choice {
  at: number;
  before: number;
  desired: number;
  state: number | null;
  actions: { action: string; q: number }[];
  chosen: string;
  explored: boolean;
  guards: string[];
}
export interface Scaler {
  running: boolean;
  at: number;
  pool: string;
  mode: string;
  size: number;
  desired: number | null;
  reason: string;
  refused: string | null;
  choice: Choice | null;
}
export interface Policy {
  agent: string;
  version: number;
  at: number;
  decisions: number;
  axes: { name: string; bins: string[] }[];
  actions: { label: string; boldness: number }[];
  states: { best: number; visits: number; q: number[] }[];
  trusted_visits: number;
  problem: string | null;
}
export interface Replica {
  server: string;
  skipped: string | null;
  commits: number;
  age_ms: number | null;
  behind_s: number | null;
}
export interface Trouble {
  kind: string;
  cause: string;
  subject: string;
  figures: number[];
  detail: string;
  text: string;
  since: number;
}
export interface Status {
  at: number;
  newest_window: number | null;
  /** This and the three below: null until a replica has answered. */
  counted: number | null;
  late: number | null;
  quarantined: number | null;
  windows_open: number | null;
  replicas: Replica[];
  has_dispatcher: boolean;
  operations: Operations | null;
  placement: Placement | null;
  scaler: Scaler | null;
  troubles: Trouble[];
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
  /** Of the whole run where it is known: a replay has its minute only. */
  scopes: Partial<Record<Scope, Sales[]>>;
  secondStart: number | null;
  windows: Window[];
}
