//! Orders in files: generating them and reading them back, CSV, NDJSON, Parquet or Arrow IPC by
//! extension, in bounded memory.
//!
//! Columns are `source`, `seq`, `ts`, `province`, `amount`. Written files hold one source each,
//! all over the same span of time, and a manifest beside them.

mod columns;
mod generate;
mod read;
mod recording;
mod text;
mod write;

use std::fmt;
use std::path::Path;

use anyhow::Context;

pub use generate::{MANIFEST, generate};
pub use recording::{Recording, list};

/// How a file holds orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated, a header first; `ts` in epoch ms, `amount` in decimal.
    #[default]
    Csv,
    /// A JSON object a line (read only).
    Ndjson,
    /// Parquet, Snappy-compressed.
    Parquet,
    /// Arrow IPC file; streams are read too.
    Arrow,
}

impl FileFormat {
    /// The format that a file's extension names.
    ///
    /// # Errors
    /// If it names none.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.and_then(Self::by_name).with_context(|| {
            format!(
                "expected a file named .csv, .ndjson, .jsonl, .parquet or .arrow, got {}",
                path.display()
            )
        })
    }

    fn by_name(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            "arrow" | "arrows" | "feather" | "ipc" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// The extension of files written in it.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}
