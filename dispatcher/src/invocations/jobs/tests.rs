use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tests::{ID, run, sum, work, worker};
use super::super::{Gone, Invocations, Limits, Next, Taken};
use super::*;
use crate::placement::{Place, Reason, Settings};
use crate::shard::ChunkId;

fn invocations(placement: Placement) -> Invocations {
    let settings = Settings {
        placement,
        ..Settings::default()
    };
    Invocations::with_jobs(Limits::default(), settings)
}

fn created(placed: &Placed) -> Vec<AttemptId> {
    let ids = placed.orders.iter().filter_map(|order| match order {
        Order::Create(id) => Some(*id),
        Order::Remove(_) => None,
    });
    ids.collect()
}

#[test]
fn with_placement_job_the_pool_gets_nothing_and_the_job_its_batch() {
    let mut invocations = invocations(Placement::Job);
    invocations.submit(work(ID, 10), 0);
    assert!(run(&mut invocations, &worker("warm"), 0).is_none());
    let placed = invocations.place(0.5, 0);
    let [id] = created(&placed)[..] else {
        panic!("{placed:?}")
    };
    invocations.reported(id, Report::Created, 0.5, 12);
    let handout = invocations
        .take(id, &worker("j"), 7, Some(30), 900)
        .unwrap();
    assert_eq!(handout.id, id);
    assert_eq!(invocations.jobs_live(), 1);
    let Taken::Won(won) = invocations.respond(id, sum(&handout), 905) else {
        panic!()
    };
    let ran = won.answer.unwrap().ran[0];
    assert_eq!((ran.place, ran.reason), (Place::Job, Reason::Asked));
    assert_eq!((ran.tuples, ran.waited_ms), (10, 0));
    assert_eq!(ran.phases.created, Some(12));
    assert_eq!(
        (ran.phases.pulled, ran.phases.answered),
        (Some(30), Some(5))
    );
    assert_eq!(invocations.jobs_live(), 0);
}

#[test]
fn a_warm_worker_may_still_take_a_batch_that_a_job_was_made_for() {
    let mut invocations = invocations(Placement::Auto);
    invocations.submit(work(ID, 10), 0);
    assert!(created(&invocations.place(0.5, 499)).is_empty());
    let id = created(&invocations.place(0.5, 500))[0];
    let handout = run(&mut invocations, &worker("warm"), 600).unwrap();
    assert!(invocations.take(id, &worker("j"), 7, None, 700).is_none());
    assert_eq!(invocations.jobs_live(), 0, "it has been told, and ends");
    let Taken::Won(won) = invocations.respond(handout.id, sum(&handout), 800) else {
        panic!()
    };
    let ran = won.ran.unwrap();
    assert_eq!(
        (ran.place, ran.reason, ran.waited_ms),
        (Place::Pool, Reason::Warm, 600)
    );
}

#[test]
fn a_job_that_never_starts_holds_no_batch_and_is_no_fault_of_it() {
    let mut invocations = invocations(Placement::Job);
    invocations.submit(work(ID, 10), 0);
    let mut now = 0;
    for attempt in 1..=5 {
        let placed = invocations.place(0.5, now);
        let [id] = created(&placed)[..] else {
            panic!("{placed:?}")
        };
        assert_eq!(
            (id.part, id.attempt),
            (0, attempt),
            "another name, and not halved"
        );
        invocations.reported(id, Report::Created, 0.5, now);
        invocations.reported(id, Report::Stuck("no such image".into()), 0.5, now);
        now += 60_000;
        let placed = invocations.place(0.5, now);
        assert_eq!(placed.orders, [Order::Remove(id)]);
        assert!(invocations.jobs_paused().unwrap().contains("no such image"));
        now = placed.again_ms.unwrap();
    }
    assert_eq!(invocations.load().failed, 0);
}

#[test]
fn a_job_that_is_slow_to_start_is_left_to_come_and_may_take_what_still_waits() {
    let mut invocations = invocations(Placement::Auto);
    invocations.submit(work(ID, 10), 0);
    let slow = created(&invocations.place(0.5, 500))[0];
    invocations.reported(slow, Report::Created, 0.5, 510);
    let placed = invocations.place(0.5, 60_510);
    assert!(placed.orders.is_empty(), "it is not removed: {placed:?}");
    let next = created(&invocations.place(0.5, 61_000));
    assert_eq!(next.len(), 1);
    assert_eq!(invocations.jobs_live(), 2, "it counts still");
    let handout = invocations.take(slow, &worker("j"), 7, Some(9), 70_000);
    let handout = handout.unwrap();
    assert!(
        invocations
            .take(next[0], &worker("k"), 8, None, 70_001)
            .is_none()
    );
    assert_eq!(invocations.jobs_live(), 1);
    let Taken::Won(won) = invocations.respond(handout.id, sum(&handout), 70_002) else {
        panic!()
    };
    let ran = won.ran.unwrap();
    assert_eq!((ran.reason, ran.waited_ms), (Reason::Overflow, 500));
    assert_eq!(ran.phases.created, Some(10));
}

#[test]
fn a_job_that_never_came_stops_counting_when_it_has_ended_or_must_have() {
    for ended in [true, false] {
        let mut invocations = invocations(Placement::Auto);
        invocations.submit(work(ID, 10), 0);
        let slow = created(&invocations.place(0.5, 500))[0];
        invocations.reported(slow, Report::Created, 0.5, 500);
        run(&mut invocations, &worker("warm"), 600).unwrap();
        invocations.place(0.5, 60_500);
        assert_eq!(invocations.jobs_live(), 1);
        if ended {
            invocations.reported(slow, Report::Ended("gone".into()), 0.5, 60_600);
        } else {
            invocations.place(0.5, 180_500);
        }
        assert_eq!(invocations.jobs_live(), 0);
    }
}

#[test]
fn a_job_that_ends_with_its_batch_has_failed_it() {
    let mut invocations = invocations(Placement::Job);
    invocations.submit(work(ID, 10), 0);
    for attempt in 1..=2 {
        let id = created(&invocations.place(0.5, 1))[0];
        assert_eq!(id.attempt, attempt);
        invocations.take(id, &worker("j"), 7, None, 0).unwrap();
        invocations.reported(id, Report::Ended("OOMKilled".into()), 0.5, 1);
    }
    let halves = created(&invocations.place(0.5, 1));
    assert_eq!(halves.iter().map(|id| id.part).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_late_answer_of_a_job_that_was_given_up_counts_if_it_is_the_first() {
    let mut invocations = invocations(Placement::Auto);
    invocations.submit(work(ID, 10), 0);
    let id = created(&invocations.place(0.5, 500))[0];
    let handout = invocations.take(id, &worker("j"), 7, None, 1_000).unwrap();
    invocations.lost(&Gone::Connection(7), 2_000);
    let Taken::Won(won) = invocations.respond(handout.id, sum(&handout), 2_500) else {
        panic!()
    };
    assert_eq!(won.ran.unwrap().place, Place::Job);
}

#[test]
fn while_workers_are_at_fault_one_job_at_a_time_probes() {
    let mut invocations = invocations(Placement::Job);
    invocations.submit(work(ID, 1), 0);
    invocations.submit(work(ChunkId { chunk: 1, ..ID }, 1), 0);
    let mut now = 0;
    while invocations.halted().is_none() {
        for id in created(&invocations.place(0.5, now)) {
            let handout = invocations.take(id, &worker("j"), 0, None, now).unwrap();
            invocations.fail(handout.id, "bad".into(), now);
        }
        now += 1;
    }
    assert!(created(&invocations.place(0.5, now)).is_empty());
    let at = invocations.place(0.5, now).again_ms.unwrap();
    let probe = created(&invocations.place(0.5, at));
    assert_eq!(probe.len(), 1);
    assert!(created(&invocations.place(0.5, at + 10_000)).is_empty());
    let handout = invocations
        .take(probe[0], &worker("j"), 0, None, at)
        .unwrap();
    invocations.respond(handout.id, sum(&handout), at);
    assert!(invocations.halted().is_none());
}

/// A part waits exactly once or is at a worker: whatever happens, no chunk is lost.
fn check(invocations: &Invocations, placement: Placement) -> Result<(), TestCaseError> {
    for (&id, chunk) in &invocations.chunks {
        for (&number, part) in &chunk.parts {
            let entries = invocations
                .ready
                .iter()
                .filter(|ready| **ready == (id, number));
            let entries = entries.count();
            prop_assert_eq!(entries, usize::from(part.waits_ms.is_some()));
            prop_assert!(
                entries == 1 || !part.live.is_empty(),
                "{:?} is nowhere",
                (id, number)
            );
        }
    }
    let settings = Settings::default();
    prop_assert!(
        invocations.jobs_live() <= settings.max_live.get() || placement == Placement::Pool
    );
    Ok(())
}

fn random_runs(placement: Placement, steps: Vec<(u8, usize, u64)>) -> Result<(), TestCaseError> {
    let mut invocations = invocations(placement);
    let (mut now, mut submitted) = (0, 0_u32);
    let (mut launched, mut at_work) = (Vec::new(), Vec::new());
    let mut answers: BTreeMap<u32, Vec<Answer>> = BTreeMap::new();
    let mut keep = |answer: Answer| answers.entry(answer.id.chunk).or_default().push(answer);
    for (kind, pick, pause) in steps {
        now += pause;
        launched.extend(created(&invocations.place(0.5, now)));
        let job = (!launched.is_empty()).then(|| launched[pick % launched.len()]);
        match kind {
            0 | 1 => {
                let chunk = ChunkId {
                    chunk: submitted,
                    ..ID
                };
                submitted += 1;
                invocations.submit(work(chunk, 1 + pick % 6), now);
            }
            2 | 3 => {
                if let Next::Run(handout) = invocations.next(&worker("w"), 0, now) {
                    prop_assert_ne!(placement, Placement::Job);
                    at_work.push(*handout);
                }
            }
            4 | 5 => {
                let handout = job.and_then(|id| invocations.take(id, &worker("j"), 1, None, now));
                at_work.extend(handout);
            }
            6 | 7 if !at_work.is_empty() => {
                let handout = at_work.swap_remove(pick % at_work.len());
                if let Taken::Won(won) = invocations.respond(handout.id, sum(&handout), now) {
                    won.answer.into_iter().for_each(&mut keep);
                }
            }
            8 if !at_work.is_empty() => {
                let handout = at_work.swap_remove(pick % at_work.len());
                let answer = invocations.fail(handout.id, "bad".into(), now);
                answer.into_iter().for_each(&mut keep);
            }
            9 => invocations.expire(now).into_iter().for_each(&mut keep),
            10 => invocations
                .lost(&Gone::Connection(1), now)
                .into_iter()
                .for_each(&mut keep),
            _ => {
                let reports = [
                    Report::Created,
                    Report::Exists { finished: true },
                    Report::Refused(crate::placement::Refusal::Unreachable, "?".into()),
                    Report::Refused(crate::placement::Refusal::Forbidden, "no".into()),
                    Report::Scheduled,
                    Report::Ended("gone".into()),
                ];
                if let Some(id) = job {
                    let report = reports[pick % reports.len()].clone();
                    let answer = invocations.reported(id, report, 0.5, now);
                    answer.into_iter().for_each(&mut keep);
                }
            }
        }
        check(&invocations, placement)?;
    }
    // From now on all is well: whatever is left is answered.
    for _ in 0..2_000 {
        now += 700;
        invocations.expire(now).into_iter().for_each(&mut keep);
        launched.extend(created(&invocations.place(0.5, now)));
        let mut handouts: Vec<Handout> = std::mem::take(&mut at_work);
        while let Next::Run(handout) = invocations.next(&worker("w"), 0, now) {
            handouts.push(*handout);
        }
        for id in launched.drain(..) {
            invocations.reported(id, Report::Created, 0.5, now);
            handouts.extend(invocations.take(id, &worker("j"), 1, None, now));
        }
        for handout in handouts {
            if let Taken::Won(won) = invocations.respond(handout.id, sum(&handout), now) {
                won.answer.into_iter().for_each(&mut keep);
            }
        }
        if invocations.chunks.is_empty() {
            break;
        }
    }
    prop_assert_eq!(answers.len(), submitted as usize);
    for (chunk, answers) in answers {
        prop_assert_eq!(
            answers.len(),
            1,
            "chunk {} was answered more than once",
            chunk
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_chunk_is_lost_or_answered_twice_whatever_becomes_of_jobs(
        job in any::<bool>(),
        steps in prop::collection::vec((0_u8..12, 0_usize..64, 0_u64..4_000), 0..120),
    ) {
        let placement = if job { Placement::Job } else { Placement::Auto };
        random_runs(placement, steps)?;
    }
}
