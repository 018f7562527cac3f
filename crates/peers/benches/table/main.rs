//! What each layer adds to a call, beside what other crates and code by hand add that do the same work.
//!
//! ```sh
//! cargo bench -p peers --bench table                  # measures all rows, and prints them
//! cargo bench -p peers --bench table -- breaker       # the rows with this in their names
//! cargo bench -p peers --bench table -- --rounds 100  # fewer rounds than 500
//! cargo bench -p peers --bench table -- --write       # and writes table.csv, table.svg and benches/README.md
//! cargo bench -p peers --bench table -- --draw        # writes the last two again, from table.csv
//! crates/peers/compare REV                            # the same, with how it was at that revision
//! ```
//!
//! All variants of all rows take turns in each round, in one process, one after the other on one thread. A turn
//! is some hundred calls, timed with `Instant`; requests are made off the clock. Of each variant, the least and
//! the median turn are told, in nanoseconds for a call. Where a rival does less than ours, a comment says so.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../../benches/support/bare.rs"]
mod bare;
mod files;
mod measure;
mod plot;
mod report;
mod rows;

use files::{Files, run_of};
use measure::{Row, take_turns};
use report::{Samples, Table};
use std::{fs, io::Write as _, path::PathBuf};

fn main() {
    let arguments = Arguments::read();
    let files = Files::of_project();
    if arguments.draws {
        return files.draw(&files.table());
    }
    let now = match &arguments.from {
        Some(file) => Samples::read(file),
        None => measure(&arguments),
    };
    if let Some(file) = arguments.append {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .unwrap();
        return file.write_all(now.lines().as_bytes()).unwrap();
    }
    let before = arguments.before.as_deref().map(Samples::read);
    let table = Table::new(run_of(arguments.revision.as_deref()), before, now);
    print!("{}", table.text());
    if arguments.writes {
        files.write(&table);
    }
}

fn measure(arguments: &Arguments) -> Samples {
    // Timers need a runtime, also where they do not run.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _entered = runtime.enter();
    let chosen = rows::ROWS
        .iter()
        .filter(|(name, ..)| arguments.chooses(name));
    let mut rows: Vec<_> = chosen
        .map(|&(name, _, build)| Row::new(name, build))
        .collect();
    take_turns(&mut rows, arguments.rounds);
    Samples::of(rows)
}

#[derive(Default)]
struct Arguments {
    filters: Vec<String>,
    rounds: usize,
    writes: bool,
    draws: bool,
    /// For `compare`: the turns of a run are added to this file,
    append: Option<PathBuf>,
    /// the table is made of such files, of the build of here
    from: Option<PathBuf>,
    /// and of the earlier one,
    before: Option<PathBuf>,
    /// whose name this is.
    revision: Option<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self {
            rounds: 500,
            ..Self::default()
        };
        let mut all = std::env::args().skip(1);
        while let Some(one) = all.next() {
            let mut value = || all.next().unwrap_or_else(|| panic!("{one} needs a value"));
            match &*one {
                // What `cargo bench` says to every bench.
                "--bench" => {}
                "--test" => read.rounds = 1,
                "--rounds" => read.rounds = value().parse().expect("a number"),
                "--write" => read.writes = true,
                "--draw" => read.draws = true,
                "--append" => read.append = Some(value().into()),
                "--from" => read.from = Some(value().into()),
                "--before" => read.before = Some(value().into()),
                "--revision" => read.revision = Some(value()),
                _ => read.filters.push(one),
            }
        }
        assert!(
            !read.writes || read.filters.is_empty(),
            "only the whole table is written"
        );
        read
    }

    fn chooses(&self, name: &str) -> bool {
        let filters = &self.filters;
        filters.is_empty() || filters.iter().any(|filter| name.contains(&**filter))
    }
}
