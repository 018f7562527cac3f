//! Shows the effect of jitter, a budget and a breaker: the contention model of the AWS article for every
//! jitter kind, and a total outage. Prints a table, and draws two plots if a folder is given.
//!
//! ```sh
//! cargo run --release --example jitter_simulation [FOLDER]
//! ```
//!
//! Seeded: every run prints and draws the same. The plots in the documentation of
//! `tower_webhook::retry` are its output.

mod contention;
mod outage;
mod plot;

use outage::Guard;
use plot::Line;
use std::{fs, path::PathBuf};
use tower_webhook::BoxError;

const SEED: u64 = 20_261_121;

fn main() -> Result<(), BoxError> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);

    println!("Contention: mean of 30 runs, until all clients have written\n");
    println!(
        "{:>16}  {:>7}  {:>10}  {:>7}",
        "", "clients", "time / ms", "writes"
    );
    let mut lines = Vec::new();
    for kind in contention::kinds()? {
        let mut points = Vec::new();
        for clients in [1, 10, 25, 50, 75, 100] {
            let means = contention::simulate(kind.backoff.as_ref(), clients, 30, SEED);
            let name = kind.name;
            println!(
                "{name:>16}  {clients:>7}  {:>10.0}  {:>7.0}",
                means.time, means.calls
            );
            points.push((f64::from(clients), means.calls));
        }
        println!();
        let name = kind.name.to_owned();
        lines.push(Line { name, points });
    }
    let jitter = plot::draw(
        "Writes until all clients have succeeded",
        "clients",
        "writes",
        &lines,
    )?;

    let (down, seconds) = (outage::DOWN, outage::SECONDS);
    println!(
        "Outage: down from {} s to {} s of {seconds}, {} first attempts a second, 5 attempts\n",
        down.start,
        down.end,
        outage::RATE
    );
    println!("{:>20}  {:>14}  {:>13}", "", "calls in it", "amplification");
    let mut lines = Vec::new();
    for (name, guard) in [
        ("nothing", Guard::Nothing),
        ("budget", Guard::Budget),
        ("budget and breaker", Guard::BudgetAndBreaker),
    ] {
        let calls = outage::simulate(guard, SEED)?;
        let during: u32 = (0..)
            .zip(&calls)
            .filter(|(second, _)| down.contains(second))
            .map(|(_, calls)| calls)
            .sum();
        let offered = outage::RATE * u32::try_from(down.end - down.start)?;
        let amplification = f64::from(during) / f64::from(offered);
        println!("{name:>20}  {during:>14}  {amplification:>13.2}");
        let points = (0_u32..)
            .zip(&calls)
            .map(|(second, &calls)| (f64::from(second), f64::from(calls)))
            .collect();
        let name = name.to_owned();
        lines.push(Line { name, points });
    }
    let outage = plot::draw(
        "What the peer gets of a total outage from 10 s to 40 s",
        "seconds",
        "calls a second",
        &lines,
    )?;

    if let Some(folder) = folder {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("jitter.svg"), jitter)?;
        fs::write(folder.join("outage.svg"), outage)?;
        println!("\nDrawn: {}", folder.display());
    }
    Ok(())
}
