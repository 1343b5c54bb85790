//! What goes wrong in the field, each case on the pure controller with the shipped table.

use windlass_scaler::agent::controller::{Controller, Second};
use windlass_scaler::agent::decision::{Cause, Decision, Guard};
use windlass_scaler::agent::meter::{Meter, Missing, Reading};
use windlass_scaler::agent::sample::{Pool, Sample};
use windlass_scaler::agent::sarsa::Luck;
use windlass_scaler::simulator::{Pattern, Setting, Trace, World};
use windlass_scaler::tuning::live::{Live, Outcome, Refusal};
use windlass_scaler::tuning::{Mode, Tuning};

const NEVER: Luck = Luck {
    explore: 1.0,
    direction: 0.0,
};

/// A controller, a simulated world, and what was decided in it.
struct Rig<'a> {
    controller: Controller,
    world: World<'a>,
    seen: Result<Sample, Missing>,
    clock: f64,
    calendar: u32,
    decisions: Vec<Decision>,
    sizes: Vec<u32>,
}

impl<'a> Rig<'a> {
    fn new(trace: &'a Trace, pods: u32, tuning: Tuning) -> Self {
        Self {
            controller: Controller::shipped(tuning),
            world: World::new(trace, pods),
            seen: Err(Missing::First),
            clock: 1_000.0,
            calendar: 0,
            decisions: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Runs seconds; `spoil` may replace what is seen.
    fn run(&mut self, seconds: usize, mut spoil: impl FnMut(Sample) -> Result<Sample, Missing>) {
        for _ in 0..seconds {
            let decided = self.controller.second(Second {
                now: self.clock,
                seen: self.seen,
                pool: self.world.pool(),
                calendar: self.calendar,
                luck: NEVER,
            });
            if let Some(decision) = decided {
                self.world.resize(decision.desired);
                self.decisions.push(decision);
            }
            self.sizes.push(self.world.pool().size());
            self.clock += 1.0;
            self.seen = spoil(self.world.step().expect("the trace goes on"));
        }
    }
}

fn constant(rate: u32, seconds: usize) -> Trace {
    Trace::of(vec![rate; seconds], 7, Setting::default())
}

fn gaps(decisions: &[Decision]) -> Vec<(u32, u32, Missing)> {
    let of = |d: &Decision| match d.cause {
        Cause::Gap { reason, .. } => Some((d.before, d.desired, reason)),
        _ => None,
    };
    decisions.iter().filter_map(of).collect()
}

#[test]
fn without_metrics_the_pool_is_held_enlarged_once_and_never_taken_to_the_maximum() {
    let trace = constant(6_000, 400);
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    rig.run(60, Ok);
    rig.decisions.clear();
    let before = rig.world.pool().size();
    let learned = rig.controller.elastic.learner.table.clone();
    rig.run(1, |_| Err(Missing::NoAnswer));
    rig.run(120, |_| Err(Missing::NoAnswer));
    let gaps = gaps(&rig.decisions);
    let boosted = (f64::from(before) * 1.25).ceil() as u32;
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert_eq!(gaps[0], (before, before, Missing::NoAnswer));
    assert_eq!(gaps[1], (before, boosted, Missing::NoAnswer));
    assert_eq!(rig.world.pool().size(), boosted);
    assert_eq!(rig.controller.elastic.learner.table, learned);

    // Back again: no scale-in across the gap, and nothing is learned from it.
    rig.sizes.clear();
    rig.run(16, Ok);
    assert!(
        rig.sizes.iter().all(|&size| size >= boosted),
        "{:?}",
        rig.sizes
    );
    rig.run(60, Ok);
    assert!(rig.world.pool().size() < boosted, "it shrinks later");
}

#[test]
fn metrics_that_come_and_go_do_not_take_the_pool_to_the_maximum() {
    let trace = constant(6_000, 400);
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    rig.run(60, Ok);
    let before = rig.world.pool().size();
    for _ in 0..10 {
        rig.run(12, |_| Err(Missing::NoAnswer));
        rig.run(3, Ok);
    }
    let boosted = (f64::from(before) * 1.25).ceil() as u32;
    assert_eq!(rig.world.pool().size(), boosted);
}

#[test]
fn a_figure_that_is_no_number_is_a_gap_and_reaches_no_table() {
    let trace = constant(6_000, 200);
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    rig.run(60, Ok);
    for (at, bad) in [f64::NAN, f64::INFINITY, -1.0].into_iter().enumerate() {
        rig.run(1, |sample| match at {
            0 => Ok(Sample {
                arrived: bad,
                ..sample
            }),
            1 => Ok(Sample {
                queued_seconds: bad,
                ..sample
            }),
            _ => Ok(Sample {
                cost: bad,
                ..sample
            }),
        });
        rig.run(20, Ok);
    }
    assert_eq!(
        gaps(&rig.decisions).len(),
        4,
        "the start and three bad figures"
    );
    let cells = rig.controller.elastic.learner.table.cells();
    assert!(
        cells
            .iter()
            .all(|c| c.cost.is_finite() && c.late.is_finite())
    );
    assert!(
        rig.sizes.iter().all(|&size| (6..=12).contains(&size)),
        "{:?}",
        rig.sizes
    );
}

#[test]
fn a_clock_that_jumps_either_way_is_a_gap_and_does_not_stop_the_scaler() {
    for jump in [-86_400.0, 86_400.0, f64::NAN] {
        let trace = constant(6_000, 300);
        let mut rig = Rig::new(&trace, 8, Tuning::default());
        rig.run(60, Ok);
        rig.decisions.clear();
        let before = rig.clock;
        rig.clock += jump;
        rig.run(1, Ok);
        if jump.is_nan() {
            rig.clock = before + 1.0;
        }
        rig.run(30, Ok);
        let gaps = gaps(&rig.decisions);
        assert_eq!(gaps.len(), 1, "{jump}: {gaps:?}");
        assert_eq!(gaps[0].2, Missing::ClockJumped);
        let chose = |d: &Decision| matches!(d.cause, Cause::Agent(_));
        assert!(
            rig.decisions.iter().filter(|d| chose(d)).count() >= 4,
            "{jump}"
        );
        assert!(
            rig.sizes.iter().all(|&size| size <= 12),
            "{jump}: {:?}",
            rig.sizes
        );
    }
}

#[test]
fn counters_that_a_restart_reset_are_a_gap_and_no_spike() {
    let mut meter = Meter::default();
    let reading = |arrived: f64, queued: f64| {
        let totals = Sample {
            arrived,
            queued_tuples: queued,
            ..Sample::default()
        };
        Ok(Reading { totals })
    };
    assert_eq!(meter.read(0.0, reading(1e9, 0.0)), Err(Missing::First));
    let seen = meter.read(2.0, reading(1e9 + 12_000.0, 3.0)).unwrap();
    assert!((seen.arrived - 6_000.0).abs() < 1e-6, "an amount a second");
    assert!(
        (seen.queued_tuples - 3.0).abs() < 1e-12,
        "what waits is no difference"
    );
    assert_eq!(
        meter.read(3.0, reading(500.0, 0.0)),
        Err(Missing::Restarted)
    );
    let seen = meter.read(4.0, reading(6_500.0, 0.0)).unwrap();
    assert!((seen.arrived - 6_000.0).abs() < 1e-6);
    for missing in [Missing::NoAnswer, Missing::ApiServer] {
        assert_eq!(meter.read(5.0, Err(missing)), Err(missing));
    }
    assert_eq!(
        meter.read(6.0, reading(f64::NAN, 0.0)),
        Err(Missing::NotANumber)
    );
    // Three seconds after the last good one: still one stretch.
    assert!(meter.read(7.0, reading(24_500.0, 0.0)).is_ok());
    assert_eq!(
        meter.read(2.0, reading(30_000.0, 0.0)),
        Err(Missing::ClockJumped)
    );
    assert_eq!(
        meter.read(60.0, reading(40_000.0, 0.0)),
        Err(Missing::ClockJumped)
    );
}

#[test]
fn pods_that_never_become_ready_are_not_asked_for_beyond_the_maximum_nor_given_up_while_work_waits()
{
    let setting = Setting {
        start_from: 1e6,
        start_to: 1e6,
        ..Setting::default()
    };
    let trace = Trace::of(vec![12_000; 300], 7, setting);
    let mut rig = Rig::new(&trace, 4, Tuning::default());
    rig.run(300, Ok);
    let peak = *rig.sizes.iter().max().unwrap();
    assert!(peak > 4 && peak <= 48, "{peak}");
    let mut so_far = 0;
    for &size in &rig.sizes[10..] {
        assert!(size >= so_far, "it shrank under load: {:?}", rig.sizes);
        so_far = size;
    }
}

#[test]
fn a_pool_that_somebody_scales_by_hand_is_brought_back_and_teaches_nothing() {
    let trace = constant(6_000, 300);
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    rig.run(63, Ok);
    rig.world.resize(40);
    rig.decisions.clear();
    rig.run(30, Ok);
    let choices = rig.decisions.iter().filter_map(|d| match &d.cause {
        Cause::Agent(choice) => Some(choice),
        _ => None,
    });
    let rewards: Vec<bool> = choices.map(|c| c.reward_of_previous.is_some()).collect();
    assert!(
        !rewards[0],
        "the hand's cost is not the last choice's fault"
    );
    assert!(rewards[1..].iter().all(|&known| known));
    assert!(rig.world.pool().size() <= 12, "{:?}", rig.sizes);
}

#[test]
fn demand_beyond_the_maximum_stays_at_the_maximum_and_says_so() {
    let trace = constant(60_000, 120);
    let mut rig = Rig::new(&trace, 4, Tuning::default());
    rig.run(120, Ok);
    assert!(
        rig.sizes[20..].iter().all(|&size| size == 48),
        "{:?}",
        rig.sizes
    );
    let last = rig.decisions.last().unwrap();
    assert!(last.guards.contains(&Guard::Max) || last.guards.contains(&Guard::DemandFloor));
}

#[test]
fn a_queue_of_a_million_at_the_start_takes_the_maximum_at_once() {
    let mut controller = Controller::shipped(Tuning::default());
    let mut pool = Pool {
        ready: 2,
        ..Pool::default()
    };
    for now in 0..12 {
        let sample = Sample {
            arrived: 1_000.0,
            queued_tuples: 1e6,
            queued_seconds: 700.0,
            ready: 2.0,
            busy: 2.0,
            ..Sample::default()
        };
        let decided = controller.second(Second {
            now: f64::from(now),
            seen: Ok(sample),
            pool,
            calendar: 0,
            luck: NEVER,
        });
        if let Some(decision) = decided {
            pool.starting = decision.desired - pool.ready;
        }
    }
    assert_eq!(pool.size(), 48);
}

#[test]
fn an_hour_without_a_tuple_shrinks_to_the_minimum_and_then_wakes_up() {
    let mut arrivals = vec![6_000; 60];
    arrivals.extend(vec![0; 3_600]);
    arrivals.extend(vec![6_000; 60]);
    let trace = Trace::of(arrivals, 7, Setting::default());
    let tuning = Tuning {
        min_size: 2,
        ..Tuning::default()
    };
    let mut rig = Rig::new(&trace, 8, tuning);
    rig.run(3_660, Ok);
    assert_eq!(rig.world.pool().size(), 2);
    rig.run(60, Ok);
    assert!(rig.world.pool().size() >= 6, "{:?}", rig.sizes.last());
    let cells = rig.controller.elastic.learner.table.cells();
    assert!(
        cells
            .iter()
            .all(|c| c.cost.is_finite() && c.late.is_finite())
    );
}

#[test]
fn a_function_that_turns_half_as_slow_again_is_followed() {
    let setting = Setting {
        shift_at: 300,
        shift_factor: 1.5,
        ..Setting::default()
    };
    let trace = Trace::of(Pattern::Steady.arrivals(5_000), 5_000, setting);
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    rig.run(900, Ok);
    // The mean over a minute has to see the change first.
    let late = {
        rig.run(600, Ok);
        let samples = rig.world.metrics();
        samples.late_percent
    };
    assert!(late < 5.0, "{late}");
    assert!(rig.world.pool().size() >= 10, "{}", rig.world.pool().size());
}

#[test]
fn no_scale_in_while_the_backlog_grows_whoever_decides() {
    for mode in [
        Mode::Elastic,
        Mode::Paper,
        Mode::SloDs2,
        Mode::Hpa,
        Mode::Static,
    ] {
        let tuning = Tuning {
            mode,
            static_size: 2,
            ..Tuning::default()
        };
        let mut controller = Controller::shipped(tuning);
        let pool = Pool {
            ready: 20,
            ..Pool::default()
        };
        for now in 0..60 {
            let decided = controller.second(Second {
                now: f64::from(now),
                // An idle pool, and yet more and more waits: the dispatcher cannot hand out.
                seen: Ok(Sample {
                    arrived: 100.0,
                    ready: 20.0,
                    queued_seconds: 0.01 * f64::from(now),
                    ..Sample::default()
                }),
                pool,
                calendar: 0,
                luck: NEVER,
            });
            if now > 1
                && let Some(decision) = decided
            {
                assert!(decision.desired >= 20, "{mode:?}: {decision:?}");
            }
        }
    }
}

/// A pool of twenty that is about to shrink to five, seen with so many seconds of work waiting.
fn shrinking(controller: &mut Controller, now: u32, pool: Pool, queued: f64) -> Option<Decision> {
    controller.second(Second {
        now: f64::from(now),
        seen: Ok(Sample {
            arrived: 100.0,
            ready: 20.0,
            queued_seconds: queued,
            ..Sample::default()
        }),
        pool,
        calendar: 0,
        luck: NEVER,
    })
}

const TWENTY: Pool = Pool {
    starting: 0,
    ready: 20,
    recallable: 0,
};
const ABOUT_TO_BE_FIVE: Pool = Pool {
    starting: 0,
    ready: 5,
    recallable: 15,
};

/// A controller that has just asked for five, and the next second.
fn to_five(mode: Mode) -> (Controller, u32) {
    let tuning = Tuning {
        mode,
        static_size: 5,
        min_size: 5,
        ..Tuning::default()
    };
    let mut controller = Controller::shipped(tuning);
    let decided = (0..400)
        .find(|&now| shrinking(&mut controller, now, TWENTY, 0.0).is_some_and(|d| d.desired == 5));
    (controller, 1 + decided.expect("it asks for five"))
}

#[test]
fn a_scale_in_under_way_is_called_back_when_the_backlog_grows_and_not_tried_again_at_once() {
    for mode in [Mode::Elastic, Mode::SloDs2, Mode::Hpa, Mode::Static] {
        let (mut controller, start) = to_five(mode);
        assert!(!controller.forbids_scale_in(), "{mode:?}");
        shrinking(&mut controller, start, ABOUT_TO_BE_FIVE, 0.0);
        let recalled = shrinking(&mut controller, start + 1, ABOUT_TO_BE_FIVE, 3.0).unwrap();
        assert_eq!(
            (recalled.before, recalled.desired),
            (5, 20),
            "{mode:?}: {recalled:?}"
        );
        assert!(
            recalled.guards.contains(&Guard::GrowingBacklog),
            "{recalled:?}"
        );
        // The backlog is gone in the next second, and comes again in the one after it, and so on.
        for second in 2..11 {
            let (now, queued) = (start + second, f64::from(second % 2) * 0.5);
            let decided = shrinking(&mut controller, now, TWENTY, queued);
            assert!(decided.is_none_or(|d| d.desired >= 20), "{mode:?} at {now}");
            assert!(controller.forbids_scale_in());
        }
        let again = (start + 11..start + 400).any(|now| {
            shrinking(&mut controller, now, TWENTY, 0.0).is_some_and(|d| d.desired == 5)
        });
        assert!(again, "{mode:?} does not shrink any more");
    }
}

#[test]
fn what_waits_for_a_moment_holds_a_scale_in_under_way_and_does_not_end_it() {
    let (mut controller, start) = to_five(Mode::Static);
    for second in 0..40 {
        let (now, queued) = (start + second, f64::from(second % 2) * 0.2);
        let decided = shrinking(&mut controller, now, ABOUT_TO_BE_FIVE, queued);
        assert!(decided.is_none_or(|d| d.desired == 5), "after {second} s");
        let grew = second % 2 == 1;
        assert_eq!(controller.forbids_scale_in(), grew, "after {second} s");
    }
}

#[test]
fn a_gap_calls_a_scale_in_under_way_back() {
    let (mut controller, start) = to_five(Mode::Static);
    let mut missing = Second {
        now: f64::from(start),
        seen: Err(Missing::NoAnswer),
        pool: ABOUT_TO_BE_FIVE,
        calendar: 0,
        luck: NEVER,
    };
    let decided = controller.second(missing).unwrap();
    assert_eq!((decided.before, decided.desired), (5, 20));
    assert!(controller.forbids_scale_in());
    missing.pool = TWENTY;
    for second in 1..20 {
        missing.now = f64::from(start + second);
        let decided = controller.second(missing);
        assert!(
            decided.is_none_or(|d| d.desired == 25),
            "a quarter more than all of it"
        );
    }
}

#[test]
fn a_calendar_floor_holds_and_is_named() {
    let trace = constant(1_000, 100);
    let mut rig = Rig::new(&trace, 4, Tuning::default());
    rig.calendar = 30;
    rig.run(100, Ok);
    assert_eq!(rig.world.pool().size(), 30);
    assert!(
        rig.decisions
            .iter()
            .any(|d| d.guards.contains(&Guard::Calendar))
    );
}

#[test]
fn a_calendar_floor_needs_no_metrics() {
    let trace = constant(1_000, 200);
    let mut rig = Rig::new(&trace, 4, Tuning::default());
    rig.run(60, Ok);
    rig.run(1, |_| Err(Missing::NoAnswer));
    rig.calendar = 30;
    rig.run(3, |_| Err(Missing::NoAnswer));
    assert_eq!(rig.world.pool().size(), 30);
    let told = rig.decisions.iter();
    let told = told.filter(|d| d.guards == [Guard::Calendar]).count();
    assert_eq!(told, 1);
}

#[test]
fn a_limit_that_is_lowered_waits_for_a_backlog_to_stop_growing() {
    let trace = constant(60_000, 100);
    let mut rig = Rig::new(&trace, 20, Tuning::default());
    rig.run(5, Ok);
    rig.controller.retune(Tuning {
        max_size: 10,
        ..Tuning::default()
    });
    rig.run(10, Ok);
    assert!(rig.sizes.iter().all(|&size| size >= 20), "{:?}", rig.sizes);
}

#[test]
fn mode_off_leaves_the_pool_alone() {
    let trace = constant(20_000, 100);
    let tuning = Tuning {
        mode: Mode::Off,
        ..Tuning::default()
    };
    let mut rig = Rig::new(&trace, 3, tuning);
    rig.run(50, Ok);
    rig.run(50, |_| Err(Missing::NoAnswer));
    assert!(rig.sizes.iter().all(|&size| size == 3));
}

#[test]
fn a_tuning_that_is_deleted_emptied_or_edited_a_hundred_times_keeps_what_was_learned() {
    let trace = constant(6_000, 400);
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    rig.run(60, Ok);
    let learned = rig.controller.elastic.learner.table.clone();
    let mut live = Live::default();
    for edit in 1..=100 {
        let max = (10 + edit).to_string();
        let applied = live.edit(Some(&[("max-size", max.as_str())]));
        assert_eq!(applied, Ok(Outcome::Applied(edit)));
        rig.controller.retune(live.tuning().clone());
        let bad = live.edit(Some(&[("max-size", "none"), ("mode", "best")]));
        assert!(matches!(bad, Err(Refusal::Invalid(reasons)) if reasons.len() == 2));
    }
    assert_eq!(live.edit(None), Err(Refusal::Empty));
    assert_eq!(live.edit(Some(&[])), Err(Refusal::Empty));
    assert_eq!(live.tuning().max_size, 110);
    assert_eq!((live.generation(), live.refused_total()), (100, 102));
    assert_eq!(
        live.edit(Some(&[("max-size", "110")])),
        Ok(Outcome::Unchanged)
    );
    assert_eq!(live.refused(), None);
    assert_eq!(rig.controller.elastic.learner.table, learned);
    rig.run(60, Ok);
    assert!(
        rig.sizes.iter().all(|&size| (6..=12).contains(&size)),
        "{:?}",
        rig.sizes
    );
}

#[test]
fn a_formula_says_what_it_measured_as_often_as_an_agent_would() {
    let trace = constant(6_000, 400);
    let tuning = Tuning {
        mode: Mode::SloDs2,
        decision_interval: 10.0,
        ..Tuning::default()
    };
    let mut rig = Rig::new(&trace, 8, tuning);
    rig.run(300, Ok);
    rig.decisions.clear();
    rig.run(40, Ok);
    assert_eq!(rig.decisions.len(), 4, "{:?}", rig.decisions);
    for decision in &rig.decisions {
        assert_eq!((decision.before, decision.desired), (6, 6));
        let features = decision.features.unwrap();
        assert!((features.rate - 6_000.0).abs() < 1.0, "{features:?}");
        assert!(
            (900.0..1_100.0).contains(&features.capacity),
            "{features:?}"
        );
    }
}

#[test]
fn an_edit_takes_nothing_from_what_a_formula_remembers() {
    for mode in [Mode::SloDs2, Mode::Hpa] {
        let tuning = Tuning {
            mode,
            ..Tuning::default()
        };
        let trace = Trace::new(Pattern::Flash, 5_000, Setting::default());
        let mut left_alone = Rig::new(&trace, 8, tuning.clone());
        left_alone.run(1_200, Ok);
        let mut edited = Rig::new(&trace, 8, tuning.clone());
        for second in 0..1_200 {
            let tuning = Tuning {
                gap_boost: f64::from(second % 100),
                ..tuning.clone()
            };
            edited.controller.retune(tuning);
            edited.run(1, Ok);
        }
        assert_eq!(edited.sizes, left_alone.sizes, "{mode:?}");
        let sizes = left_alone.sizes;
        assert!(
            sizes.iter().any(|size| *size != sizes[0]),
            "nothing happened"
        );
    }
}

#[test]
fn an_edit_of_its_aim_changes_what_a_formula_wants() {
    let trace = constant(6_000, 800);
    for (mode, edit) in [
        (
            Mode::SloDs2,
            Tuning {
                latency_goal: 0.75,
                ..Tuning::default()
            },
        ),
        (
            Mode::Hpa,
            Tuning {
                target_utilization: 0.3,
                ..Tuning::default()
            },
        ),
        (
            Mode::Static,
            Tuning {
                static_size: 19,
                ..Tuning::default()
            },
        ),
    ] {
        let tuning = Tuning {
            mode,
            ..Tuning::default()
        };
        let mut rig = Rig::new(&trace, 8, tuning);
        rig.run(400, Ok);
        let before = rig.world.pool().size();
        rig.controller.retune(Tuning { mode, ..edit });
        rig.run(400, Ok);
        let after = rig.world.pool().size();
        assert!(
            f64::from(after) > 1.4 * f64::from(before),
            "{mode:?}: {before} {after}"
        );
    }
}

#[test]
fn another_interval_forgets_neither_rate_nor_batches() {
    let trace = Trace::new(Pattern::Walk, 5_000, Setting::default());
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    rig.run(600, Ok);
    let before = rig.controller.elastic.volatility.value();
    rig.controller.retune(Tuning {
        decision_interval: 3.0,
        ..Tuning::default()
    });
    let after = rig.controller.elastic.volatility.value();
    assert!((after - before).abs() < 1e-15, "{before} {after}");
    rig.decisions.clear();
    rig.run(60, Ok);
    let choices = rig
        .decisions
        .iter()
        .filter(|d| matches!(d.cause, Cause::Agent(_)));
    assert_eq!(choices.count(), 20);
}

#[test]
fn the_same_records_give_the_same_decisions() {
    let trace = Trace::new(Pattern::Walk, 5_000, Setting::default());
    let mut records = Vec::new();
    let mut rig = Rig::new(&trace, 8, Tuning::default());
    for _ in 0..600 {
        records.push((rig.clock, rig.seen, rig.world.pool()));
        rig.run(1, Ok);
    }
    let mut again = Controller::shipped(Tuning::default());
    let mut decided = records.into_iter().filter_map(|(now, seen, pool)| {
        again.second(Second {
            now,
            seen,
            pool,
            calendar: 0,
            luck: NEVER,
        })
    });
    // A choice every five seconds, and what was followed between them.
    assert!(rig.decisions.len() > 120, "{}", rig.decisions.len());
    for recorded in &rig.decisions {
        assert_eq!(decided.next().as_ref(), Some(recorded));
    }
    assert_eq!(decided.next(), None);
}
