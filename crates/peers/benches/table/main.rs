//! What each layer adds to a call, beside what other crates and code by hand add that do the same work.
//!
//! ```sh
//! cargo bench -p peers --bench table                  # measures everything in one process, and prints it
//! cargo bench -p peers --bench table -- breaker       # the rows with this in their names
//! cargo bench -p peers --bench table -- --rounds 300  # fewer rounds than 1,000
//! cargo bench -p peers --bench table -- --write       # and writes table.csv, table.svg and benches/README.md
//! ```
//!
//! All variants of all rows take turns in each round, one after the other on one thread. A turn is some
//! hundred calls, timed with `Instant`; requests are made off the clock. Of each variant, the least and the
//! median turn are told, in nanoseconds for a call.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../../benches/support/bare.rs"]
mod bare;
mod measure;
mod report;
mod rows;

use measure::{Row, take_turns};
use report::Table;

fn main() {
    let arguments = Arguments::read();
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
    print!("{}", Table::of(&rows).text());
}

struct Arguments {
    filters: Vec<String>,
    rounds: usize,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self {
            filters: Vec::new(),
            rounds: 1_000,
        };
        let mut all = std::env::args().skip(1);
        while let Some(one) = all.next() {
            match &*one {
                // What `cargo bench` says to every bench.
                "--bench" => {}
                "--test" => read.rounds = 1,
                "--rounds" => read.rounds = all.next().unwrap().parse().expect("a number"),
                _ => read.filters.push(one),
            }
        }
        read
    }

    fn chooses(&self, name: &str) -> bool {
        let filters = &self.filters;
        filters.is_empty() || filters.iter().any(|filter| name.contains(&**filter))
    }
}
