import { hundredths, text } from "./money";
import type { Frame, Operations, Policy, Sales, Shown, Status, Window } from "./types";

const NOTHING: Sales = { province: "", orders: 0, gmv: "0.00", mean: "0.0000", min_amount: "0.00", max_amount: "0.00" };
/** Statuses kept: five minutes of one a second, as the server does. */
const KEPT = 300;
/** Silence after which a connection is a dead one, ms: the server tells its status once a second. */
export const SILENT_MS = 5_000;
/** For how long the rate of the last second that is over is the rate, ms, if no other one comes. */
const RATE_MS = 10_000;

/** The live feed's state: bounded, and replaced whole whenever the connection is new. */
export class Live {
  /** Whether anything has come: until then, no sales are none that are known. */
  known = false;
  frame: Frame = { commits: 0, total: NOTHING, run: [], minute: [], second: [], second_start: null, windows: [], forget_before: 0 };
  windows = new Map<number, Window>();
  status: Status | null = null;
  operations: Operations[] = [];
  policy: Policy | null = null;
  /** Sum of what late orders changed with the last frame, decimal text; null if nothing. */
  correction: string | null = null;
  /** When the last second that is over last was a new one, by the page's own clock. */
  private movedAt = -Infinity;

  whole(frame: Frame): void {
    this.windows.clear();
    this.correction = null;
    this.merge(frame);
  }

  update(frame: Frame): void {
    let delta = 0n;
    let revised = false;
    for (const window of frame.windows) {
      const old = this.windows.get(window.start);
      // What came on time while it was open is no correction.
      if (old && old.state !== "open" && window.revision > old.revision) {
        delta += hundredths(window.gmv) - hundredths(old.gmv);
        revised = true;
      }
    }
    this.correction = revised ? text(delta) : null;
    this.merge(frame);
  }

  private merge(frame: Frame): void {
    if (this.known && frame.second_start !== this.frame.second_start) this.movedAt = performance.now();
    this.known = true;
    for (const window of frame.windows) this.windows.set(window.start, window);
    for (const start of this.windows.keys()) if (start < frame.forget_before) this.windows.delete(start);
    this.frame = frame;
  }

  /** Orders of the last second that is over; none where that is long ago and no other one comes. */
  rate(): number {
    const start = this.frame.second_start;
    if (start === null) return 0;
    const old = this.status !== null && this.status.at - start - 1000 > RATE_MS;
    if (old && performance.now() - this.movedAt > RATE_MS) return 0;
    return this.windows.get(start)?.orders ?? 0;
  }

  take(status: Status): void {
    this.status = status;
    const { operations } = status;
    if (operations && operations.at !== this.operations.at(-1)?.at) this.operations.push(operations);
    while (this.operations.length > KEPT) this.operations.shift();
  }

  shown(): Shown {
    const { total, run, minute, second, second_start } = this.frame;
    const windows = [...this.windows.values()].sort((a, b) => a.start - b.start);
    return { total, scopes: { run, minute, second }, secondStart: second_start, windows };
  }
}

/**
 * Connects, and again whenever the connection is gone or brings nothing any more; `changed` says which
 * event came.
 */
export function connect(live: Live, changed: (event: "whole" | "frame" | "status" | "lost" | "silent") => void): void {
  const source = new EventSource("/api/v1/events");
  let heard = performance.now();
  const on = <T>(name: string, take: (data: T) => void) =>
    source.addEventListener(name, (event) => {
      heard = performance.now();
      take(JSON.parse((event as MessageEvent<string>).data) as T);
    });
  const again = (event: "lost" | "silent", ms: number) => {
    clearInterval(watchdog);
    source.close();
    changed(event);
    setTimeout(() => connect(live, changed), ms);
  };
  const watchdog = setInterval(() => performance.now() - heard > SILENT_MS && again("silent", 0), 500);
  on<Frame>("whole", (frame) => (live.whole(frame), changed("whole")));
  on<Frame>("frame", (frame) => (live.update(frame), changed("frame")));
  on<Operations[]>("operations", (operations) => (live.operations = operations));
  on<Policy>("policy", (policy) => (live.policy = policy));
  on<Status>("status", (status) => (live.take(status), changed("status")));
  // A browser connects again by itself, in its own time; this is sooner.
  source.addEventListener("error", () => again("lost", 500));
}
