//! Where there is no npm the crate builds all the same: its build script is run without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const NONE: &str = "pub(super) static FILES: &[(&str, &[u8])] = &[\n];\n";

/// The build script as a program, and a crate for it whose page nobody has built.
struct Crate {
    root: tempfile::TempDir,
    script: PathBuf,
}

impl Crate {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["web/src", "out", "no-programs"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("web/index.html"), "<p>").unwrap();
        fs::write(root.path().join("web/src/main.ts"), "").unwrap();
        let script = root.path().join("build");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let compiled = Command::new(rustc)
            .args(["--edition=2024", "-o"])
            .arg(&script)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs"))
            .status()
            .unwrap();
        assert!(compiled.success());
        Self { root, script }
    }

    /// Runs it; what it tells cargo, and the table of the page's files.
    fn build(&self, web: &str) -> (String, String) {
        let root = self.root.path();
        let output = Command::new(&self.script)
            .env_clear()
            .env("PATH", root.join("no-programs"))
            .env("CARGO_MANIFEST_DIR", root)
            .env("OUT_DIR", root.join("out"))
            .env("WINDLASS_BOARD_WEB", web)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        let table = fs::read_to_string(root.join("out/files.rs")).unwrap();
        (told, table)
    }
}

#[test]
fn without_npm_the_build_warns_and_goes_on_without_the_page_or_with_an_older_one() {
    let of = Crate::new();
    let why = "cargo::warning=the board's page was not built (npm cannot be run: ";
    let (told, table) = of.build("");
    assert!(told.contains(why), "{told}");
    assert!(told.contains("; it says how to get it\n"), "{told}");
    assert_eq!(table, NONE);

    let dist = of.root.path().join("web/dist");
    fs::create_dir_all(dist.join("assets")).unwrap();
    fs::write(dist.join("assets/a.js"), "").unwrap();
    let index = fs::File::create(dist.join("index.html")).unwrap();
    index.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let (told, table) = of.build("");
    assert!(told.contains(why), "{told}");
    assert!(told.contains("; an older one is used\n"), "{told}");
    let names: Vec<_> = table
        .lines()
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert_eq!(names, ["assets/a.js", "index.html"]);

    let (told, table) = of.build("skip");
    assert!(!told.contains("warning"), "{told}");
    assert_eq!(table, NONE);
}
