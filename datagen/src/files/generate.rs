//! Generating files, and the manifest of what they hold.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::FileFormat;
use super::write::Writer;
use crate::manifest::{Manifest, Origin, Recorder, Run};
use crate::workload::{Options, Workload};

/// The manifest's name in the folder of generated files.
pub const MANIFEST: &str = "windlass-manifest.json";

/// Most files of one run: each is held open while orders go round them.
const MAX_FILES: u32 = 500;

/// How many orders pass between two reports of progress.
const REPORT_EVERY: u64 = 100_000;

/// Writes the workload of `options` to the empty or new folder `out`, one file a source
/// (`orders-00.csv` and so on), and its manifest. `progress` is told how many orders are written.
///
/// The same options and format give the same bytes.
///
/// # Errors
/// If the options make no workload, the folder is not empty, or writing fails.
pub fn generate(
    options: Options,
    window_ms: i64,
    format: FileFormat,
    out: &Path,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Manifest> {
    anyhow::ensure!(
        options.sources <= MAX_FILES,
        "expected at most {MAX_FILES} files, got {}; give each more rows",
        options.sources
    );
    prepare(out)?;
    let workload = Workload::new(options.clone())?;
    let mut writers = Vec::new();
    for (number, source) in workload.dictionaries().sources.texts().iter().enumerate() {
        let path = out.join(format!("orders-{number:02}.{format}"));
        writers.push(Writer::create(format, &path, source)?);
    }
    let mut recorder = Recorder::new(window_ms);
    let mut workload = workload;
    let mut written = 0;
    for order in workload.by_ref() {
        writers[order.source as usize].push(&order)?;
        recorder.record(&[order]);
        written += 1;
        if written % REPORT_EVERY == 0 {
            progress(written);
        }
    }
    for writer in writers {
        writer.finish()?;
    }
    progress(written);
    let run = Run {
        origin: Origin::Workload(options),
        interrupted: false,
    };
    let manifest = recorder.finish(workload.dictionaries(), run);
    manifest.write(&out.join(MANIFEST))?;
    Ok(manifest)
}

/// Old files beside new ones would be published with them, unknown to the manifest.
fn prepare(out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)
        .with_context(|| format!("cannot create the folder {}", out.display()))?;
    let mut entries =
        fs::read_dir(out).with_context(|| format!("cannot list the folder {}", out.display()))?;
    anyhow::ensure!(
        entries.next().is_none(),
        "expected an empty folder, {} holds files; name another with --out or empty it",
        out.display()
    );
    Ok(())
}
