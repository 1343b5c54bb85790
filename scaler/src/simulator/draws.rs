//! Random numbers by counter: the draw of a (seed, stream, index) depends on nothing else.
//!
//! A simulation stays reproducible whatever order its draws are made in, and another
//! implementation that follows these few lines gets the same numbers. Not for secrets.

/// 2^64 divided by the golden ratio: splitmix64's increment.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a draw is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Shape of a pattern.
    Pattern = 1,
    /// Arrivals around the rate.
    Arrivals = 2,
    /// Slow noise on the rate.
    Rate = 3,
    /// Service time of a batch.
    Service = 4,
    /// Start of a pod.
    Pod = 5,
    /// Cold start of a Job.
    Job = 6,
    /// The random walk's steps.
    Walk = 7,
    /// An agent's exploration.
    Exploration = 8,
}

/// Splitmix64's finalizer (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in `[0, 1)`, 53 bits.
pub fn uniform(seed: u64, stream: Stream, index: u64) -> f64 {
    let step = |at: u64| GOLDEN.wrapping_mul(at.wrapping_add(1));
    let lane = mix(seed.wrapping_add(step(stream as u64)));
    let bits = mix(lane.wrapping_add(step(index)));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Standard normal (Box–Muller, the cosine branch), from the draws `2·index` and `2·index + 1`.
pub fn normal(seed: u64, stream: Stream, index: u64) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(seed, stream, 2 * index)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(seed, stream, 2 * index + 1)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_draws_are_the_published_ones() {
        for (index, drawn) in [0.98671125, 0.30866257, 0.50674953].into_iter().enumerate() {
            let ours = uniform(42, Stream::Pattern, index as u64);
            assert!((ours - drawn).abs() < 5e-9, "{index}: {ours}");
        }
    }
}
