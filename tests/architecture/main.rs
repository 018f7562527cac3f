//! Who may know whom, checked on the source itself: layers do not know each other, what judges calls does
//! not know HTTP, no driver shows in the public API, and a member crate knows the library's public API alone.
//!
//! A failure names the file, what it names, and the rule. Each rule stands beside tests, called `finds`, that give
//! it offences to find.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod members;
mod public;
mod rules;
mod tree;

use members::Workspace;
use rules::{BEYOND, is_beyond};
use std::{collections::BTreeSet, path::PathBuf};
use tree::{Tree, parse, sources};

/// Crates whose types may stand in a public signature: at 1.0, or named by the rule.
const MAY_SHOW: &[&str] = &[
    "axum_core",
    "bytes",
    "http",
    "http_body",
    "serde",
    "serde_json",
    "tokio",
    "tower",
    "tower_layer",
    "tower_service",
];

/// What shows a driver all the same, with its reason.
const SHOWN: &[(&str, &str)] = &[
    // Its users name so what they want to read as JSON.
    ("src/signature/extract.rs", "`axum::Json`"),
    // A channel takes requests with this body alone.
    ("src/transport/tonic.rs", "`tonic::body::Body`"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn library() -> Tree {
    let tree = Tree::load(&root().join("src/lib.rs"));
    assert!(tree.modules().count() > 100, "the crate was not understood");
    tree
}

#[track_caller]
fn none(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn layers_know_the_foundation_and_not_each_other() {
    none(rules::layers(&library()));
}

#[test]
fn what_judges_calls_does_not_know_http() {
    none(rules::without_http(&library()));
}

#[test]
fn the_lowest_modules_know_http_bytes_and_std() {
    let dependencies = Workspace::read(&root()).library().dependencies();
    let found = rules::lowest(&library(), &dependencies);
    let allowed =
        |[module, of, _]: &[String; 3]| BEYOND.iter().any(|entry| is_beyond(module, of, *entry));
    none(
        found
            .iter()
            .filter(|one| !allowed(one))
            .map(|[_, _, words]| words.clone()),
    );
    for (module, crates) in BEYOND {
        for of in *crates {
            let entry = (*module, &[*of][..]);
            let used = found
                .iter()
                .any(|[module, of, _]| is_beyond(module, of, entry));
            assert!(used, "`{module}` does without `{of}`: take it off the list");
        }
    }
}

#[test]
fn no_driver_shows_in_the_public_api() {
    let mut drivers = Workspace::read(&root()).library().dependencies();
    assert!(drivers.contains("moka"), "the manifest was not understood");
    drivers.retain(|name| !MAY_SHOW.contains(&name.as_str()));
    let mut shown = public::shown(&library(), &drivers);
    for (file, of) in SHOWN {
        let before = shown.len();
        shown.retain(|one| !(one.contains(file) && one.contains(of)));
        assert!(
            shown.len() < before,
            "`{file}` does without `{of}`: take it off the list"
        );
    }
    none(shown);
}

/// `pub` and hidden is private by agreement: a member crate would have to be told of it.
#[test]
fn nothing_public_is_hidden() {
    for member in &Workspace::read(&root()).packages {
        none(told(sources(&member.folder().join("src")), public::hides));
    }
}

#[test]
fn what_the_library_needs_has_a_reason() {
    none(Workspace::read(&root()).unlisted());
}

#[test]
fn what_happens_is_told_to_observers() {
    let workspace = Workspace::read(&root());
    let libraries = workspace.packages.iter().filter(|one| one.is_library());
    let roots: Vec<_> = libraries
        .map(|one| one.folder().join("src/lib.rs"))
        .collect();
    assert!(roots.len() >= 3, "the workspace was not understood");
    none(roots.iter().flat_map(|root| rules::logs(&Tree::load(root))));
}

#[test]
fn tests_see_what_a_user_sees() {
    for member in &Workspace::read(&root()).packages {
        for folder in ["tests", "benches", "examples"] {
            let mut files = sources(&member.folder().join(folder));
            // A package of its own, which puts loom's locks into the breaker's source.
            files.retain(|file| !file.starts_with(root().join("tests/loom")));
            none(told(files, public::takes_source));
        }
    }
}

#[test]
fn a_member_knows_the_library_and_no_other_member() {
    let workspace = Workspace::read(&root());
    assert!(
        workspace.packages.len() >= 5,
        "the workspace was not understood"
    );
    none(workspace.wrong());
    for member in &workspace.packages {
        none(told(sources(&member.folder().join("src")), public::borrows));
    }
}

/// The files of which `wrong` is true.
fn told(files: Vec<PathBuf>, wrong: impl Fn(&syn::File) -> bool) -> BTreeSet<String> {
    let is_wrong = |file: &PathBuf| wrong(&parse(file));
    let wrong = files.into_iter().filter(is_wrong);
    wrong.map(|file| file.display().to_string()).collect()
}

#[test]
fn the_vendor_is_named_in_its_own_module() {
    none(rules::vendor(&library()));
}
