//! The `windlass` command: one subcommand a file.
fn main() {}
