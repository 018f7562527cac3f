//! `contract.md` has every row of the contract, and each of its tests is there.

use std::{collections::HashMap, fs, path::Path};

/// The sections and their rows. None may vanish.
const SECTIONS: [(&str, usize); 13] = [
    ("A0", 36),
    ("A1", 35),
    ("A2", 32),
    ("A3", 20),
    ("A4", 18),
    ("A5", 4),
    ("A6", 23),
    ("A7", 17),
    ("F0", 13),
    ("F1", 14),
    ("F2", 14),
    ("F3", 13),
    ("F4", 14),
];

/// Where the crates are, from this one.
const CRATES: [(&str, &str); 5] = [
    ("cognigy", "."),
    ("gateway", "../tower-webhook-gateway"),
    ("library", "../.."),
    ("operator", "../tower-webhook-operator"),
    ("sqlite", "../tower-webhook-sqlite"),
];

/// Reads a file of a crate, such as `cognigy/tests/contract.rs`.
fn source(path: &str) -> Option<String> {
    let (name, file) = path.split_once('/')?;
    let (_, folder) = CRATES.iter().find(|(known, _)| *known == name)?;
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(home.join(folder).join(file)).ok()
}

/// What is wrong with a page whose sections have so many rows: a line for each fault, which names the row.
fn faults(
    page: &str,
    sections: &[(&str, usize)],
    source: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sources = HashMap::new();
    let mut rows: HashMap<&str, usize> = HashMap::new();
    let mut section = None;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            let name = heading.trim_start_matches('#').trim().split('.').next();
            let mut known = sections.iter().map(|(known, _)| *known);
            section = known.find(|known| name == Some(known));
        }
        let (Some(section), true) = (section, line.starts_with('|')) else {
            continue;
        };
        if line == "| Id | What it says | Tests |" || line == "| --- | --- | --- |" {
            continue;
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", id, what, tests, ""] = cells[..] else {
            faults.push(format!("{section}: no row of three cells: {line}"));
            continue;
        };
        let count = rows.entry(section).or_default();
        *count += 1;
        let expected = format!("{section}.{count}");
        if id != expected {
            faults.push(format!("{id}: here should be row {expected}"));
        }
        if what.is_empty() {
            faults.push(format!("{id}: it says nothing"));
        }
        if tests.is_empty() {
            faults.push(format!("{id}: it has no test"));
            continue;
        }
        for test in tests.split(", ") {
            let named = test.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
            let Some((path, name)) = named.and_then(|it| it.split_once("::")) else {
                faults.push(format!("{id}: {test} is not `crate/file::test`"));
                continue;
            };
            let found = sources.entry(path).or_insert_with(|| source(path));
            match found {
                None => faults.push(format!("{id}: there is no file {path}")),
                Some(text) if !has_test(text, name) => {
                    faults.push(format!("{id}: there is no test {name} in {path}"));
                }
                Some(_) => {}
            }
        }
    }
    for (section, expected) in sections {
        let found = rows.get(section).copied().unwrap_or_default();
        if found != *expected {
            faults.push(format!("{section}: it has {found} rows and not {expected}"));
        }
    }
    faults
}

/// Whether a function of this name stands below an attribute that makes it a test, and none that leaves it out.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let is_function = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let rest = line
            .strip_prefix("fn ")
            .and_then(|line| line.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with('('))
    };
    let is_test = |line: &&&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let is_ignored = |line: &&&str| line.starts_with("#[") && line.contains("ignore");
    // Its attributes and comments: what is before ends with a brace, a semicolon or an empty line.
    let is_before = |line: &&str| line.is_empty() || line.ends_with(['{', '}', ';']);
    lines.iter().enumerate().any(|(at, line)| {
        let above = lines[..at].iter().rev();
        let above: Vec<_> = above.take_while(|line| !is_before(line)).collect();
        is_function(line) && above.iter().any(is_test) && !above.iter().any(is_ignored)
    })
}

#[test]
fn every_row_of_the_contract_has_tests_that_are_there() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(home.join("tests/contract.md")).expect("the page");
    let faults = faults(&page, &SECTIONS, source);
    assert!(faults.is_empty(), "contract.md:\n{}", faults.join("\n"));
}

/// What is wrong with a page of one section of two rows, of which these are the lines.
fn faults_of(rows: &[&str]) -> Vec<String> {
    let head = "# A page\n\n| A | table |\n| --- | --- |\n| of | another section |\n\n## A0. A document\n\n\
                | Id | What it says | Tests |\n| --- | --- | --- |\n";
    let page = format!("{head}{}\n", rows.join("\n"));
    let source = |path: &str| (path == "cognigy/tests/a.rs").then(|| SOURCE.to_owned());
    faults(&page, &[("A0", 2)], source)
}

const SOURCE: &str = r#"
use a::b;
#[test]
fn plain() {}

/// With more than one attribute.
#[tokio::test(start_paused = true)]
#[allow(
    clippy::too_many_lines,
    reason = "a table"
)]
async fn with_more() {
    helper(1);
}
fn helper(_: u8) {}

proptest! {
    #[test]
    fn of_any(value in any::<u8>()) {}
}

#[cfg(test)]
fn no_test() {}

#[test]
#[ignore = "slow"]
fn left_out() {}

#[ignore]
#[tokio::test]
async fn left_out_too() {}

#[test]
#[cfg_attr(not(windows), ignore)]
fn left_out_here() {}
"#;

const FIRST: &str = "| A0.1 | A rule | `cognigy/tests/a.rs::plain`, `cognigy/tests/a.rs::of_any` |";
const SECOND: &str = "| A0.2 | Another | `cognigy/tests/a.rs::with_more` |";

#[test]
fn a_page_with_all_rows_and_tests_has_no_fault() {
    assert_eq!(faults_of(&[FIRST, SECOND]), [""; 0]);
}

#[test]
fn a_row_without_a_test_or_with_one_that_is_not_there_is_named() {
    for (row, fault) in [
        ("| A0.2 | Another | |", "A0.2: it has no test"),
        (
            "| A0.2 |  | `cognigy/tests/a.rs::plain` |",
            "A0.2: it says nothing",
        ),
        (
            "| A0.2 | Another |",
            "A0: no row of three cells: | A0.2 | Another |",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::gone` |",
            "A0.2: there is no test gone in cognigy/tests/a.rs",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::plai` |",
            "A0.2: there is no test plai in cognigy/tests/a.rs",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::helper` |",
            "A0.2: there is no test helper in cognigy/tests/a.rs",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::no_test` |",
            "A0.2: there is no test no_test in cognigy/tests/a.rs",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::left_out` |",
            "A0.2: there is no test left_out in cognigy/tests/a.rs",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::left_out_too` |",
            "A0.2: there is no test left_out_too in cognigy/tests/a.rs",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::left_out_here` |",
            "A0.2: there is no test left_out_here in cognigy/tests/a.rs",
        ),
        (
            "| A0.2 | Another | `cognigy/tests/a.rs::plain`, `cognigy/tests/b.rs::plain` |",
            "A0.2: there is no file cognigy/tests/b.rs",
        ),
        (
            "| A0.2 | Another | plain |",
            "A0.2: plain is not `crate/file::test`",
        ),
    ] {
        let found = faults_of(&[FIRST, row]);
        assert_eq!(found[0], fault, "{row}");
    }
    assert_eq!(source("cognigy/tests/no_such_file.rs"), None);
    assert_eq!(source("no_such_crate/tests/contract.rs"), None);
    assert!(source("library/tests/cognigy.rs").is_some());
}

#[test]
fn a_row_that_vanished_or_is_there_twice_is_named() {
    for (rows, faults) in [
        (&[FIRST][..], &["A0: it has 1 rows and not 2"][..]),
        (
            &[FIRST, SECOND, SECOND],
            &[
                "A0.2: here should be row A0.3",
                "A0: it has 3 rows and not 2",
            ],
        ),
        (&[FIRST, FIRST], &["A0.1: here should be row A0.2"]),
        (
            &[SECOND, FIRST],
            &[
                "A0.2: here should be row A0.1",
                "A0.1: here should be row A0.2",
            ],
        ),
        (&[], &["A0: it has 0 rows and not 2"]),
        // Below another heading it is of no section.
        (
            &[FIRST, "## B0. Another", SECOND],
            &["A0: it has 1 rows and not 2"],
        ),
    ] {
        assert_eq!(faults_of(rows), faults, "{rows:?}");
    }
}
