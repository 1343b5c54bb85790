//! An attempt's name.

use std::fmt;
use std::str::FromStr;

use crate::shard::ChunkId;

/// Names one attempt; in text `shard.epoch.slice.window.chunk.part.attempt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    /// The chunk.
    pub chunk: ChunkId,
    /// 0 for the whole chunk, else the part that bisecting made.
    pub part: u32,
    /// Counts the times this part was handed out, from 1.
    pub attempt: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChunkId {
            shard,
            epoch,
            slice,
            window,
            chunk,
        } = self.chunk;
        let (part, attempt) = (self.part, self.attempt);
        write!(
            f,
            "{shard}.{epoch}.{slice}.{window}.{chunk}.{part}.{attempt}"
        )
    }
}

/// A text that is no attempt id.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no invocation id: expected the windlass-invocation-id header of the invocation, \
     as in 0.7.42.1700000000000.0.0.1"
)]
pub struct BadAttemptId(String);

impl FromStr for AttemptId {
    type Err = BadAttemptId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn parse(text: &str) -> Option<AttemptId> {
            let mut fields = text.split('.');
            let id = AttemptId {
                chunk: ChunkId {
                    shard: fields.next()?.parse().ok()?,
                    epoch: fields.next()?.parse().ok()?,
                    slice: fields.next()?.parse().ok()?,
                    window: fields.next()?.parse().ok()?,
                    chunk: fields.next()?.parse().ok()?,
                },
                part: fields.next()?.parse().ok()?,
                attempt: fields.next()?.parse().ok()?,
            };
            fields.next().is_none().then_some(id)
        }
        parse(text).ok_or_else(|| BadAttemptId(text.chars().take(80).collect()))
    }
}
