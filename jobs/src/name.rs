//! Names that a user or a schedule gives to what runs in a cluster.

use std::fmt;
use std::str::FromStr;

/// A name that can be part of a Kubernetes object's: 1 to 40 lower-case letters, digits and dashes,
/// beginning and ending with a letter or a digit. With what windlass and Kubernetes put before and
/// after it, it stays below the 63 characters of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunName(String);

/// A text that is no [`RunName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a name of 1 to {longest} lower-case letters, digits and dashes, such as nightly-1, got {text:?}",
    longest = RunName::LONGEST
)]
pub struct NotARunName {
    text: String,
}

impl RunName {
    /// Most characters.
    pub const LONGEST: usize = 40;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunName {
    type Err = NotARunName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let fits = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(inside)
            && !text.starts_with('-')
            && !text.ends_with('-');
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(NotARunName {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_into_an_objects_name() {
        for good in ["a", "nightly-20261111t000000", &"x".repeat(40)] {
            assert_eq!(good.parse::<RunName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "Nightly", "a.b", "a b", &"x".repeat(41)] {
            let error = bad.parse::<RunName>().unwrap_err().to_string();
            assert!(error.contains("nightly-1"), "{error}");
        }
    }
}
