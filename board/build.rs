//! Puts the page into the binary. It is built with npm where node and the registry can be had, taken
//! from `web/dist` where somebody has built it, and else replaced by a page that says how to get the
//! full one; so `cargo build` works without Node.
//!
//! `WINDLASS_BOARD_WEB=skip` leaves npm alone.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: [&str; 6] = [
    "index.html",
    "src",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
];

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let web = root.join("web");
    println!("cargo::rerun-if-env-changed=WINDLASS_BOARD_WEB");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", web.join(source).display());
    }
    let dist = web.join("dist");
    let skip = std::env::var("WINDLASS_BOARD_WEB").is_ok_and(|value| value == "skip");
    if !skip && let Err(why) = build(&web) {
        let instead = match dist.join("index.html").is_file() {
            true => "an older one is used",
            false => "it says how to get it",
        };
        println!("cargo::warning=the board's page was not built ({why}); {instead}");
    }
    let mut files = Vec::new();
    if !skip {
        // What is missing runs this with every build: the next may find Node installed, and what a
        // clean-up removed is built again.
        let index = dist.join("index.html");
        println!("cargo::rerun-if-changed={}", index.display());
        collect(&dist, &dist, &mut files);
    }
    files.sort();
    let mut table = String::from("pub(super) static FILES: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        let path = path.display().to_string();
        writeln!(table, "    ({name:?}, include_bytes!({path:?})),").expect("a string takes it");
    }
    table.push_str("];\n");
    std::fs::write(out.join("files.rs"), table).expect("OUT_DIR can be written");
}

/// Builds `web/dist` if it is missing or older than its sources.
fn build(web: &Path) -> Result<(), String> {
    let index = web.join("dist/index.html");
    let newest = SOURCES
        .iter()
        .filter_map(|source| newest(&web.join(source)))
        .max();
    let built = std::fs::metadata(&index)
        .and_then(|data| data.modified())
        .ok();
    if built.is_some() && built >= newest {
        return Ok(());
    }
    if !web.join("node_modules").is_dir() {
        run(web, &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
    }
    run(web, &["run", "--silent", "build"])?;
    // As old as what it was made from: younger than the start of this run, it would have cargo run
    // this once more.
    newest
        .map_or(Ok(()), |newest| set_modified(&index, newest))
        .map_err(|error| format!("{} cannot be dated: {error}", index.display()))
}

fn set_modified(path: &Path, time: std::time::SystemTime) -> std::io::Result<()> {
    let file = std::fs::File::options().write(true).open(path)?;
    file.set_modified(time)
}

fn run(web: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("npm")
        .args(arguments)
        .current_dir(web)
        .output()
        .map_err(|error| format!("npm cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(format!(
        "npm {}: {}",
        arguments.join(" "),
        last.unwrap_or("failed")
    ))
}

fn newest(path: &Path) -> Option<std::time::SystemTime> {
    let data = std::fs::metadata(path).ok()?;
    if !data.is_dir() {
        return data.modified().ok();
    }
    let entries = std::fs::read_dir(path).ok()?;
    entries
        .flatten()
        .filter_map(|entry| newest(&entry.path()))
        .max()
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(name) = path.strip_prefix(root) {
            files.push((name.display().to_string(), path.clone()));
        }
    }
}
