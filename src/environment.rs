//! Variables named `WINDLASS_…` that nobody reads are refused: most are misspelt settings, which
//! would else be ignored without a word.

use anyhow::bail;
use clap::{Command, CommandFactory};

use crate::cli::Cli;

const PREFIX: &str = "WINDLASS_";

/// What tests, benchmarks and the README's producer are told by.
const OTHERS: [&str; 9] = [
    "WINDLASS_BOARD_WEB",
    "WINDLASS_CACHE",
    "WINDLASS_HOSTILE_CASES",
    "WINDLASS_HOSTILE_SEED",
    "WINDLASS_IMAGE",
    "WINDLASS_KUBERNETES_DIR",
    "WINDLASS_SEED",
    "WINDLASS_SEEDS",
    "WINDLASS_STREAM",
];
const OTHER_PREFIXES: [&str; 2] = ["WINDLASS_TEST_", "WINDLASS_BENCH_"];

/// Checks the names of this process's variables.
///
/// # Errors
/// If one begins with `WINDLASS_` and is none of windlass's: the message names the likeliest.
pub fn check() -> anyhow::Result<()> {
    let known = known(&Cli::command());
    for (name, _) in std::env::vars_os() {
        if let Some(name) = name.to_str().filter(|name| is_stranger(name, &known)) {
            let likely = nearest(name, &known);
            bail!(
                "expected settings of windlass in variables that begin with {PREFIX}, got {name}, \
                 which is none; did you mean {likely}? Correct it or unset it"
            );
        }
    }
    Ok(())
}

/// The variables of a command's arguments and of its subcommands'.
fn known(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|argument| {
        let name = argument.get_env()?.to_str()?;
        Some(name.to_owned())
    });
    own.chain(command.get_subcommands().flat_map(known))
        .collect()
}

fn is_stranger(name: &str, known: &[String]) -> bool {
    name.starts_with(PREFIX)
        && !known.iter().any(|known| known == name)
        && !OTHERS.contains(&name)
        && !OTHER_PREFIXES.iter().any(|other| name.starts_with(other))
        && !names_a_service(name)
}

/// Kubernetes tells every pod of the services in its namespace, in variables named after them:
/// `WINDLASS_SERVICE_HOST`, `WINDLASS_PORT_7070_TCP_ADDR` and so on.
fn names_a_service(name: &str) -> bool {
    name.ends_with("_PORT")
        || ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"]
            .iter()
            .any(|part| name.contains(part))
}

fn nearest<'a>(name: &str, known: &'a [String]) -> &'a str {
    let distance = |known: &&String| strsim::damerau_levenshtein(known, name);
    known
        .iter()
        .min_by_key(distance)
        .map_or("no variable", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_a_stranger_with_a_likely_name() {
        let known = known(&Cli::command());
        for (misspelt, meant) in [
            ("WINDLASS_PREFETC", "WINDLASS_PREFETCH"),
            ("WINDLASS_REPLICA", "WINDLASS_REPLICAS"),
            ("WINDLASS_ALOWED_LATENES", "WINDLASS_ALLOWED_LATENESS"),
        ] {
            assert!(is_stranger(misspelt, &known));
            assert_eq!(nearest(misspelt, &known), meant);
        }
    }

    #[test]
    fn settings_and_what_others_set_are_none() {
        let known = known(&Cli::command());
        for name in [
            "WINDLASS_PREFETCH",
            "WINDLASS_WORKER_NAME",
            "WINDLASS_LOG",
            "WINDLASS_TEST_AMQP",
            "WINDLASS_BENCH_ORDERS",
            "WINDLASS_SERVICE_HOST",
            "WINDLASS_DISPATCHER_PORT_7070_TCP_ADDR",
            "WINDLASS_PORT",
            "PATH",
        ] {
            assert!(!is_stranger(name, &known), "{name}");
        }
    }
}
