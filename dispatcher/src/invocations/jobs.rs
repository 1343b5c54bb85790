//! Invocations that run in Jobs: what waits is offered to the [`Placer`], and what is heard of Jobs is
//! applied to the attempts they were made for.

use super::{AttemptId, Handout, Invocations, Live, Worker};
use crate::placement::{JobRun, Order, PartId, Placement, Report, Waiting};
use crate::shard::Answer;

/// What the shell is to do about Jobs, and when to ask again.
#[derive(Debug, Default)]
pub struct Placed {
    /// What to create and remove.
    pub orders: Vec<Order>,
    /// When to ask again even if nothing happens, monotonic ms.
    pub again_ms: Option<u64>,
}

impl Invocations {
    /// The attempt that a program was launched for, if its batch still waits. `age_ms` is for how long
    /// the program has run, if it says so.
    pub fn take(
        &mut self,
        id: AttemptId,
        worker: &Worker,
        connection: u64,
        age_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<Handout> {
        let part = (id.chunk, id.part);
        let Some(position) = self.ready.iter().position(|&ready| ready == part) else {
            self.placer.missed(id);
            return None;
        };
        self.ready.remove(position);
        let since_ms = self.waiting(part)?.since_ms;
        let mut run = self.placer.taken(id, since_ms);
        run.pulled(age_ms, now_ms);
        self.hand_out(part, worker, connection, Some(run), now_ms)
    }

    /// Which Jobs to create and remove now. `random` in `[0, 1)` spreads what is tried again.
    pub fn place(&mut self, random: f64, now_ms: u64) -> Placed {
        if self.placer.placement() == Placement::Pool || self.draining {
            return Placed::default();
        }
        let mut orders = Vec::new();
        for (id, stuck) in self.placer.overdue(now_ms) {
            orders.extend(stuck.is_some().then_some(Order::Remove(id)));
            let why = stuck.unwrap_or_else(|| "it did not start in time".into());
            self.did_not_start(id, &why, random, now_ms);
        }
        let halted_ms = self.halt.as_ref().map(|halt| halt.probe_at_ms);
        let waiting: Vec<Waiting> = match halted_ms {
            Some(probe_at_ms) if probe_at_ms > now_ms => Vec::new(),
            _ => self
                .ready
                .iter()
                .filter_map(|&part| self.waiting(part))
                .collect(),
        };
        let running = self.jobs_running();
        let decision = self
            .placer
            .decide(waiting, running, halted_ms.is_some(), now_ms);
        if let Some(halt) = &mut self.halt
            && !decision.create.is_empty()
        {
            halt.probe_at_ms = now_ms + self.limits.probe_ms;
        }
        orders.extend(decision.create.into_iter().map(Order::Create));
        let again_ms = [decision.again_ms, halted_ms.filter(|at| *at > now_ms)];
        Placed {
            orders,
            again_ms: again_ms.into_iter().flatten().min(),
        }
    }

    /// Something was heard of the Job that was made for this attempt. Returns the chunk's answer if
    /// that completes it.
    pub fn reported(
        &mut self,
        id: AttemptId,
        report: Report,
        random: f64,
        now_ms: u64,
    ) -> Option<Answer> {
        if self.placer.expects(id) {
            if let Some(why) = self.placer.reported(id, report, random, now_ms) {
                self.did_not_start(id, &why, random, now_ms);
            }
            return None;
        }
        if matches!(report, Report::Ended(_)) {
            self.placer.ended(id);
        }
        let (attempt, job) = self.run_of(id)?;
        match report {
            Report::Created | Report::Exists { .. } => job.created(now_ms),
            Report::Scheduled => job.scheduled(now_ms),
            Report::Ended(how) => {
                let error = format!("its Job ended before it answered: {how}");
                return self.fail(attempt, error, now_ms);
            }
            Report::Refused(..) | Report::Stuck(_) => {}
        }
        None
    }

    /// So many unfinished Jobs of this deployment were made by dispatchers that are gone.
    pub fn other_jobs(&mut self, unfinished: usize) {
        self.placer.others(unfinished);
    }

    /// Jobs that have not ended, as far as is known here.
    pub fn jobs_live(&self) -> usize {
        self.placer.pending() + self.jobs_running()
    }

    /// Why no Job is created, while that is so.
    pub fn jobs_paused(&self) -> Option<String> {
        self.placer.paused()
    }

    /// Which invocations may become Jobs.
    pub fn placement(&self) -> Placement {
        self.placer.placement()
    }

    /// A Job will not take its batch. Its number is used up, since its name is; that is no fault of the
    /// batch, which nobody has tried. If the batch was taken meanwhile, the Job had nothing to do.
    fn did_not_start(&mut self, id: AttemptId, why: &str, random: f64, now_ms: u64) {
        let chunk = self.chunks.get_mut(&id.chunk);
        let Some(part) = chunk.and_then(|chunk| chunk.parts.get_mut(&id.part)) else {
            return;
        };
        if part.waits_ms.is_some() && part.attempts + 1 == id.attempt {
            part.attempts += 1;
            self.placer.did_not_start(why, random, now_ms);
        }
    }

    fn waiting(&self, part: PartId) -> Option<Waiting> {
        let state = self.chunks.get(&part.0)?.parts.get(&part.1)?;
        Some(Waiting {
            part,
            attempt: state.attempts + 1,
            since_ms: state.waits_ms?,
        })
    }

    fn jobs_running(&self) -> usize {
        let parts = self.chunks.values().flat_map(|chunk| chunk.parts.values());
        parts
            .flat_map(|part| &part.live)
            .filter(|live| live.job.is_some())
            .count()
    }

    /// The attempt that the Job made for `id` has in hand.
    fn run_of(&mut self, id: AttemptId) -> Option<(AttemptId, &mut JobRun)> {
        let part = self.chunks.get_mut(&id.chunk)?.parts.get_mut(&id.part)?;
        part.live.iter_mut().find_map(|Live { attempt, job, .. }| {
            let job = job.as_mut().filter(|job| job.id == id)?;
            let attempt = *attempt;
            Some((AttemptId { attempt, ..id }, job))
        })
    }
}

#[cfg(test)]
mod tests;
