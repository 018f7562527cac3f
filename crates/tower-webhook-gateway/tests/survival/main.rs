//! The gateway through what ends programs or keeps them from writing: kills, stops, full disks,
//! locked files, and half an hour of load. What it accepted is delivered, or lies where an operator
//! sees it.
//!
//! Three processes: the gateway; the sender ([`load`]), another run of this binary, which writes
//! down what it was answered; and this one, which is the downstream, does the harm, and judges
//! ([`judge`]). Each test prints what it counted. `TOWER_WEBHOOK_SEED` repeats the moments of one
//! run as far as a scheduler can be repeated, `TOWER_WEBHOOK_LONG` asks for more rounds.
#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod downstream;
mod judge;
mod kill;
mod load;
mod place;
mod power;
mod redrive;
mod soak;
mod stop;
mod trouble;

#[path = "../../../../tests/support/foreign.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod foreign;
#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../support/holder.rs"]
mod holder;
#[path = "../../../../tests/support/moment.rs"]
mod moment;
#[path = "../../../../tests/support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use std::time::{Duration, Instant};

const SECRET: &str = "a test secret of thirty-two bytes";

/// Nanoseconds by a clock that all processes of the machine share and nobody sets.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("it began at zero");
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).expect("less than a second")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("not that long")
}

/// Says something whether the test passes or not: figures that are worth reading.
fn tell(text: &str) {
    use std::io::Write as _;
    // Not by the macros, whose output is kept from whoever runs the tests.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// More rounds, where there is time.
fn rounds(short: usize, long: usize) -> usize {
    match std::env::var_os("TOWER_WEBHOOK_LONG") {
        Some(_) => long,
        None => short,
    }
}

/// Random numbers, and the seed that gives them again.
fn random(what: &str) -> fastrand::Rng {
    let seed = std::env::var("TOWER_WEBHOOK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    tell(&format!("{what}: TOWER_WEBHOOK_SEED={seed}"));
    fastrand::Rng::with_seed(seed)
}

/// Waits until there is something.
fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
