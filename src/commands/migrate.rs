//! `windlass migrate`: makes the tables, the views and the stream.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use windlass_dispatcher::store::Store;

use crate::cli::{ShardsArg, StoreArg};
use crate::config::Config;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  windlass migrate --store sqlite:windlass.sqlite
  WINDLASS_STORE=mysql://windlass:PASSWORD@db/windlass windlass migrate --shards 4

Running it again changes nothing. `windlass dispatch` does the same when it starts.";

/// Arguments of `windlass migrate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Migrate {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    shards: ShardsArg,
}

impl Migrate {
    /// Migrates and says so.
    ///
    /// # Errors
    /// If the store is unreachable or of another shape.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let store = Store::connect(self.store.url(config)?).await?;
        let shards = self.shards.count(config);
        store.migrate(&config.stream, shards).await?;
        let (server, stream) = (store.name(), &config.stream.name);
        let mut out = output::stdout();
        writeln!(
            out,
            "{server} is ready for stream {stream:?} with shards: {shards}"
        )?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
