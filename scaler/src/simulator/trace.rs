//! What a run is given before any policy acts: arrivals, their batches, how long each takes.

use super::draws::{Stream, normal};
use super::patterns::Pattern;

/// The constants of the simulated system. They are the benchmark's, not the product's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Most tuples of a batch.
    pub batch_tuples: u32,
    /// Seconds that a batch of no tuples takes.
    pub batch_seconds: f64,
    /// Seconds that each tuple adds.
    pub tuple_seconds: f64,
    /// Standard deviation of the service time's logarithm.
    pub noise: f64,
    /// Smallest pool.
    pub min: u32,
    /// Largest pool.
    pub max: u32,
    /// Seconds from starting a pod until it is ready, drawn evenly from here…
    pub start_from: f64,
    /// …to here.
    pub start_to: f64,
    /// Seconds that a stopped pod is still paid for after its last batch.
    pub drain: f64,
    /// Expected wait in seconds above which a new batch becomes a Job.
    pub overflow_wait: f64,
    /// Most Jobs alive.
    pub jobs_max: u32,
    /// Seconds of a Job's cold start, drawn evenly from here…
    pub cold_from: f64,
    /// …to here.
    pub cold_to: f64,
    /// Pod-seconds that a Job costs beyond its own time.
    pub job_cost: f64,
    /// A window is late if its last batch ends later than this many seconds after its close.
    pub goal: f64,
    /// The second from which the function is slower.
    pub shift_at: usize,
    /// How much slower.
    pub shift_factor: f64,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            batch_tuples: 500,
            batch_seconds: 0.05,
            tuple_seconds: 0.0006,
            noise: 0.10,
            min: 1,
            max: 48,
            start_from: 2.0,
            start_to: 5.0,
            drain: 1.0,
            overflow_wait: 2.0,
            jobs_max: 40,
            cold_from: 2.0,
            cold_to: 4.0,
            job_cost: 2.0,
            goal: 1.0,
            shift_at: usize::MAX,
            shift_factor: 1.0,
        }
    }
}

/// The batches of the window that closes at a second: all have the same number of tuples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window<'a> {
    /// Tuples of the window.
    pub tuples: u32,
    /// Seconds that each batch takes.
    pub service: &'a [f64],
}

impl Window<'_> {
    /// Tuples of each batch.
    pub fn batch_tuples(&self) -> f64 {
        f64::from(self.tuples) / self.service.len() as f64
    }
}

/// A second of a recorded run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Tuples that arrived.
    pub tuples: u32,
    /// Tuples of a batch, more than 0.
    pub batch_tuples: f64,
    /// Seconds that such a batch takes.
    pub batch_seconds: f64,
}

/// Most batches of a measured window: beyond that they are counted as larger ones.
const MOST_BATCHES: f64 = 4_096.0;

/// An hour of windows.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The system that serves them.
    pub setting: Setting,
    /// Seed of all draws.
    pub seed: u64,
    arrivals: Vec<u32>,
    service: Vec<f64>,
    /// Where the batches of each window begin in `service`; one more at the end.
    first: Vec<usize>,
}

impl Trace {
    /// The windows of `pattern` under `seed`.
    pub fn new(pattern: Pattern, seed: u64, setting: Setting) -> Self {
        Self::of(pattern.arrivals(seed), seed, setting)
    }

    /// Windows of given sizes, such as recorded ones.
    pub fn of(arrivals: Vec<u32>, seed: u64, setting: Setting) -> Self {
        let mut service = Vec::new();
        let mut first = vec![0];
        for (second, &tuples) in arrivals.iter().enumerate() {
            let batches = tuples.div_ceil(setting.batch_tuples);
            let slower = if second >= setting.shift_at {
                setting.shift_factor
            } else {
                1.0
            };
            let each = f64::from(tuples) / f64::from(batches.max(1));
            let mean = slower * (setting.batch_seconds + setting.tuple_seconds * each);
            for batch in 0..u64::from(batches) {
                let z = normal(seed, Stream::Service, second as u64 * 4_096 + batch);
                let noise = setting.noise * z - 0.5 * setting.noise * setting.noise;
                service.push(mean * noise.exp());
            }
            first.push(service.len());
        }
        Self {
            setting,
            seed,
            arrivals,
            service,
            first,
        }
    }

    /// Windows as they were measured, served by a system of `setting` whose batches are as large and
    /// take as long as was measured; nothing is drawn.
    pub fn measured(windows: &[Measured], setting: Setting) -> Self {
        let mut service = Vec::new();
        let mut first = vec![0];
        for window in windows {
            let tuples = f64::from(window.tuples);
            let batches = (tuples / window.batch_tuples).ceil().min(MOST_BATCHES);
            // A batch that is cut smaller than usual takes less; nobody knows how much of its time
            // is its own, so in proportion.
            let share = tuples / (batches * window.batch_tuples).max(1e-9);
            for _ in 0..batches as usize {
                service.push(window.batch_seconds * share);
            }
            first.push(service.len());
        }
        Self {
            setting,
            seed: 0,
            arrivals: windows.iter().map(|window| window.tuples).collect(),
            service,
            first,
        }
    }

    /// How many windows, which is how many seconds.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// The tuples of every window.
    pub fn arrivals(&self) -> &[u32] {
        &self.arrivals
    }

    /// The window that closes at `second`.
    ///
    /// # Panics
    /// If `second` is not below [`Trace::len`].
    pub fn window(&self, second: usize) -> Window<'_> {
        Window {
            tuples: self.arrivals[second],
            service: &self.service[self.first[second]..self.first[second + 1]],
        }
    }
}
