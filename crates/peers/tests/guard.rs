//! What the layers cost, watched: not how fast they are on this machine, but that they have not become several
//! times as dear beside their rivals as the table of `benches/README.md` says they are.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "only the table uses all of its modules")]

#[path = "../../../benches/support/bare.rs"]
mod bare;
#[path = "../benches/table/files.rs"]
mod files;
#[path = "../benches/table/measure.rs"]
mod measure;
#[path = "../benches/table/plot.rs"]
mod plot;
#[path = "../benches/table/report.rs"]
mod report;
#[path = "../benches/table/rows/mod.rs"]
mod rows;

use files::Files;

#[test]
fn plot_and_page_are_those_of_the_data() {
    assert!(
        Files::of_project().agree(),
        "run: cargo bench -p peers --bench table -- --draw"
    );
}

/// Only an optimised build can tell.
#[cfg(not(debug_assertions))]
#[test]
fn no_layer_is_several_times_as_dear_beside_its_rivals_as_it_was() {
    use measure::{Row, take_turns};
    use report::{Samples, Table};

    /// Neither another processor nor other work on the machine moves the best of many turns this far.
    const MARGIN: f64 = 3.0;
    /// What a layer may cost in any case, in nanoseconds: below that, where the linker puts it decides.
    const NOTHING: f64 = 25.0;
    const ROUNDS: usize = 150;

    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut rows: Vec<_> = { rows::ROWS.iter() }
        .map(|&(name, _, build)| Row::new(name, build))
        .collect();
    take_turns(&mut rows, ROUNDS);

    let kept = Files::of_project().table();
    let now = Table::new(String::new(), None, Samples::of(rows));
    let mut dear = Vec::new();
    for (name, ..) in rows::ROWS {
        let was = kept
            .ours(name, false)
            .expect("measured, with --write")
            .least;
        let limit = was / kept.beside(name) * now.beside(name) * MARGIN;
        let limit = limit.max(NOTHING);
        let ours = now.ours(name, false).unwrap().least;
        println!("{name}: {ours:.0} ns, limit {limit:.0}");
        if ours > limit {
            dear.push(format!("{name}: {ours:.0} ns, limit {limit:.0}"));
        }
    }
    assert!(dear.is_empty(), "{dear:#?}");
}
