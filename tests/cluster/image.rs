//! The image has two builders, `Dockerfile` and `k8s/image`: that they make the same, told from their texts.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::root;

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect(file)
}

/// The instructions of the Dockerfile, each in one line.
fn instructions() -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// The flags of the `cargo build` in a text, but those about what it prints.
fn cargo_flags(text: &str) -> BTreeSet<String> {
    let (_, command) = text.split_once("cargo build ").expect("cargo build");
    let end = command.find(['>', '&', '\n']).unwrap_or(command.len());
    let words: Vec<&str> = command[..end].split_whitespace().collect();
    let mut flags = BTreeSet::new();
    for (at, word) in words
        .iter()
        .enumerate()
        .filter(|(_, word)| word.starts_with("--"))
    {
        let value = words.get(at + 1).filter(|next| !next.starts_with("--"));
        flags.insert(format!("{word} {}", value.copied().unwrap_or_default()));
    }
    flags.remove("--quiet ");
    flags
}

#[test]
fn the_dockerfile_builds_what_the_script_builds() {
    let instructions = instructions().join("\n");
    // The script's variable, written out.
    let script = read("k8s/image");
    let (_, target) = script.split_once("\ntarget=").expect("a target");
    let target = target.lines().next().unwrap_or_default();
    let script = script.replace("\"$target\"", target);
    let flags = cargo_flags(&script);
    assert_eq!(cargo_flags(&instructions), flags);
    for flag in ["--release ", "--locked ", "--bin windlass"] {
        assert!(flags.contains(flag), "{flags:?} lack {flag}");
    }
    assert!(flags.contains(&format!("--target {target}")), "{flags:?}");
    for both in ["-C target-feature=+crt-static", "strip --strip-debug"] {
        assert!(instructions.contains(both), "the Dockerfile lacks {both}");
        assert!(script.contains(both), "k8s/image lacks {both}");
    }
    // What it runs, as whom, and what else is in it.
    let config = script.lines().find(|line| line.contains("\"Entrypoint\""));
    let config = config.expect("the script's config").trim();
    let config = config.trim_start_matches('\'').split('\'').next();
    let config: Value = serde_json::from_str(config.unwrap_or_default()).expect("JSON");
    let said = |instruction: &str| {
        let mut lines = instructions.lines().rev();
        let line = lines.find_map(|line| line.strip_prefix(instruction));
        line.unwrap_or_else(|| panic!("no {instruction}")).trim()
    };
    assert_eq!(config["User"], said("USER"));
    let entrypoint: Value = serde_json::from_str(said("ENTRYPOINT")).expect("a list");
    assert_eq!(config["Entrypoint"], entrypoint);
    let (_, last) = instructions
        .split_once("FROM scratch\n")
        .expect("an empty stage");
    let copied = last
        .lines()
        .filter_map(|line| line.strip_prefix("COPY --from=build "));
    let copied: BTreeSet<&str> = copied.filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(
        copied,
        ["/etc/ssl/certs/ca-certificates.crt", "/windlass"].into()
    );
    for file in copied {
        assert!(
            script.contains(&format!("\"$layer{file}\"")),
            "k8s/image lacks {file}"
        );
    }
}

#[test]
fn what_the_dockerfile_copies_is_there() {
    let mut stages = BTreeSet::new();
    let mut made = String::new();
    let mut count = 0;
    for instruction in instructions() {
        made.push_str(&instruction);
        let words: Vec<&str> = instruction.split_whitespace().collect();
        match words[..] {
            ["FROM", _, "AS", stage] => {
                stages.insert(stage.to_owned());
            }
            ["COPY", source, target] if !source.starts_with("--") => {
                count += 1;
                assert!(
                    root().join(source).exists(),
                    "{source} is not there, for {target}"
                );
            }
            ["COPY", from, source, _] => {
                count += 1;
                let stage = from.strip_prefix("--from=").expect("--from=STAGE");
                assert!(stages.contains(stage), "no stage {stage} before {source}");
            }
            _ => {}
        }
    }
    assert_eq!(count, 5, "{made}");
    // What one stage makes and another takes.
    assert!(
        made.contains("cp target/x86_64-unknown-linux-gnu/release/windlass /windlass"),
        "{made}"
    );
    let page = "COPY --from=page /web/dist board/web/dist";
    assert!(
        made.contains(page) && made.contains("WORKDIR /web"),
        "{made}"
    );
    for file in ["board/web/package.json", "board/web/package-lock.json"] {
        assert!(root().join(file).exists(), "`npm ci` needs {file}");
    }
    let package: Value = serde_json::from_str(&read("board/web/package.json")).expect("JSON");
    assert!(
        package["scripts"]["build"].is_string(),
        "`npm run build` is no script"
    );
}

#[test]
fn the_manifests_run_the_image_that_is_built() {
    let script = read("k8s/image");
    let (_, name) = script.split_once("${WINDLASS_IMAGE:-").expect("a name");
    let (name, _) = name.split_once('}').expect("a name");
    for file in ["dispatcher.yaml", "workers.yaml", "job-template.yaml"] {
        let manifest = read(&format!("k8s/base/{file}"));
        assert!(
            manifest.contains(&format!("image: {name}\n")),
            "{file} runs another"
        );
    }
}
