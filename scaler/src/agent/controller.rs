//! The whole scaler as one pure step: a second goes by, perhaps the pool is resized, and why.
//!
//! It adds to a policy what must hold whoever decides: missing measurements, limits, calendar
//! floors, no scale-in while a backlog grows, and a pool that others resize, too. What was learned
//! survives every change of the tuning.
//!
//! A scale-in takes its time where pods have to become idle first. What forbids one then holds the one
//! under way ([`Controller::forbids_scale_in`]), and a backlog that grows beyond what is usual between two
//! windows calls it back.

use super::decision::{Cause, Decision, Guard};
use super::history::{Every, History, View};
use super::meter::Missing;
use super::presets;
use super::sample::{Pool, Sample};
use super::sarsa::{Agent, BACKLOG_LIMIT, Goal, Luck};
use crate::policies::{Autoscaler, Ds2, Formula, Signal, ds2};
use crate::tuning::{Mode, Tuning};

/// What comes in every second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    /// Seconds on the caller's clock; it should never go back, but may.
    pub now: f64,
    /// What was measured, or why nothing was.
    pub seen: Result<Sample, Missing>,
    /// The pool as it is.
    pub pool: Pool,
    /// The calendar's minimum at this time; see [`crate::tuning::Calendar::floor`].
    pub calendar: u32,
    /// For exploration.
    pub luck: Luck,
}

/// A scaler.
#[derive(Clone, Debug)]
pub struct Controller {
    tuning: Tuning,
    /// The agent of mode `elastic`.
    pub elastic: Agent,
    /// The agent of mode `paper`.
    pub paper: Agent,
    formula: Option<Formula>,
    /// When a formula's size is told even if it is the one that there is, as an agent's choices are.
    telling: Every,
    history: History,
    last: Option<f64>,
    gap: Option<Gap>,
    /// Until when a gap that is over still forbids scale-in.
    cautious_until: Option<f64>,
    /// Until when a scale-in that was called back is not tried again.
    recalled_until: Option<f64>,
    /// Whether anything forbade scale-in in the last second.
    forbids_scale_in: bool,
    /// The size that was last seen or asked for.
    expected: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    since: f64,
    boosted: bool,
}

/// Longest time between two seconds that is still continuous, seconds.
const LONGEST: f64 = 3.0;
/// How long a scale-in that was called back is not tried again, seconds: else a backlog that comes and goes
/// would have pods stopped and kept by turns.
const RECALLED: f64 = 10.0;

impl Controller {
    /// A scaler that goes on from what its agents know.
    pub fn new(tuning: Tuning, elastic: Agent, paper: Agent) -> Self {
        let mut made = Self {
            tuning: Tuning::default(),
            elastic,
            paper,
            formula: None,
            telling: Every::new(Tuning::default().decision_interval),
            history: History::default(),
            last: None,
            gap: None,
            cautious_until: None,
            recalled_until: None,
            forbids_scale_in: false,
            expected: None,
        };
        made.retune(tuning);
        made
    }

    /// With the shipped table.
    pub fn shipped(tuning: Tuning) -> Self {
        let elastic = presets::elastic(presets::ELASTIC, presets::shipped().table);
        Self::new(tuning, elastic, presets::paper())
    }

    /// Whether no pod may be stopped in the second that was seen last, not even for a decision taken
    /// before.
    pub fn forbids_scale_in(&self) -> bool {
        self.forbids_scale_in
    }

    /// What is in force.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Puts another tuning in force. Nothing that was learned is lost.
    pub fn retune(&mut self, tuning: Tuning) {
        let t = &tuning;
        for agent in [&mut self.elastic, &mut self.paper] {
            let behaviour = &mut agent.behaviour;
            behaviour.min = t.min_size;
            behaviour.max = t.max_size;
            behaviour.goal_seconds = t.latency_goal;
            if behaviour.interval != t.decision_interval {
                agent.pace(t.decision_interval);
            }
        }
        let elastic = &mut self.elastic;
        elastic.behaviour.kappa = t.late_window_price;
        elastic.behaviour.epsilon = t.exploration;
        elastic.behaviour.guarded = t.guards;
        elastic.learner.rates.discount = t.discount;
        elastic.learner.rates.trace = t.trace_decay;
        elastic.learner.rates.first = t.learning_rate;
        elastic.learner.rates.least = t.learning_rate_floor;
        self.paper.behaviour.reward = Goal::Utilization {
            target: t.target_utilization,
        };
        if t.decision_interval != self.tuning.decision_interval {
            self.telling = Every::new(t.decision_interval);
        }
        if t.mode != self.tuning.mode {
            self.formula = formula(t);
            self.elastic.interrupt();
            self.paper.interrupt();
        } else if let Some(formula) = &mut self.formula {
            aim(formula, t);
        }
        self.tuning = tuning;
    }

    /// Sees a second go by; `None` if there is nothing to tell, and the pool is to stay as it is.
    pub fn second(&mut self, second: Second) -> Option<Decision> {
        let jumped = self.last.is_some_and(|last| {
            let elapsed = second.now - last;
            !(0.0..=LONGEST).contains(&elapsed)
        });
        let seen = match second.seen {
            Ok(_) if jumped || !second.now.is_finite() => Err(Missing::ClockJumped),
            Ok(sample) if !finite(&sample) => Err(Missing::NotANumber),
            other => other,
        };
        if second.now.is_finite() {
            self.last = Some(second.now);
        }
        let sample = match seen {
            Ok(sample) => sample,
            Err(reason) => return self.gap(&second, reason),
        };
        if self.gap.take().is_some() {
            self.cautious_until = Some(second.now + self.tuning.gap_caution);
        }
        let growing = self
            .history
            .last()
            .is_some_and(|before| sample.queued_seconds > before.queued_seconds);
        self.history.push(sample);
        if self.expected.is_some_and(|size| size != second.pool.size()) {
            // Somebody else resized the pool: what follows is not the last choice's doing.
            self.elastic.interrupt();
            self.paper.interrupt();
        }
        let decided = self.wish(&second, growing);
        self.expected = Some(decided.as_ref().map_or(second.pool.size(), |d| d.desired));
        decided
    }

    /// Holds; once a gap, after some patience, enlarges the pool a little, never to the maximum. What
    /// the calendar asks for needs no measurements.
    fn gap(&mut self, second: &Second, reason: Missing) -> Option<Decision> {
        self.forbids_scale_in = true;
        let begun = self.gap.is_none();
        if begun {
            // The clock may be another one when it is over.
            self.recalled_until = None;
        }
        let now = if second.now.is_finite() {
            second.now
        } else {
            self.last?
        };
        // One soon after another is the same trouble, for which the pool was enlarged already.
        let boosted = self.cautious_until.is_some_and(|until| now < until);
        let gap = self.gap.get_or_insert(Gap {
            since: now,
            boosted,
        });
        if now < gap.since {
            gap.since = now;
        }
        // Before the first reading nothing was seen that could be broken off, and what was kept from
        // an earlier run stays.
        if begun && (reason != Missing::First || self.history.seconds() > 0) {
            self.history.clear();
            self.elastic.start_over();
            self.paper.start_over();
            self.formula = formula(&self.tuning);
            self.telling = Every::new(self.tuning.decision_interval);
        }
        let seconds = now - gap.since;
        let boost = !gap.boosted && seconds >= self.tuning.gap_patience;
        gap.boosted |= boost;
        let current = second.pool.size();
        let whole = second.pool.whole();
        let desired = if self.tuning.mode == Mode::Off {
            current
        } else if boost {
            let more = f64::from(whole) * (1.0 + self.tuning.gap_boost / 100.0);
            (more.ceil() as u32).min(self.tuning.max_size).max(whole)
        } else {
            whole
        };
        let floor = second.calendar.min(self.tuning.max_size);
        let raised = self.tuning.mode != Mode::Off && current > 0 && floor > desired;
        let desired = if raised { floor } else { desired };
        let tells = begun || boost || (raised && self.expected != Some(desired));
        self.expected = Some(desired);
        tells.then(|| Decision {
            at: now,
            before: current,
            desired,
            cause: Cause::Gap { seconds, reason },
            features: None,
            guards: raised.then_some(Guard::Calendar).into_iter().collect(),
        })
    }

    fn wish(&mut self, second: &Second, growing: bool) -> Option<Decision> {
        let view = View {
            now: second.now,
            history: &self.history,
            pool: second.pool,
        };
        let current = second.pool.size();
        let floor = second.calendar;
        let wish = match self.tuning.mode {
            Mode::Off => return None,
            Mode::Elastic => self.elastic.second(&view, floor, second.luck),
            Mode::Paper => self.paper.second(&view, floor, second.luck),
            Mode::SloDs2 | Mode::Hpa | Mode::Static => {
                // Explained, and known when the agent takes over.
                self.elastic.volatility.update(&view);
                None
            }
        };
        let measured = wish.as_ref().map(|wish| wish.features);
        let (wanted, cause, mut guards) = match wish {
            Some(wish) => {
                let cause = wish
                    .choice
                    .map_or(Cause::Guard, |c| Cause::Agent(Box::new(c)));
                (wish.size, cause, wish.guards)
            }
            None => {
                let formula = self.formula.as_mut().and_then(|f| f.desired(&view));
                let cause = if formula.is_some() {
                    Cause::Formula
                } else {
                    Cause::Guard
                };
                (formula.unwrap_or(current), cause, Vec::new())
            }
        };
        let forbidden = self.forbidden(second.now, growing);
        self.forbids_scale_in = forbidden.is_some();
        let desired = self.limit(wanted, second, forbidden, &mut guards);
        if growing && desired > current && guards.contains(&Guard::GrowingBacklog) {
            self.recalled_until = Some(second.now + RECALLED);
        }
        let told = match cause {
            Cause::Agent(_) => true,
            Cause::Formula => desired != current || self.telling.due(second.now),
            _ => desired != current,
        };
        told.then(|| Decision {
            at: second.now,
            before: current,
            desired,
            cause,
            features: Some(measured.unwrap_or_else(|| self.elastic.measure(&view))),
            guards,
        })
    }

    /// What forbids scale-in in this second.
    fn forbidden(&self, now: f64, growing: bool) -> Option<Guard> {
        if growing || is_before(now, self.recalled_until) {
            Some(Guard::GrowingBacklog)
        } else {
            is_before(now, self.cautious_until).then_some(Guard::AfterGap)
        }
    }

    /// Whether pods that a scale-in under way would take are to stay, and it is not merely to wait: what is
    /// queued at one moment of a window and not at another would have that begin and end every second.
    fn calls_back(&self, forbidden: Guard, wanted: u32, second: &Second) -> bool {
        let pool = second.pool;
        let queued = self.history.last().map_or(0.0, |last| last.queued_seconds);
        let much = queued > BACKLOG_LIMIT * f64::from(pool.size().max(1));
        let was = forbidden == Guard::AfterGap || is_before(second.now, self.recalled_until);
        pool.recallable > 0 && (was || much || wanted > pool.size())
    }

    /// What holds whoever decides.
    fn limit(
        &self,
        wanted: u32,
        second: &Second,
        forbidden: Option<Guard>,
        guards: &mut Vec<Guard>,
    ) -> u32 {
        let current = second.pool.size();
        let mut size = wanted;
        let mut set = |to: u32, guard: Guard, size: &mut u32| {
            if *size != to {
                *size = to;
                guards.push(guard);
            }
        };
        if let Some(guard) = forbidden {
            let least = if self.calls_back(guard, wanted, second) {
                second.pool.whole()
            } else {
                current
            };
            if size < least {
                set(least, guard, &mut size);
            }
        }
        if size < second.calendar {
            set(second.calendar, Guard::Calendar, &mut size);
        }
        if size < self.tuning.min_size {
            set(self.tuning.min_size, Guard::Min, &mut size);
        }
        // One that is larger already, because somebody made it so or the limit was lowered, waits like any
        // other until it may shrink.
        let most = match forbidden {
            Some(_) => self.tuning.max_size.max(current),
            None => self.tuning.max_size,
        };
        if size > most {
            set(most, Guard::Max, &mut size);
        }
        size
    }
}

fn is_before(now: f64, until: Option<f64>) -> bool {
    until.is_some_and(|until| now < until)
}

fn formula(tuning: &Tuning) -> Option<Formula> {
    match tuning.mode {
        Mode::Static => Some(Formula::Static(tuning.static_size)),
        Mode::SloDs2 => Some(Formula::Ds2(Ds2::new(ds2::Parameters {
            goal: tuning.latency_goal,
            ..ds2::Parameters::WITHIN_GOAL
        }))),
        Mode::Hpa => {
            let (target, window) = (tuning.target_utilization, 15);
            let signal = Signal::Utilization { target, window };
            Some(Formula::Autoscaler(Autoscaler::new(signal, 15.0, 300.0, 4)))
        }
        Mode::Elastic | Mode::Paper | Mode::Off => None,
    }
}

/// Has a formula aim at something else; what it remembers stays.
fn aim(formula: &mut Formula, tuning: &Tuning) {
    match formula {
        Formula::Static(size) => *size = tuning.static_size,
        Formula::Ds2(ds2) => ds2.aim(tuning.latency_goal),
        Formula::Autoscaler(autoscaler) => autoscaler.aim(tuning.target_utilization),
        Formula::Threshold(_) | Formula::Kpa(_) => {}
    }
}

fn finite(sample: &Sample) -> bool {
    [
        sample.arrived,
        sample.busy,
        sample.ready,
        sample.queued_tuples,
        sample.queued_seconds,
        sample.started_tuples,
        sample.started_seconds,
        sample.started_batches,
        sample.cost,
        sample.late,
    ]
    .iter()
    .all(|figure| figure.is_finite() && *figure >= 0.0)
}
