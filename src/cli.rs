//! The command line: what is common to all subcommands, and which there are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use windlass_jobs::kubernetes::Cluster;

use crate::commands::{
    audit, board, completions, datagen, demo, dispatch, function, migrate, quarantine, query,
    retain, scaler, schedule, status,
};
use crate::config::Config;
use crate::logging::LogFormat;

const EXAMPLES: &str = "\
Examples:
  windlass migrate --store mysql://windlass:PASSWORD@db/windlass
      make the tables and views
  windlass query gmv --store mysql://windlass:PASSWORD@db/windlass --last 60s
      the last minute, by second and province
  windlass audit --store mysql://windlass:PASSWORD@db/windlass
      published = counted + late + quarantined?
  windlass completions bash > /etc/bash_completion.d/windlass

Settings come from flags, else WINDLASS_* environment variables, else the --config file, else
defaults. A flag with a password leaves the process list at once, but stays in the shell's history: keep
passwords in the environment or the file.";

/// Orders in RabbitMQ become exactly-once per-second rows in MySQL.
#[derive(Debug, Parser)]
#[command(
    name = "windlass",
    version,
    after_help = EXAMPLES,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What every subcommand takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments of every subcommand.
#[derive(Debug, Args)]
pub struct Global {
    /// Read settings from this TOML file
    #[arg(long, global = true, value_name = "FILE", env = "WINDLASS_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or filters such as windlass_dispatcher=debug
    /// [default: info; for the demo, which draws on the terminal, warn]
    #[arg(long, global = true, value_name = "FILTER", env = "WINDLASS_LOG")]
    pub log: Option<String>,
    /// How to log
    #[arg(
        long,
        global = true,
        value_enum,
        env = "WINDLASS_LOG_FORMAT",
        default_value_t
    )]
    pub log_format: LogFormat,
}

/// The subcommands, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole job in one command, with nothing else installed
    Demo(demo::Demo),
    /// Turn orders in RabbitMQ into rows, exactly once
    Dispatch(Box<dispatch::Dispatch>),
    /// Make the tables and views where they are missing
    Migrate(migrate::Migrate),
    /// Run a worker: pull invocations from a dispatcher, answer them
    Function(function::Function),
    /// Generate orders, publish them, keep a manifest to check a run by
    Datagen(datagen::Datagen),
    /// Show results, read from replicas in turn
    Query(query::Query),
    /// Serve the big screen: a live web page and a JSON API over the results
    Board(Box<board::Board>),
    /// Show what became of every tuple; with a manifest, compare every window
    Audit(Box<audit::Audit>),
    /// Show the pool, the queue, and where recent windows ran and why
    Status(status::Status),
    /// Look at what could not be counted, and publish it again
    Quarantine(quarantine::Quarantine),
    /// Remove old rows, outcomes, quarantined messages and runs
    Retain(retain::Retain),
    /// What the cluster does by the clock: list it, run it
    Schedule(schedule::Schedule),
    /// Size the warm pool: run the scaler, tune it, see why; score and train its policies
    Scaler(Box<scaler::Scaler>),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

impl Cli {
    /// The command line under the name that it was called by: `windlass`, or `kubectl windlass` for a
    /// program on the PATH that is called `kubectl-windlass`, as kubectl wants its plugins.
    pub fn called(name: &OsStr) -> clap::Command {
        let file = Path::new(name).file_name().and_then(OsStr::to_str);
        match file {
            Some("kubectl-windlass") => Self::command().bin_name("kubectl windlass"),
            _ => Self::command(),
        }
    }

    /// The variable that stands for this subcommand's `--token`.
    pub fn token_variable(&self) -> &'static str {
        match self.command {
            // What viewers show is not what workers show.
            Command::Board(_) => "WINDLASS_BOARD_TOKEN",
            _ => "WINDLASS_TOKEN",
        }
    }

    /// What to log.
    pub fn log(&self) -> &str {
        let default = match self.command {
            Command::Demo(_) => "warn",
            _ => "info",
        };
        self.global.log.as_deref().unwrap_or(default)
    }

    /// Reads the configuration and carries out the subcommand.
    ///
    /// # Errors
    /// Whatever the subcommand could not do, in words for the user.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.global.config.as_deref();
        // Beside settings, the scaler takes its tuning by --config.
        let scaler = matches!(self.command, Command::Scaler(_));
        let settings = file.filter(|file| !(scaler && scaler::is_tuning(file)));
        let config = Config::load(settings)?;
        match self.command {
            Command::Demo(command) => command.run(&config).await,
            Command::Dispatch(command) => command.run(&config).await,
            Command::Migrate(command) => command.run(&config).await,
            Command::Function(command) => command.run(&config).await,
            Command::Datagen(command) => command.run(&config).await,
            Command::Query(command) => command.run(&config).await,
            Command::Board(command) => command.run(&config).await,
            Command::Audit(command) => command.run(&config).await,
            Command::Status(command) => command.run(&config).await,
            Command::Quarantine(command) => command.run(&config).await,
            Command::Retain(command) => command.run(&config).await,
            Command::Schedule(command) => command.run(&config).await,
            Command::Scaler(command) => command.run(&config, self.global.config.as_deref()).await,
            Command::Completions { shell } => completions::run(shell),
        }
    }
}

/// Which database.
#[derive(Debug, Args)]
pub struct StoreArg {
    /// Where results and ledger are: mysql://USER:PASSWORD@HOST:3306/DATABASE or sqlite:PATH
    #[arg(
        long,
        value_name = "URL",
        env = "WINDLASS_STORE",
        hide_env_values = true
    )]
    store: Option<String>,
}

impl StoreArg {
    /// The flag's, the environment's or the file's URL.
    ///
    /// # Errors
    /// If there is none.
    pub fn url<'a>(&'a self, config: &'a Config) -> anyhow::Result<&'a str> {
        self.store
            .as_deref()
            .or(config.store.as_deref())
            .context(missing("the store", "store", "sqlite:windlass.sqlite"))
    }
}

/// Which broker.
#[derive(Debug, Args)]
pub struct BrokerArg {
    /// Where the stream is: amqp://USER:PASSWORD@HOST:5672/VHOST or amqps://…
    #[arg(
        long,
        value_name = "URL",
        env = "WINDLASS_BROKER",
        hide_env_values = true
    )]
    broker: Option<String>,
}

impl BrokerArg {
    /// The flag's, the environment's or the file's URL.
    ///
    /// # Errors
    /// If there is none.
    pub fn url<'a>(&'a self, config: &'a Config) -> anyhow::Result<&'a str> {
        self.broker
            .as_deref()
            .or(config.broker.as_deref())
            .context(missing("the broker", "broker", "amqp://localhost"))
    }
}

/// How many shards.
#[derive(Debug, Args)]
pub struct ShardsArg {
    /// How many shards the stream has; fixed when it is created [default: 1]
    #[arg(long, value_name = "N", env = "WINDLASS_SHARDS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    shards: Option<u32>,
}

impl ShardsArg {
    /// The flag's, the environment's or the file's number.
    pub fn count(&self, config: &Config) -> u32 {
        self.shards.unwrap_or(config.shards.get())
    }
}

/// Replicas to read from.
#[derive(Debug, Args)]
pub struct ReplicasArg {
    /// A replica of the store; repeat it for more (in the environment, separate with commas)
    #[arg(
        long = "replica",
        value_name = "URL",
        env = "WINDLASS_REPLICAS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    replicas: Vec<String>,
}

impl ReplicasArg {
    /// The flags', the environment's or the file's URLs.
    pub fn urls<'a>(&'a self, config: &'a Config) -> &'a [String] {
        if self.replicas.is_empty() {
            &config.replicas
        } else {
            &self.replicas
        }
    }
}

/// Which cluster, and where in it windlass is.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// The namespace of windlass [default: that of the kubeconfig's context, else windlass]
    #[arg(long, short, value_name = "NAME", env = "WINDLASS_NAMESPACE")]
    namespace: Option<String>,
    /// The kubeconfig's context [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl ClusterArgs {
    /// The cluster of the pod this runs in, or of the kubeconfig.
    ///
    /// # Errors
    /// If there is none.
    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        Cluster::of(self.namespace.clone(), self.context.clone()).await
    }
}

/// The secret between workers and dispatcher.
#[derive(Debug, Args)]
pub struct TokenArg {
    /// Bearer token that workers and dispatcher share
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WINDLASS_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

impl TokenArg {
    /// The flag's, the environment's or the file's token, if any.
    pub fn get(&self, config: &Config) -> Option<String> {
        let token = self.token.clone().or_else(|| config.token.clone());
        // A variable that was left empty is none.
        token.filter(|token| !token.is_empty())
    }
}

/// Who vouches for a dispatcher over TLS.
#[derive(Debug, Args)]
pub struct AuthorityArg {
    /// Trust this authority alone (PEM) to vouch for a dispatcher at https://… [default: the system's]
    #[arg(long, value_name = "FILE", env = "WINDLASS_CA")]
    ca: Option<PathBuf>,
}

impl AuthorityArg {
    /// The authority's file, if one is named.
    pub fn file(&self) -> Option<&Path> {
        self.ca.as_deref()
    }
}

/// What a user reads when a setting without a default is nowhere to be found.
pub fn missing(what: &str, name: &str, example: &str) -> String {
    let variable = name.to_uppercase();
    format!(
        "expected an address of {what}, got none; pass --{name} {example}, set WINDLASS_{variable}, \
         or write `{name} = \"{example}\"` into the --config file"
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_plugin_of_kubectl_says_how_it_is_called() {
        let usage = |name: &str, line: &[&str]| {
            let called = super::Cli::called(name.as_ref());
            let name = [name].into_iter();
            let shown = called.try_get_matches_from(name.chain(line.iter().copied()));
            shown.unwrap_err().to_string()
        };
        let plugin = usage("/usr/local/bin/kubectl-windlass", &["status", "--help"]);
        assert!(
            plugin.contains("Usage: kubectl windlass status"),
            "{plugin}"
        );
        let plain = usage("/usr/local/bin/windlass", &["status", "--help"]);
        assert!(plain.contains("Usage: windlass status"), "{plain}");
    }
}
