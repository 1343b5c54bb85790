use super::*;

const CHUNK: ChunkId = ChunkId {
    shard: 0,
    epoch: 1,
    slice: 2,
    window: 3_000,
    chunk: 0,
};

fn waiting(part: u32, attempt: u32, since_ms: u64) -> Waiting {
    Waiting {
        part: (CHUNK, part),
        attempt,
        since_ms,
    }
}

fn placer(placement: Placement) -> Placer {
    Placer::new(Settings {
        placement,
        ..Settings::default()
    })
}

/// Decides on what waits, with nothing running.
fn decide(placer: &mut Placer, waiting: &[Waiting], now_ms: u64) -> Decision {
    placer.decide(waiting.iter().copied(), 0, false, now_ms)
}

fn created(decision: &Decision) -> Vec<u32> {
    decision.create.iter().map(|id| id.part).collect()
}

fn refuse(placer: &mut Placer, id: AttemptId, why: Refusal, now_ms: u64) {
    let report = Report::Refused(why, "no".into());
    assert_eq!(placer.reported(id, report, 0.5, now_ms), None);
}

#[test]
fn a_batch_overflows_after_the_wait_and_once() {
    let mut placer = placer(Placement::Auto);
    let waits = [waiting(0, 1, 100), waiting(1, 1, 250)];
    let early = decide(&mut placer, &waits, 599);
    assert_eq!((created(&early), early.again_ms), (vec![], Some(600)));
    let due = decide(&mut placer, &waits, 600);
    assert_eq!((created(&due), due.again_ms), (vec![0], Some(750)));
    assert!(created(&decide(&mut placer, &waits, 700)).is_empty());
    assert_eq!(created(&decide(&mut placer, &waits, 750)), [1]);
    assert_eq!(placer.pending(), 2);
}

#[test]
fn a_function_that_asks_for_jobs_gets_them_at_once_and_a_pool_never() {
    let mut job = placer(Placement::Job);
    assert_eq!(created(&decide(&mut job, &[waiting(0, 1, 100)], 100)), [0]);
    assert_eq!(job.taken(waiting(0, 1, 0).id(), 100).reason, Reason::Asked);
    let mut pool = placer(Placement::Pool);
    assert_eq!(
        decide(&mut pool, &[waiting(0, 1, 0)], 9_000),
        Decision::default()
    );
}

#[test]
fn creating_keeps_to_the_burst_the_rate_and_the_cap() {
    let settings = Settings {
        placement: Placement::Job,
        max_live: NonZeroUsize::new(22).unwrap(),
        ..Settings::default()
    };
    let mut placer = Placer::new(settings);
    let waits: Vec<Waiting> = (0..40).map(|part| waiting(part, 1, 0)).collect();
    let burst = decide(&mut placer, &waits, 0);
    assert_eq!((created(&burst).len(), burst.again_ms), (20, Some(200)));
    assert_eq!(created(&decide(&mut placer, &waits, 200)).len(), 1);
    assert_eq!(created(&decide(&mut placer, &waits, 400)).len(), 1);
    let full = decide(&mut placer, &waits, 10_000);
    assert!(created(&full).is_empty());
    assert!(placer.paused().unwrap().contains("22 Jobs are live"));
    // One has its batch: it still counts. Then it has answered.
    placer.taken(waits[0].id(), 0);
    let rest = &waits[1..];
    let running = placer.decide(rest.iter().copied(), 1, false, 10_000);
    assert!(created(&running).is_empty());
    assert_eq!(created(&decide(&mut placer, rest, 10_000)).len(), 1);
    placer.others(5);
    assert!(created(&decide(&mut placer, rest, 20_000)).is_empty());
}

#[test]
fn without_an_answer_nothing_new_is_begun_and_the_same_job_is_asked_for_again() {
    let mut placer = placer(Placement::Job);
    let waits = [waiting(0, 1, 0), waiting(1, 1, 1)];
    let first = decide(&mut placer, &waits[..1], 0);
    refuse(&mut placer, waits[0].id(), Refusal::Unreachable, 10);
    let paused = decide(&mut placer, &waits, 11);
    assert!(created(&paused).is_empty());
    assert_eq!(paused.again_ms, Some(385));
    assert_eq!(placer.paused().as_deref(), Some("no"));
    assert_eq!(placer.pending(), 1, "it may be there");
    let again = decide(&mut placer, &waits, 385);
    assert_eq!(again.create, first.create, "one alone, and the same");
    let exists = Report::Exists { finished: false };
    placer.reported(waits[0].id(), exists, 0.5, 400);
    assert_eq!(placer.paused(), None);
    assert_eq!(created(&decide(&mut placer, &waits, 400)), [1]);
}

#[test]
fn what_is_forbidden_is_said_and_tried_again_later() {
    let mut placer = placer(Placement::Job);
    let waits = [waiting(0, 1, 0)];
    let mut now = 0;
    for _ in 0..4 {
        let decision = decide(&mut placer, &waits, now);
        assert_eq!(created(&decision), [0]);
        refuse(&mut placer, waits[0].id(), Refusal::Forbidden, now);
        assert_eq!(placer.pending(), 0, "it is certain that there is none");
        now = decide(&mut placer, &waits, now).again_ms.unwrap();
    }
    assert!(now > 2_500, "{now}");
    assert!(placer.paused().is_some());
}

#[test]
fn a_throttled_create_waits_for_as_long_as_the_server_says() {
    let mut placer = placer(Placement::Job);
    let waits = [waiting(0, 1, 0)];
    decide(&mut placer, &waits, 0);
    refuse(&mut placer, waits[0].id(), Refusal::Throttled(7_000), 0);
    assert_eq!(decide(&mut placer, &waits, 1).again_ms, Some(7_000));
}

#[test]
fn a_job_that_does_not_start_is_removed_and_its_number_given_up() {
    let mut placer = placer(Placement::Auto);
    let waits = [waiting(0, 1, 0)];
    let id = waits[0].id();
    decide(&mut placer, &waits, 500);
    placer.reported(id, Report::Created, 0.5, 600);
    placer.reported(id, Report::Stuck("no node".into()), 0.5, 900);
    assert!(placer.overdue(60_599).is_empty());
    assert_eq!(placer.overdue(60_600), [(id, Some("no node".into()))]);
    placer.did_not_start("no node", 0.5, 60_600);
    assert!(placer.paused().unwrap().contains("no node"));
    let waits = [waiting(0, 2, 0), waiting(1, 1, 0)];
    let paused = decide(&mut placer, &waits, 60_601);
    assert!(created(&paused).is_empty());
    let trial = decide(&mut placer, &waits, 61_000);
    assert_eq!(created(&trial), [0], "one alone, until one has started");
    placer.reported(waits[0].id(), Report::Created, 0.5, 61_010);
    assert!(created(&decide(&mut placer, &waits, 61_500)).is_empty());
    placer.taken(waits[0].id(), 0);
    assert_eq!(placer.paused(), None);
    assert_eq!(created(&decide(&mut placer, &waits[1..], 61_501)), [1]);
}

#[test]
fn a_double_that_has_finished_is_an_attempt_given_up() {
    let mut placer = placer(Placement::Job);
    let waits = [waiting(0, 1, 0)];
    decide(&mut placer, &waits, 0);
    let report = Report::Exists { finished: true };
    assert!(placer.reported(waits[0].id(), report, 0.5, 5).is_some());
    let next = [waiting(0, 2, 0)];
    assert_eq!(decide(&mut placer, &next, 5).create, [next[0].id()]);
}

#[test]
fn a_probe_is_one_job() {
    let mut placer = placer(Placement::Job);
    let waits = [waiting(0, 1, 0), waiting(1, 1, 0)];
    let probe = placer.decide(waits, 0, true, 0);
    assert_eq!(created(&probe), [0]);
    assert!(created(&placer.decide(waits, 0, true, 5_000)).is_empty());
}
