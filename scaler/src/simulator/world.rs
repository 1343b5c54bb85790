//! The simulated dispatcher, its warm pool and its Jobs, a second at a time.
//!
//! Windows close at whole seconds; their batches are served first in, first out, each by the pod
//! that is free first. A policy sees nothing of this but [`Sample`]s and the pool's size.

use std::collections::VecDeque;

use super::draws::{Stream, uniform};
use super::metrics::{Metrics, quantile};
use super::trace::{Setting, Trace};
use crate::agent::sample::{Pool, Sample};

/// Most pods of any state at once, where the benchmark's pool may have 48 of them.
const SLOTS: usize = 128;
/// Most Jobs remembered at once.
const JOBS: usize = 512;
/// Seconds after the end into which a batch may still run.
const BEYOND: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Gone,
    Starting,
    Ready,
    Draining,
}

#[derive(Clone, Copy, Debug)]
struct Pod {
    state: State,
    ready_at: f64,
    free_at: f64,
    end_at: f64,
}

const GONE: Pod = Pod {
    state: State::Gone,
    ready_at: 0.0,
    free_at: 0.0,
    end_at: 0.0,
};

#[derive(Clone, Copy, Debug)]
struct Batch {
    arrived: f64,
    tuples: f64,
    service: f64,
    window: usize,
}

/// One run in progress.
#[derive(Debug)]
pub struct World<'a> {
    trace: &'a Trace,
    setting: Setting,
    second: usize,
    /// Most pods of any state at once: those that leave need room beside those that stay.
    slots: usize,
    pods: Vec<Pod>,
    queue: VecDeque<Batch>,
    jobs: Vec<f64>,
    /// When the last batch of each window ends, as far as it has begun.
    window_end: Vec<f64>,
    /// Batches of each window that have not begun.
    window_left: Vec<u32>,
    busy: Vec<f64>,
    cost: f64,
    paid: f64,
    pod_draws: u64,
    job_draws: u64,
    actions: u32,
    churn: u32,
    reversals: u32,
    direction: i8,
}

impl<'a> World<'a> {
    /// A run of `trace` that begins with `pods` ready pods.
    pub fn new(trace: &'a Trace, pods: u32) -> Self {
        let ready = Pod {
            state: State::Ready,
            ..GONE
        };
        let slots = SLOTS.max(trace.setting.max as usize * SLOTS / 48);
        Self {
            trace,
            setting: trace.setting,
            second: 0,
            slots,
            pods: vec![ready; (pods as usize).min(slots)],
            queue: VecDeque::new(),
            jobs: vec![-1.0; JOBS],
            window_end: vec![0.0; trace.len()],
            window_left: vec![0; trace.len()],
            busy: vec![0.0; trace.len() + BEYOND],
            cost: 0.0,
            paid: 0.0,
            pod_draws: 0,
            job_draws: 0,
            actions: 0,
            churn: 0,
            reversals: 0,
            direction: 0,
        }
    }

    /// Seconds run so far.
    pub fn second(&self) -> usize {
        self.second
    }

    /// The pool as a policy sees it.
    pub fn pool(&self) -> Pool {
        let count = |state| self.pods.iter().filter(|pod| pod.state == state).count() as u32;
        Pool {
            starting: count(State::Starting),
            ready: count(State::Ready),
            recallable: 0,
        }
    }

    /// Starts or stops pods until `desired`, within the limits, are starting or ready.
    ///
    /// The first to stop is the pod that would be ready last, then the one that is free first.
    pub fn resize(&mut self, desired: u32) -> u32 {
        let desired = desired.max(self.setting.min).min(self.setting.max);
        let current = self.pool().size();
        if desired == current {
            return current;
        }
        let direction = if desired > current { 1 } else { -1 };
        self.actions += 1;
        self.churn += desired.abs_diff(current);
        if self.direction != 0 && self.direction != direction {
            self.reversals += 1;
        }
        self.direction = direction;
        for _ in current..desired {
            if !self.start_pod() {
                break;
            }
        }
        for _ in desired..current {
            self.stop_pod();
        }
        desired
    }

    fn start_pod(&mut self) -> bool {
        let gone = self.pods.iter().position(|pod| pod.state == State::Gone);
        let slot = gone.unwrap_or(self.pods.len());
        if slot == self.slots {
            return false;
        }
        if slot == self.pods.len() {
            self.pods.push(GONE);
        }
        let drawn = uniform(self.trace.seed, Stream::Pod, self.pod_draws);
        self.pod_draws += 1;
        let delay =
            self.setting.start_from + (self.setting.start_to - self.setting.start_from) * drawn;
        let ready_at = self.second as f64 + delay;
        self.pods[slot] = Pod {
            state: State::Starting,
            ready_at,
            free_at: ready_at,
            end_at: 0.0,
        };
        true
    }

    fn stop_pod(&mut self) {
        let now = self.second as f64;
        let mut victim: Option<usize> = None;
        for (at, pod) in self.pods.iter().enumerate() {
            let later = victim.is_none_or(|v| pod.ready_at > self.pods[v].ready_at);
            if pod.state == State::Starting && later {
                victim = Some(at);
            }
        }
        if victim.is_none() {
            for (at, pod) in self.pods.iter().enumerate() {
                let sooner = victim.is_none_or(|v| pod.free_at < self.pods[v].free_at);
                if pod.state == State::Ready && sooner {
                    victim = Some(at);
                }
            }
        }
        let Some(victim) = victim else { return };
        let pod = &mut self.pods[victim];
        let last = match pod.state {
            State::Starting => now,
            _ => now.max(pod.free_at),
        };
        pod.state = State::Draining;
        pod.end_at = last + self.setting.drain;
    }

    /// Runs the next second: its window closes at the start, batches are handed out until the end.
    ///
    /// `None` once the trace is at its end.
    pub fn step(&mut self) -> Option<Sample> {
        if self.second >= self.trace.len() {
            return None;
        }
        let start = self.second as f64;
        self.promote_and_reap(start);
        let jobs_cost = self.close_window(start);
        let mut sample = self.hand_out(start);
        let paid = self.account(start, &mut sample);
        sample.arrived = f64::from(self.trace.arrivals()[self.second]);
        sample.cost = paid + jobs_cost;
        sample.late = self.late_window_before();
        self.cost += sample.cost;
        self.paid += paid;
        self.second += 1;
        Some(sample)
    }

    fn promote_and_reap(&mut self, start: f64) {
        for pod in &mut self.pods {
            if pod.state == State::Starting && pod.ready_at <= start {
                pod.state = State::Ready;
            } else if pod.state == State::Draining && pod.end_at <= start {
                pod.state = State::Gone;
            }
        }
    }

    /// Queues the window's batches; those that would wait too long become Jobs. Returns the Jobs' cost.
    fn close_window(&mut self, start: f64) -> f64 {
        let setting = self.setting;
        let work = self.queue.iter().fold(0.0, |sum, b| sum + b.service);
        let (mut ready, mut rest) = (0_u32, 0.0);
        for pod in self.pods.iter().filter(|pod| pod.state == State::Ready) {
            ready += 1;
            if pod.free_at > start {
                rest += pod.free_at - start;
            }
        }
        let servers = f64::from(ready.max(1));
        let mut wait = (work + rest) / servers;
        let mut alive = self.jobs.iter().filter(|&&end| end > start).count() as u32;
        let window = self.trace.window(self.second);
        let tuples = window.batch_tuples();
        self.window_left[self.second] = window.service.len() as u32;
        self.window_end[self.second] = start;
        let mut cost = 0.0;
        for &service in window.service {
            if wait > setting.overflow_wait && alive < setting.jobs_max {
                let drawn = uniform(self.trace.seed, Stream::Job, self.job_draws);
                self.job_draws += 1;
                let cold = setting.cold_from + (setting.cold_to - setting.cold_from) * drawn;
                let end = start + cold + service;
                if let Some(job) = self.jobs.iter_mut().find(|job| **job <= start) {
                    *job = end;
                }
                alive += 1;
                cost += cold + service + setting.job_cost;
                let last = &mut self.window_end[self.second];
                *last = last.max(end);
                self.window_left[self.second] -= 1;
            } else {
                self.queue.push_back(Batch {
                    arrived: start,
                    tuples,
                    service,
                    window: self.second,
                });
                wait += service / servers;
            }
        }
        cost
    }

    /// Hands batches out until the second ends; pods may become ready within it.
    fn hand_out(&mut self, start: f64) -> Sample {
        let end = start + 1.0;
        let mut sample = Sample::default();
        while let Some(&batch) = self.queue.front() {
            let mut free: Option<usize> = None;
            for (at, pod) in self.pods.iter().enumerate() {
                let serves = pod.state == State::Ready
                    || (pod.state == State::Starting && pod.ready_at < end);
                if serves && free.is_none_or(|f| pod.free_at < self.pods[f].free_at) {
                    free = Some(at);
                }
            }
            let Some(free) = free else { break };
            let pod = &mut self.pods[free];
            let begin = pod.free_at.max(batch.arrived).max(start);
            if begin >= end {
                break;
            }
            pod.state = State::Ready;
            let done = begin + batch.service;
            pod.free_at = done;
            let last = &mut self.window_end[batch.window];
            *last = last.max(done);
            self.window_left[batch.window] -= 1;
            self.spread_busy(begin, done);
            sample.started_tuples += batch.tuples;
            sample.started_seconds += batch.service;
            sample.started_batches += 1.0;
            self.queue.pop_front();
        }
        sample
    }

    fn spread_busy(&mut self, begin: f64, done: f64) {
        let (mut at, mut second) = (begin, self.second);
        while at < done && second < self.busy.len() {
            let next = done.min(second as f64 + 1.0);
            self.busy[second] += next - at;
            at = next;
            second += 1;
        }
    }

    /// Fills the sample's pool and queue in and returns the pool's pod-seconds.
    fn account(&self, start: f64, sample: &mut Sample) -> f64 {
        let end = start + 1.0;
        let mut paid = 0.0;
        for pod in &self.pods {
            match pod.state {
                State::Gone => {}
                State::Draining => paid += (pod.end_at - start).clamp(0.0, 1.0),
                State::Starting => paid += 1.0,
                State::Ready => {
                    paid += 1.0;
                    sample.ready += (end - start.max(pod.ready_at)).clamp(0.0, 1.0);
                }
            }
        }
        sample.busy = self.busy[self.second];
        for batch in &self.queue {
            sample.queued_tuples += batch.tuples;
            sample.queued_seconds += batch.service;
        }
        paid
    }

    /// Whether the window whose deadline has just passed was late, as a count.
    fn late_window_before(&self) -> f64 {
        let Some(window) = self.second.checked_sub(1) else {
            return 0.0;
        };
        let end = self.window_end[window] - window as f64;
        let late = self.window_left[window] > 0 || end > self.setting.goal;
        f64::from(u8::from(late))
    }

    /// The run's figures; windows unfinished at the end count as late.
    pub fn metrics(&self) -> Metrics {
        let end = self.second as f64;
        let windows = self.window_end.iter().zip(&self.window_left).enumerate();
        let mut latency: Vec<f64> = windows
            .map(|(window, (&last, &left))| {
                let known = last - window as f64;
                if left > 0 {
                    known.max(end - window as f64)
                } else {
                    known
                }
            })
            .collect();
        let late = latency.iter().filter(|&&l| l > self.setting.goal).count();
        Metrics {
            late: late as u32,
            late_percent: 100.0 * late as f64 / latency.len().max(1) as f64,
            p99: quantile(&mut latency, 0.99),
            p50: quantile(&mut latency, 0.5),
            cost: self.cost,
            paid: self.paid,
            actions: self.actions,
            churn: self.churn,
            reversals: self.reversals,
            jobs: self.job_draws as u32,
        }
    }
}
