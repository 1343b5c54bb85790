//! `windlass completions`: a script that lets a shell complete our arguments.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output;

/// Prints the script.
///
/// # Errors
/// If standard output fails.
pub fn run(shell: Shell) -> anyhow::Result<ExitCode> {
    // The generator panics when its writer fails; a buffer does not.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "windlass", &mut script);
    let mut out = output::stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
