//! What the compiler says of the likeliest mistakes of a newcomer. Each program of `tests/mistakes` is one; beside it
//! stand the lines of ours that the compiler must say of it, which tell what to write.
//!
//! Only these lines are compared, and not the whole output as `trybuild` does: the rest of it differs between compilers
//! and changes with each line of `src`, and this check must hold with every compiler that the crate is built with. What
//! only the compiler's own words can tell is marked in the expectation, with the reason.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/package.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod package;

use package::Package;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// What the programs need. The versions are those of `Cargo.lock`.
const DEPENDENCIES: &str = r#"
[dependencies]
tower-webhook = { version = "0.1", features = ["axum", "queue", "reqwest", "tonic"] }
axum = { version = "0.8", default-features = false }
http = "1"
reqwest = { version = "0.13", default-features = false }
serde = { version = "1", features = ["derive"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
tonic = { version = "0.14", default-features = false, features = ["channel"] }
tonic-health = { version = "0.14", default-features = false }
tower = { version = "0.5", features = ["util"] }
"#;

/// The programs, by name, and what is expected of each: lines in their order, without the reasons.
fn expectations() -> BTreeMap<String, (PathBuf, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let programs = files.filter(|file| file.extension().is_some_and(|of| of == "rs"));
    programs
        .map(|program| {
            let expected = fs::read_to_string(program.with_extension("stderr"));
            let expected =
                expected.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            let lines = expected.lines().filter(|line| !line.starts_with('#'));
            let lines = lines.map(str::to_owned).collect();
            let name = program.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, (program, lines))
        })
        .collect()
}

/// What the compiler says of each program, by name.
fn said(programs: &BTreeMap<String, (PathBuf, Vec<String>)>) -> BTreeMap<String, String> {
    let mut manifest = DEPENDENCIES.to_owned();
    for (name, (program, _)) in programs {
        let path = program.display();
        write!(manifest, "\n[[bin]]\nname = \"{name}\"\npath = '{path}'\n").unwrap();
    }
    let package = Package::new("mistakes", &manifest);
    let checked = package.cargo(&["check", "--bins", "--keep-going", "--message-format=json"]);
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for line in String::from_utf8_lossy(&checked.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        if message["reason"] == "compiler-message" {
            let of = message["target"]["name"].as_str().unwrap().to_owned();
            let rendered = message["message"]["rendered"].as_str().unwrap();
            said.entry(of).or_default().push_str(rendered);
        }
    }
    assert!(
        !said.is_empty(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    said
}

#[test]
fn each_mistake_is_told_what_to_write() {
    let programs = expectations();
    assert!(programs.len() >= 10);
    let said = said(&programs);
    let mut wrong = String::new();
    for (name, (_, expected)) in &programs {
        let said = said.get(name).map_or("", String::as_str);
        let mut lines = said.lines().map(|line| line.trim_start_matches([' ', '=']));
        let missing = expected
            .iter()
            .find(|expected| !lines.any(|line| line == expected.as_str()));
        if let Some(missing) = missing {
            writeln!(
                wrong,
                "== {name} lacks, in this order:\n{missing}\n== it has:\n{said}"
            )
            .unwrap();
        }
        if expected.is_empty() {
            writeln!(wrong, "== {name} expects nothing, of:\n{said}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
