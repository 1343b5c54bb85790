use super::*;
use windlass_functions::tuple::{Dictionaries, Tuples};

pub(crate) const ID: ChunkId = ChunkId {
    shard: 0,
    epoch: 1,
    slice: 2,
    window: 3_000,
    chunk: 0,
};

pub(crate) fn work(id: ChunkId, rows: usize) -> Work {
    let mut dictionaries = Dictionaries::default();
    dictionaries.sources.intern("a");
    dictionaries.keys.intern("k");
    let mut tuples = Tuples::default();
    for row in 0..rows {
        tuples.push(0, row as u64, 3_000, 0, row as i64);
    }
    Work {
        id,
        window_end: 4_000,
        revision: 0,
        tuples: Arc::new(tuples),
        dictionaries: Arc::new(dictionaries),
        rows: 0..rows,
    }
}

pub(crate) fn worker(name: &str) -> Worker {
    Worker {
        name: name.into(),
        version: "1".into(),
    }
}

pub(crate) fn run(invocations: &mut Invocations, worker: &Worker, now: u64) -> Option<Handout> {
    match invocations.next(worker, 0, now) {
        Next::Run(handout) => Some(*handout),
        _ => None,
    }
}

pub(crate) fn sum(handout: &Handout) -> Partials {
    let mut partial = Partial::EMPTY;
    for &amount in &handout.work.tuples.amount[handout.work.rows.clone()] {
        partial.add(amount);
    }
    vec![("k".into(), partial)]
}

/// Serves until nothing is handed out; rows in `poison` make their batch fail.
fn serve(invocations: &mut Invocations, poison: &[usize]) -> Vec<Answer> {
    let (me, mut answers, mut now) = (worker("w"), Vec::new(), 0);
    while let Some(handout) = run(invocations, &me, now) {
        now += 1;
        if poison.iter().any(|row| handout.work.rows.contains(row)) {
            answers.extend(invocations.fail(handout.id, "bad".into(), now));
        } else if let Taken::Won(won) = invocations.respond(handout.id, sum(&handout), now) {
            answers.extend(won.answer);
        }
    }
    answers
}

#[test]
fn an_attempt_id_survives_text() {
    let id = AttemptId {
        chunk: ChunkId {
            window: -1_000,
            ..ID
        },
        part: 4,
        attempt: 5,
    };
    assert_eq!(id.to_string().parse::<AttemptId>().unwrap(), id);
    assert!("1.2.3".parse::<AttemptId>().is_err());
    assert!("1.2.3.4.5.6.7.8".parse::<AttemptId>().is_err());
}

#[test]
fn the_first_valid_answer_wins_and_the_second_is_a_conflict() {
    let mut invocations = Invocations::new(Limits::default());
    invocations.submit(work(ID, 10), 0);
    let first = run(&mut invocations, &worker("a"), 0).unwrap();
    assert!(invocations.expire(30_000).is_empty());
    let second = run(&mut invocations, &worker("b"), 30_001).unwrap();
    let won = invocations.respond(first.id, sum(&first), 30_002);
    let Taken::Won(won) = won else {
        panic!("given up, yet first");
    };
    assert!(won.answer.is_some());
    assert_eq!(won.ran.unwrap().attempt, 1);
    let late = invocations.respond(second.id, sum(&second), 30_003);
    assert!(matches!(late, Taken::Conflict));
}

#[test]
fn an_answer_that_does_not_add_up_is_refused_and_the_batch_comes_again() {
    let mut invocations = Invocations::new(Limits::default());
    invocations.submit(work(ID, 10), 0);
    let handout = run(&mut invocations, &worker("a"), 0).unwrap();
    let wrong = vec![("k".into(), Partial::of(1))];
    let refused = invocations.respond(handout.id, wrong, 1);
    assert!(matches!(refused, Taken::Invalid(_)));
    assert!(run(&mut invocations, &worker("a"), 2).is_some());
}

#[test]
fn a_dead_workers_batch_goes_to_another() {
    let mut invocations = Invocations::new(Limits::default());
    invocations.submit(work(ID, 10), 0);
    run(&mut invocations, &worker("a"), 0).unwrap();
    assert!(run(&mut invocations, &worker("b"), 1).is_none());
    invocations.lost(&Gone::Worker("a".into()), 2);
    assert!(run(&mut invocations, &worker("b"), 3).is_some());
}

#[test]
fn bisection_leaves_the_poisoned_tuples_alone_and_counts_their_neighbours() {
    for poison in [vec![0], vec![617], vec![999], vec![3, 4, 700]] {
        let mut invocations = Invocations::new(Limits::default());
        invocations.submit(work(ID, 1_000), 0);
        let answers = serve(&mut invocations, &poison);
        assert_eq!(answers.len(), 1);
        let mut rows: Vec<usize> = answers[0].poisoned.iter().map(|(row, _)| *row).collect();
        rows.sort_unstable();
        assert_eq!(rows, poison);
        let count = answers[0].partials[0].1.count;
        assert_eq!(count, 1_000 - poison.len() as u64);
    }
}

#[test]
fn when_every_batch_fails_the_workers_are_at_fault_and_nothing_is_lost() {
    let mut invocations = Invocations::new(Limits::default());
    invocations.submit(work(ID, 8), 0);
    let all: Vec<usize> = (0..8).collect();
    assert!(serve(&mut invocations, &all).is_empty());
    assert!(invocations.halted().unwrap().contains("bad"));
    assert!(run(&mut invocations, &worker("w"), 100).is_none(), "halted");
    let probe = run(&mut invocations, &worker("w"), 1_000_000).unwrap();
    assert!(
        run(&mut invocations, &worker("w"), 1_000_000).is_none(),
        "one probe"
    );
    invocations.respond(probe.id, sum(&probe), 1_000_001);
    assert!(invocations.halted().is_none());
    let answers = serve(&mut invocations, &[]);
    assert_eq!(answers[0].partials[0].1.count, 8);
    assert!(answers[0].poisoned.is_empty());
}

#[test]
fn retired_chunks_are_conflicts() {
    let mut invocations = Invocations::new(Limits::default());
    invocations.submit(work(ID, 10), 0);
    let handout = run(&mut invocations, &worker("a"), 0).unwrap();
    invocations.retire(0, 0);
    let late = invocations.respond(handout.id, sum(&handout), 1);
    assert!(matches!(late, Taken::Conflict));
}
