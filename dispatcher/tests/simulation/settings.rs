//! What one seed's run is made of: the shard's settings, the regime of event time, the faults.

use windlass_dispatcher::shard::Settings;
use windlass_functions::watermark::Times;

use super::dice::Dice;

/// What producers do with event time, and hence what may be asserted about lateness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    /// No tuple is out of order by more than the delay, no source idles: nothing may be late.
    Clean,
    /// Tuples late on purpose, but no source idles: how far the watermark may have come at each
    /// tuple can be computed from the order of publishing alone.
    Bounded,
    /// Idle phases, sources far behind, anything.
    Wild,
}

/// The points in an owner's life at which it may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Arrive,
    Raise,
    Load,
    Open,
    Lookup,
    Invoke,
    Answer,
    Quarantine,
    Confirmed,
    Commit,
    Committed,
    AwaitDurable,
    Durable,
    Ack,
    Poll,
}

const STEPS: [Step; 15] = [
    Step::Arrive,
    Step::Raise,
    Step::Load,
    Step::Open,
    Step::Lookup,
    Step::Invoke,
    Step::Answer,
    Step::Quarantine,
    Step::Confirmed,
    Step::Commit,
    Step::Committed,
    Step::AwaitDurable,
    Step::Durable,
    Step::Ack,
    Step::Poll,
];

/// How often what goes wrong; rates are probabilities a step or a request.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The owner's process dies at a step.
    pub crash: f64,
    /// A step at which it dies far more often.
    pub focus: Option<Step>,
    /// The channel is lost and the owner knows at once.
    pub channel_loss: f64,
    /// The broker drops the channel; the owner learns of it later, or by the fence.
    pub partition: f64,
    /// The owner's process stands still for a while.
    pub freeze: f64,
    /// The owner is told to drain and starts again.
    pub drain: f64,
    /// A database request never arrives.
    pub request_lost: f64,
    /// A database request is carried out, its answer is lost.
    pub reply_lost: f64,
    /// A commit arrives seconds later.
    pub commit_slow: f64,
    /// A commit is sent again although its first attempt may yet arrive.
    pub commit_twice: f64,
    /// A worker never answers; the invocation is issued again.
    pub worker_lost: f64,
    /// A second worker answers the same invocation later.
    pub worker_twice: f64,
    /// Publishing to quarantine fails, with or without the copies having arrived.
    pub quarantine_lost: f64,
    /// Returned messages come back in another order among themselves.
    pub perturb: bool,
    /// Faults end at this time; from then on everything must come to rest.
    pub calm_ms: u64,
    /// Most faults that end an owner's hold on a shard.
    pub most: u32,
}

/// One run's constants.
#[derive(Clone, Debug)]
pub struct Run {
    pub seed: u64,
    pub regime: Regime,
    pub shards: u32,
    pub owners: usize,
    pub settings: Settings,
    pub faults: Faults,
    /// Producers stop at about this time.
    pub publish_ms: u64,
    /// How long an answer of broker, database or worker usually takes at most.
    pub broker_ms: u64,
    pub database_ms: u64,
    pub worker_ms: u64,
    pub poll_ms: u64,
    /// From this time on, the function digests the tuples that only an older one choked on.
    pub healed_ms: u64,
    /// Quarantined tuples are replayed from this time on, if at all.
    pub replay_ms: Option<u64>,
}

impl Run {
    /// The run that `seed` stands for.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let regime = dice.pick(&[Regime::Clean, Regime::Bounded, Regime::Wild]);
        let publish_ms = dice.range(3_000, 12_000);
        let quiet = dice.chance(0.1);
        let mut rate = |rates: &[f64]| if quiet { 0.0 } else { dice.rate(rates) };
        let mut faults = Faults {
            crash: rate(&[0.0005, 0.002, 0.01]),
            focus: None,
            channel_loss: rate(&[0.0005, 0.002]),
            partition: rate(&[0.001, 0.004]),
            freeze: rate(&[0.0005, 0.002]),
            drain: rate(&[0.0005, 0.001]),
            request_lost: rate(&[0.01, 0.05]),
            reply_lost: rate(&[0.01, 0.05]),
            commit_slow: rate(&[0.02, 0.1]),
            commit_twice: rate(&[0.01, 0.05]),
            worker_lost: rate(&[0.02, 0.2]),
            worker_twice: rate(&[0.05, 0.3]),
            quarantine_lost: rate(&[0.05, 0.2]),
            perturb: false,
            calm_ms: publish_ms + dice.range(0, 4_000),
            most: dice.range(1, 25) as u32,
        };
        faults.perturb = dice.chance(0.2);
        if !quiet && dice.chance(0.5) {
            faults.focus = Some(dice.pick(&STEPS));
        }
        let replays = dice.chance(0.5);
        Self {
            seed,
            regime,
            shards: dice.pick(&[1, 1, 1, 2, 3]),
            owners: dice.pick(&[1, 2, 2, 3]),
            settings: settings(&mut dice, regime),
            publish_ms,
            broker_ms: dice.pick(&[1, 5, 20]),
            database_ms: dice.pick(&[1, 5, 30]),
            worker_ms: dice.pick(&[1, 10, 100]),
            poll_ms: dice.pick(&[40, 100, 250]),
            healed_ms: dice.range(0, publish_ms * 2),
            replay_ms: replays.then(|| dice.range(0, publish_ms)),
            faults,
        }
    }
}

fn settings(dice: &mut Dice, regime: Regime) -> Settings {
    // Who is not waited for for lack of room may become late.
    let most = if regime == Regime::Wild {
        [1, 3, 65_536]
    } else {
        [65_536; 3]
    };
    Settings {
        times: Times {
            delay_ms: dice.pick(&[0, 100, 500, 1_500]),
            allowed_lateness_ms: dice.pick(&[0, 200, 1_000, 3_000]),
            idle_timeout_ms: dice.pick(&[700, 1_500, 3_000]),
            max_skew_ms: dice.pick(&[5_000, 900_000]),
        },
        max_slice_ms: dice.pick(&[50, 300, 1_000]),
        min_cut_ms: dice.pick(&[0, 20]),
        slices_in_flight: dice.pick(&[1, 2, 4, 4]),
        prefetch: dice.pick(&[1, 3, 10, 50, 500]),
        budget_bytes: dice.pick(&[500, 3_000, 20_000, 1 << 20]),
        chunk_rows: dice.pick(&[1, 3, 1_000]),
        source_ttl_ms: dice.pick(&[500, 4_000, 3_600_000]),
        max_sources: dice.pick(&most),
    }
}
