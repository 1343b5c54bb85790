//! The `--config` file: read once, unknown keys refused.
//!
//! Flags and environment variables win over it; each subcommand merges what concerns it.

use std::num::NonZeroU32;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use windlass_functions::stream::Stream;

use crate::commands::dispatch::DispatchArgs;

/// What the file may say. Every key may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// The broker's URL.
    pub broker: Option<String>,
    /// The store's URL.
    pub store: Option<String>,
    /// URLs of the store's replicas.
    pub replicas: Vec<String>,
    /// How many shards the stream has.
    pub shards: NonZeroU32,
    /// Address of a dispatcher, for workers.
    pub dispatcher: Option<String>,
    /// Bearer token between workers and dispatcher.
    pub token: Option<String>,
    /// The stream: names of fields, scale, window, limits.
    pub stream: Stream,
    /// How to dispatch.
    pub dispatch: DispatchArgs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            broker: None,
            store: None,
            replicas: Vec::new(),
            shards: NonZeroU32::MIN,
            dispatcher: None,
            token: None,
            stream: Stream::default(),
            dispatch: DispatchArgs::default(),
        }
    }
}

impl Config {
    /// Reads `file`; defaults without one.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or has a key that nobody knows.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else {
            return Ok(Self::default());
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the configuration {}", file.display()))?;
        let config = Self::parse(&text).map_err(|(line, message)| {
            anyhow::anyhow!("configuration {}, line {line}: {message}", file.display())
        })?;
        let fits = config.stream.check();
        fits.map_err(|why| anyhow::anyhow!("configuration {}, [stream] {why}", file.display()))?;
        Ok(config)
    }

    /// Parses a file's text; an error is the line, from 1, and what is wrong there. The line itself
    /// is not quoted: it may hold a password.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text[..at.min(text.len())].matches('\n').count() + 1;
            (line, error.message().replace('\n', " "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let (line, message) = Config::parse("shards = 2\nbrokr = \"x\"").unwrap_err();
        assert_eq!(line, 2);
        assert!(message.contains("brokr"), "{message}");
        assert!(message.contains("`broker`"), "{message}");

        let (_, message) = Config::parse("[dispatch]\nmax-slize = \"1s\"").unwrap_err();
        assert!(message.contains("`max-slice`"), "{message}");
    }

    #[test]
    fn an_error_does_not_quote_a_password() {
        let text = "broker = \"amqp://u:s3cret@h\nshards = 1";
        let (line, message) = Config::parse(text).unwrap_err();
        assert_eq!(line, 1);
        assert!(!message.contains("s3cret"), "{message}");
    }

    #[test]
    fn the_shipped_example_says_what_the_defaults_are() {
        let example = Config::parse(include_str!("../windlass.example.toml")).unwrap();
        assert_eq!(example.stream, Stream::default());
        assert_eq!(example.shards.get(), 1);
        assert_eq!(example.dispatch.prefetch, Some(2_000));
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.shards.get(), 1);
        assert_eq!(config.stream, Stream::default());
    }
}
