//! Instants as arguments: the core is told the time, it never asks.

/// The two clocks, read together by a shell and passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; its zero means nothing.
    pub mono_ms: u64,
    /// Wall clock, milliseconds since the epoch (UTC).
    pub unix_ms: i64,
}
