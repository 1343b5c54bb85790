//! Parses the command line, runs the subcommand, prints its error as one line.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::FromArgMatches;
use windlass::cli::Cli;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = windlass_dispatcher::failpoint::scenario();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().cloned().unwrap_or_default();
    let matches = Cli::called(&name).get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(code) => code,
        // Whoever reads our output has seen enough of it (`windlass … | head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{error:#}").replace(['\n', '\r'], " ");
            // Nobody is left to tell when standard error is gone, too.
            let _ = writeln!(std::io::stderr(), "error: {line}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    windlass::title::hide_secrets(cli.token_variable())?;
    windlass::environment::check()?;
    windlass::logging::start(cli.log(), cli.global.log_format)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?
        .block_on(cli.run())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(|io| io.kind());
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(ErrorKind::BrokenPipe)
    })
}
