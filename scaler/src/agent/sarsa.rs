//! The two agents: `elastic`, and the published `paper` one.
//!
//! Pure: measurements, the time and random numbers come in, a choice with its explanation goes out.
//! The same code runs in the simulator, in shadow and in production.

use super::capacity::{Assumed, Capacity, Volatility, within_goal};
use super::decision::{Candidate, Choice, Guard};
use super::features::Features;
use super::history::{Every, View};
use super::layout::Action;
use super::learner::{Learner, Reward};
use super::risk::{Curve, Model};
use super::snapshot::Snapshot;
use super::table::Pair;

/// Two uniform numbers in `[0, 1)`: whether to explore, and where to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Luck {
    /// Explores if below ε.
    pub explore: f64,
    /// Which way.
    pub direction: f64,
}

/// What a decision is rewarded for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Little cost above need, few late windows.
    Cost,
    /// The published one: having come nearer to a utilization.
    Utilization {
        /// The utilization to aim at.
        target: f64,
    },
}

/// How an agent behaves, beside what it has learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// Seconds between decisions.
    pub interval: f64,
    /// Latency goal of a window, seconds.
    pub goal_seconds: f64,
    /// κ: pod-seconds that a late window is worth.
    pub kappa: f64,
    /// ε: how often to explore.
    pub epsilon: f64,
    /// Whether the table changes.
    pub learns: bool,
    /// What is rewarded.
    pub reward: Goal,
    /// Whether the agent's own guards are on; the published agent has none.
    pub guarded: bool,
    /// Smallest pool.
    pub min: u32,
    /// Largest pool.
    pub max: u32,
}

/// Pods per unit of demand below which no decision goes.
const DEMAND_FLOOR: f64 = 0.7 / 0.95;
/// The same for an agent with a model, where a pod does but one batch within the goal. There a late
/// window looks cheaper to the model than the many pods that prevent it; it is not, since the next
/// window is late, too.
const DEMAND_FLOOR_OF_SINGLE: f64 = 1.08;
/// Seconds of waiting work a pod above which the agent does not scale in.
pub(super) const BACKLOG_LIMIT: f64 = 0.3;
/// Pods per unit of demand that count as needed when cost is rewarded: 1 / 0.857.
const NEEDED: f64 = 0.7 / 0.6;
/// Brings rewards near 1.
const SCALE: f64 = 10.0;

/// The choice whose reward is not known yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    pair: Pair,
    utilization: f64,
    moved: u32,
}

/// An agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// How it behaves; may change at any time.
    pub behaviour: Behaviour,
    /// What it knows and how it learns.
    pub learner: Learner,
    /// How unsteady the rate is.
    pub volatility: Volatility,
    assumed: Assumed,
    every: Every,
    pending: Option<Pending>,
    capacity: Option<f64>,
    /// Whether a pod does at most one batch within the goal.
    single: bool,
    outlook: Option<Outlook>,
}

/// What an agent that has [`Action::Risk`] looks at every second.
#[derive(Clone, Debug)]
struct Outlook {
    model: Model,
    /// As of this second.
    curve: Option<Curve>,
    /// The option: a share of the late window's price.
    following: Option<f64>,
}

impl Outlook {
    fn new(assumed: Assumed) -> Self {
        Self {
            model: Model::new(assumed),
            curve: None,
            following: None,
        }
    }
}

/// What an agent wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The size.
    pub size: u32,
    /// What it was measured by.
    pub features: Features,
    /// How it was chosen; `None` if the guard between two choices acted.
    pub choice: Option<Choice>,
    /// The agent's own guards that changed it.
    pub guards: Vec<Guard>,
}

impl Agent {
    /// An agent that goes on from what `learner` knows.
    pub fn new(behaviour: Behaviour, learner: Learner) -> Self {
        let actions = &learner.table.layout().actions;
        let risky = actions
            .iter()
            .any(|action| matches!(action, Action::Risk(_)));
        let assumed = Assumed::default();
        Self {
            behaviour,
            learner,
            volatility: Volatility::default(),
            assumed,
            every: Every::new(behaviour.interval),
            pending: None,
            capacity: None,
            single: false,
            outlook: risky.then(|| Outlook::new(assumed)),
        }
    }

    /// After a gap: no reward for what was not seen, no credit across it.
    pub fn interrupt(&mut self) {
        self.pending = None;
        self.learner.forget_path();
    }

    /// Decides every so many seconds from now on; what it knows of rate and batches stays.
    pub fn pace(&mut self, interval: f64) {
        self.behaviour.interval = interval;
        self.every = Every::new(interval);
        self.interrupt();
    }

    /// As if it had just been started, but for what it has learned.
    pub fn start_over(&mut self) {
        self.interrupt();
        self.volatility = Volatility::default();
        self.every = Every::new(self.behaviour.interval);
        self.capacity = None;
        self.outlook = self.outlook.take().map(|_| Outlook::new(self.assumed));
    }

    /// What it has learned, to be kept.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            table: self.learner.table.clone(),
            kappa: self.behaviour.kappa,
            volatility: self.volatility.value(),
            decisions: self
                .learner
                .table
                .cells()
                .iter()
                .map(|cell| cell.visits)
                .sum(),
        }
    }

    /// Sees a second go by. A choice every interval, else perhaps a scale-out, else nothing.
    ///
    /// `floor` is what is needed whatever the agent thinks, such as a calendar's minimum.
    pub fn second(&mut self, view: &View<'_>, floor: u32, luck: Luck) -> Option<Wish> {
        let due = self.every.due(view.now);
        view.history.last()?;
        if let Some(outlook) = &mut self.outlook {
            let forecast = outlook.model.second(view);
            let batches = outlook.model.batches(view, self.behaviour.goal_seconds);
            let Behaviour { max, kappa, .. } = self.behaviour;
            outlook.curve = Some(outlook.model.curve(&forecast, &batches, max, kappa));
        }
        if due {
            Some(self.choose(view, floor, luck))
        } else if self.outlook.is_some() {
            self.follow(view)
        } else {
            self.scale_out(view)
        }
    }

    /// Between choices, what the chosen option says now.
    fn follow(&mut self, view: &View<'_>) -> Option<Wish> {
        let guarded = self.behaviour.guarded;
        let queued = view.history.last().map_or(0.0, |last| last.queued_tuples);
        let demand = (view.history.mean(2, |s| s.arrived) + queued) / self.capacity?;
        let least = if guarded { self.least(demand) } else { 0 };
        let outlook = self.outlook.as_ref()?;
        let price = outlook.following? * self.behaviour.kappa;
        let Behaviour { min, max, .. } = self.behaviour;
        let current = view.pool.size();
        let wanted = outlook.curve.as_ref()?.band(price, current);
        let size = wanted.max(least).max(min).min(max);
        let waiting = view.history.last().map_or(0.0, |last| last.queued_seconds);
        let backlog = waiting / f64::from(current.max(1));
        let held = guarded && size < current && backlog > BACKLOG_LIMIT;
        (size != current && !held).then(|| Wish {
            size,
            features: self.measure(view),
            choice: None,
            guards: vec![Guard::EverySecond],
        })
    }

    /// Between choices, scale out to what the last window and the queue need.
    fn scale_out(&self, view: &View<'_>) -> Option<Wish> {
        let last = view.history.last()?;
        let capacity = self.capacity.filter(|_| self.behaviour.guarded)?;
        let size = pods(((last.arrived + last.queued_tuples) / capacity).ceil());
        let size = size.min(self.behaviour.max);
        (size > view.pool.size()).then(|| Wish {
            size,
            features: self.measure(view),
            choice: None,
            guards: vec![Guard::EverySecond],
        })
    }

    fn choose(&mut self, view: &View<'_>, floor: u32, luck: Luck) -> Wish {
        self.volatility.update(view);
        let capacity = self.capacity(view);
        self.single = capacity.batches <= 1.0;
        self.capacity = Some(capacity.tuples);
        let features = self.features(view, capacity);
        let layout = self.learner.table.layout();
        let bins: Vec<usize> = layout
            .axes
            .iter()
            .map(|axis| axis.bin(features.get(axis.feature)))
            .collect();
        let state = layout.state(&bins);
        let best = self.learner.table.greedy(state, self.behaviour.kappa);
        let explored = self.behaviour.learns && luck.explore < self.behaviour.epsilon;
        let chosen = if explored {
            neighbour(best, layout.actions.len(), luck.direction)
        } else {
            best
        };
        let sized: Vec<(u32, Option<Guard>)> = layout
            .actions
            .iter()
            .map(|&action| self.size(action, view, &features))
            .collect();
        let candidates = self.candidates(state, &sized);
        let followed = layout.actions[chosen];
        let pair = Pair {
            state,
            action: chosen,
        };
        let reward = self
            .pending
            .map(|pending| self.reward(view, &features, pending));
        if let (Some(pending), Some(reward), true) = (self.pending, reward, self.behaviour.learns) {
            self.learner.learn(pending.pair, reward, pair);
        }
        let (size, guard) = sized[chosen];
        if let Some(outlook) = &mut self.outlook {
            outlook.following = match followed {
                Action::Risk(share) => Some(share),
                _ => None,
            };
        }
        let reached = size.max(floor).min(self.behaviour.max);
        self.pending = Some(Pending {
            pair,
            utilization: features.utilization,
            moved: reached.abs_diff(view.pool.size()),
        });
        Wish {
            size,
            features,
            choice: Some(Choice {
                kappa: self.behaviour.kappa,
                bins,
                state,
                candidates,
                chosen,
                explored,
                reward_of_previous: reward,
            }),
            guards: guard.into_iter().collect(),
        }
    }

    fn candidates(&self, state: usize, sized: &[(u32, Option<Guard>)]) -> Vec<Candidate> {
        let table = &self.learner.table;
        let cells = table.state(state).iter().zip(&table.layout().actions);
        let candidate = |((cell, &action), &(size, _))| {
            let cell: &super::table::Cell = cell;
            Candidate {
                action,
                size,
                q_cost: cell.cost,
                q_late: cell.late,
                q: cell.value(self.behaviour.kappa),
                visits: cell.visits,
            }
        };
        cells.zip(sized).map(candidate).collect()
    }

    /// What this second is like, as far as it is measured and not learned.
    pub fn measure(&self, view: &View<'_>) -> Features {
        self.features(view, self.capacity(view))
    }

    fn features(&self, view: &View<'_>, capacity: Capacity) -> Features {
        let interval = self.behaviour.interval;
        Features::measure(view, capacity, interval, self.volatility.value())
    }

    fn capacity(&self, view: &View<'_>) -> Capacity {
        within_goal(view.history, self.assumed, self.behaviour.goal_seconds)
    }

    /// The size that an action leads to, and the guard that changed it.
    fn size(&self, action: Action, view: &View<'_>, features: &Features) -> (u32, Option<Guard>) {
        let current = view.pool.size();
        let Behaviour { min, max, .. } = self.behaviour;
        let wanted = match action {
            Action::Hold => current,
            Action::Headroom(headroom) => pods((headroom * features.demand).ceil()),
            Action::Step(step) => current.saturating_add_signed(step),
            Action::Risk(share) => self.at_risk(share, current),
        };
        let (mut size, mut guard) = (wanted.max(min).min(max), None);
        if size != wanted {
            guard = Some(if size < wanted {
                Guard::Max
            } else {
                Guard::Min
            });
        }
        if self.behaviour.guarded {
            if features.backlog > BACKLOG_LIMIT && size < current {
                (size, guard) = (current, Some(Guard::Backlog));
            }
            let least = self.least(features.demand);
            if size < least {
                (size, guard) = (least, Some(Guard::DemandFloor));
            }
        }
        if size == max && features.demand > f64::from(max) {
            guard = Some(Guard::Max);
        }
        (size, guard)
    }

    /// The fewest pods that any decision may lead to at this demand.
    fn least(&self, demand: f64) -> u32 {
        let share = match self.outlook {
            Some(_) if self.single => DEMAND_FLOOR_OF_SINGLE,
            _ => DEMAND_FLOOR,
        };
        pods((share * demand).ceil()).min(self.behaviour.max)
    }

    /// What the model says at this share of the late window's price.
    fn at_risk(&self, share: f64, current: u32) -> u32 {
        let curve = self.outlook.as_ref().and_then(|o| o.curve.as_ref());
        curve.map_or(current, |curve| {
            curve.band(share * self.behaviour.kappa, current)
        })
    }

    /// What the seconds since the last choice have earned.
    fn reward(&self, view: &View<'_>, features: &Features, pending: Pending) -> Reward {
        let interval = self.behaviour.interval;
        let seconds = interval as usize;
        match self.behaviour.reward {
            Goal::Utilization { target } => {
                let before = (pending.utilization - target).abs() / target;
                let after = (features.utilization - target).abs() / target;
                Reward {
                    cost: 1.0 + before - after,
                    late: 0.0,
                }
            }
            Goal::Cost => {
                let cost = view.history.sum(seconds, |s| s.cost) / interval;
                let late = view.history.sum(seconds, |s| s.late) / interval;
                let arrived = view.history.sum(seconds, |s| s.arrived) / interval;
                let needed = NEEDED * arrived / features.capacity;
                let moved = f64::from(pending.moved) / interval;
                Reward {
                    cost: -(cost - needed + moved) / SCALE,
                    late: -late / SCALE,
                }
            }
        }
    }
}

/// The action beside `best`, to one side or the other; at an end, the only one there is.
fn neighbour(best: usize, actions: usize, direction: f64) -> usize {
    if actions < 2 {
        best
    } else if direction < 0.5 {
        if best + 1 < actions {
            best + 1
        } else {
            actions - 2
        }
    } else {
        best.checked_sub(1).unwrap_or(1)
    }
}

/// A computed size as a number of pods: negative and NaN are none, infinite is very many.
fn pods(size: f64) -> u32 {
    size as u32
}
