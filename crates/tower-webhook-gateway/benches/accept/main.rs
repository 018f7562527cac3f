//! How many events a second the gateway accepts on SQLite, each one durable before its answer, and
//! how many the documents' own receiver does in the same run.
//!
//! Not criterion: what is measured is a program, over sockets, under 64 connections. `--test` runs
//! it for a moment, to see that it works.

#[path = "../../../../benches/support/load.rs"]
mod load;
mod receivers;

use load::Load;
use receivers::{Form, Receiver, SECRET};
use std::{env, process::ExitCode, time::Duration};

const CONNECTIONS: usize = 64;

fn main() -> ExitCode {
    let testing = env::args().any(|arg| arg == "--test");
    let (rounds, events) = if testing { (1, 2_000) } else { (3, 60_000) };
    println!("{CONNECTIONS} connections, 1 KiB events, SQLite, every answer durable\n");
    println!(
        "{:<34} {:>10} {:>9} {:>9} {:>9}",
        "", "accepts/s", "p50 ms", "p99 ms", "max ms"
    );
    let mut best = [0.0_f64; 5];
    for round in 0..rounds {
        let mut measure = |slot: usize, receiver: Receiver, events: usize| {
            let load = Load::signed(SECRET, round, events);
            let report = load.run(receiver.address, CONNECTIONS, Duration::from_secs(120));
            println!(
                "{:<34} {:>10.0} {:>9.2} {:>9.2} {:>9.2}",
                receiver.name, report.per_second, report.p50, report.p99, report.max
            );
            assert_eq!(report.refused, 0, "every event is accepted");
            best[slot] = best[slot].max(report.per_second);
        };
        measure(0, Receiver::gateway(false), events);
        measure(1, Receiver::gateway(true), events / 2);
        for (slot, form) in (2..).zip(Form::ALL) {
            match Receiver::documents(form, testing) {
                Some(receiver) => measure(slot, receiver, events / 30),
                None => println!("({}: needs Python, see benches/README.md)", form.title()),
            }
        }
    }
    let [alone, delivering, documents @ ..] = best;
    for (form, per_second) in Form::ALL.iter().zip(documents) {
        if per_second > 0.0 {
            println!(
                "{}: the gateway does {:.1} times as many accepting alone, {:.1} times as many and delivering",
                form.title(),
                alone / per_second,
                delivering / per_second
            );
        }
    }
    ExitCode::SUCCESS
}
