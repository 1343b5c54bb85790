//! What a generated run is like, and the same as arguments of `windlass datagen publish`.

use clap::{Args, ValueEnum};
use windlass_datagen::message;
use windlass_datagen::publish::Speed;

use super::Shape;
use crate::values::{Share, Span};

/// How much is sent, in which shape and how it is written.
#[derive(Clone, Debug, Args)]
pub(super) struct Traffic {
    /// For how long to generate
    #[arg(
        long = "for",
        value_name = "SPAN",
        default_value = "60s",
        requires = "rate"
    )]
    pub duration: Span,
    /// How many sources to generate
    #[arg(long, value_name = "N", default_value_t = 8, requires = "rate")]
    pub sources: u32,
    #[command(flatten)]
    pub shape: Shape,
    /// How fast: 1x is real time, 10x ten times that, max as fast as the broker takes it
    #[arg(long, value_name = "SPEED", default_value = "1x")]
    pub speed: Speed,
    /// How messages are written
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Most orders in a message [default: 1 for json, 100 for ndjson, 2400 (64 KiB) for arrow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: Option<u32>,
    /// Share of messages that are sent twice, such as 1%
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    pub duplicates: Share,
}

/// How messages are written, on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A JSON object an order, an array with --batch
    #[default]
    Json,
    /// A line of JSON an order
    Ndjson,
    /// Arrow IPC stream
    Arrow,
}

impl From<Format> for message::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Ndjson => Self::Ndjson,
            Format::Arrow => Self::Arrow,
        }
    }
}

impl Traffic {
    /// The arguments that say the same with `rate` orders a second: the same text for the same run.
    pub fn args(&self, rate: f64) -> Vec<String> {
        let shape = &self.shape;
        let mut args = vec![
            ("--rate", rate.to_string()),
            ("--for", self.duration.to_string()),
            ("--sources", self.sources.to_string()),
            ("--seed", shape.seed.to_string()),
            ("--pattern", word(shape.pattern)),
            ("--disorder", shape.disorder.to_string()),
            ("--late", shape.late.0.to_string()),
            ("--late-by", shape.late_by.to_string()),
            ("--speed", self.speed.to_string()),
            ("--format", word(self.format)),
            ("--duplicates", self.duplicates.0.to_string()),
        ];
        args.extend(self.batch.map(|batch| ("--batch", batch.to_string())));
        let args = args.into_iter();
        args.map(|(flag, value)| format!("{flag}={value}"))
            .collect()
    }
}

/// How a choice is written on the command line.
fn word(choice: impl ValueEnum) -> String {
    let value = choice.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[arg(long)]
        rate: f64,
        #[command(flatten)]
        traffic: Traffic,
    }

    #[test]
    fn the_arguments_of_a_run_say_what_the_user_said() {
        let said = "x --rate 250.5 --for 90m --sources 3 --pattern spike --late 0.1% --late-by 40s \
                    --format arrow --batch 10 --duplicates 1% --speed 10x --seed 9 --disorder 1s";
        let line = Line::parse_from(said.split_whitespace());
        let args = line.traffic.args(line.rate);
        let again = Line::parse_from(["x".to_owned()].iter().chain(&args));
        assert_eq!(again.traffic.args(again.rate), args);
        for part in [
            "--rate=250.5",
            "--pattern=spike",
            "--late=0.001",
            "--batch=10",
        ] {
            assert!(args.iter().any(|arg| arg == part), "{part} in {args:?}");
        }
        assert_eq!(again.traffic.duration, line.traffic.duration);
    }
}
