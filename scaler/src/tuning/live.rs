//! The tuning in force: edits are applied whole or not at all.

use super::{Invalid, Tuning};

/// The last good tuning, and what became of the edits since.
#[derive(Clone, Debug, Default)]
pub struct Live {
    tuning: Tuning,
    generation: u64,
    refused: Option<Refusal>,
    refused_total: u64,
}

/// Why the newest edit is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not valid.
    #[error("the tuning is not valid: {}", join(.0))]
    Invalid(Vec<Invalid>),
    /// There is nothing in it.
    #[error(
        "the tuning has been emptied or deleted; the last good one stays in force: write at least \
         one key, such as `mode: elastic`, or the _example block for the defaults"
    )]
    Empty,
}

fn join(reasons: &[Invalid]) -> String {
    let texts: Vec<String> = reasons.iter().map(Invalid::to_string).collect();
    texts.join("; ")
}

/// What an edit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force under this generation.
    Applied(u64),
    /// It says what is in force already.
    Unchanged,
}

impl Live {
    /// What is in force.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// How many edits have been applied.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Why the newest edit is not in force, if it is not.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    /// How many edits have been refused.
    pub fn refused_total(&self) -> u64 {
        self.refused_total
    }

    /// Goes on from a tuning that was in force before, without counting it as an edit.
    pub fn resumed(tuning: Tuning) -> Self {
        Self {
            tuning,
            ..Self::default()
        }
    }

    /// Applies lines of `key: value`, `None` if they are gone.
    ///
    /// # Errors
    /// Why the last good tuning stays in force.
    pub fn edit_text(&mut self, text: Option<&str>) -> Result<Outcome, Refusal> {
        self.take(match text {
            Some(text) if !text.trim().is_empty() => {
                Tuning::from_text(text).map_err(Refusal::Invalid)
            }
            _ => Err(Refusal::Empty),
        })
    }

    /// Applies the pairs of a ConfigMap, `None` if it is gone.
    ///
    /// # Errors
    /// Why the last good tuning stays in force.
    pub fn edit(&mut self, pairs: Option<&[(&str, &str)]>) -> Result<Outcome, Refusal> {
        self.take(match pairs {
            None | Some([]) => Err(Refusal::Empty),
            Some(pairs) => Tuning::from_pairs(pairs.iter().copied()).map_err(Refusal::Invalid),
        })
    }

    fn take(&mut self, read: Result<Tuning, Refusal>) -> Result<Outcome, Refusal> {
        match read {
            Ok(tuning) => {
                self.refused = None;
                if tuning == self.tuning {
                    return Ok(Outcome::Unchanged);
                }
                self.tuning = tuning;
                self.generation += 1;
                Ok(Outcome::Applied(self.generation))
            }
            Err(refusal) => {
                self.refused_total += 1;
                self.refused = Some(refusal.clone());
                Err(refusal)
            }
        }
    }
}
