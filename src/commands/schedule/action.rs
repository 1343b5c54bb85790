//! What a schedule may run, written as a command.

use clap::{Args, Parser};

use crate::commands::datagen::Load;
use crate::commands::retain::Keep;
use crate::values::Span;

/// A schedule's command.
#[derive(Clone, Debug, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
pub(super) enum Action {
    /// Publish generated orders in a Job, as `windlass datagen submit` does.
    Datagen(Box<Load>),
    /// Remove old rows and quarantined messages, as `windlass retain` does.
    Retain(Keep),
    /// Remove Jobs of windlass that ended some time ago, and their pods.
    Sweep(Sweep),
}

/// Arguments of the command `sweep`.
#[derive(Clone, Debug, Args)]
pub(super) struct Sweep {
    /// How long a Job is kept after its end
    #[arg(long, value_name = "SPAN", default_value = "1d")]
    pub keep: Span,
}

impl Action {
    /// Reads words separated by spaces.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let action = Self::try_parse_from(text.split_whitespace()).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.trim_start_matches("error: ");
            format!("expected a command: datagen --rate …, retain … or sweep; {line}")
        })?;
        if let Self::Retain(keep) = &action {
            keep.check().map_err(|error| error.to_string())?;
        }
        Ok(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_on_the_command_line() {
        let datagen = Action::parse("datagen --rate 100 --for 10m --pattern spike");
        assert!(matches!(datagen, Ok(Action::Datagen(_))), "{datagen:?}");
        let retain = Action::parse("retain --rows 30d --quarantine 90d");
        assert!(matches!(retain, Ok(Action::Retain(_))), "{retain:?}");
        let Ok(Action::Sweep(sweep)) = Action::parse("sweep") else {
            panic!("sweep has a default");
        };
        assert_eq!(sweep.keep.0.as_secs(), 86_400);
    }

    #[test]
    fn a_command_that_is_none_is_refused_with_what_is_wrong() {
        for (text, part) in [
            ("datagen --rat 5", "--rat"),
            ("datagen", "--rate"),
            ("retain", "--rows"),
            ("retain --rows soon", "soon"),
            ("reboot", "reboot"),
            ("", "expected a command"),
        ] {
            let error = Action::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
