//! The contention model of Marc Brooker's "Exponential Backoff And Jitter" (AWS Architecture Blog,
//! 2015): clients read a version and write with it; a write with an old version fails, and its client
//! backs off and reads again.

use std::{cmp::Reverse, collections::BinaryHeap, f64::consts::TAU, time::Duration};
use tower_webhook::{
    InvalidConfig,
    retry::{Backoff, Jitter},
};

/// A way to back off, and its name.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// `None` tries again at once.
    pub(crate) backoff: Option<Backoff>,
}

/// The means of several runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    /// The time until the last client has succeeded, in milliseconds.
    pub(crate) time: f64,
    /// The number of attempted writes.
    pub(crate) calls: f64,
}

/// Every kind, with the article's base of 5 ms and cap of 2 s. In the model, clients first wait twice
/// the base, which is the base here.
pub(crate) fn kinds() -> Result<Vec<Kind>, InvalidConfig> {
    let (base, cap) = (Duration::from_millis(10), Duration::from_secs(2));
    let kind = |name, jitter| {
        let backoff = Backoff::exponential(base, cap).jitter(jitter).build()?;
        Ok(Kind {
            name,
            backoff: Some(backoff),
        })
    };
    let at_once = Kind {
        name: "no backoff",
        backoff: None,
    };
    let decorrelated = Kind {
        name: "decorrelated",
        backoff: Some(
            Backoff::exponential(base / 2, cap)
                .jitter(Jitter::Decorrelated)
                .build()?,
        ),
    };
    Ok(vec![
        at_once,
        kind("no jitter", Jitter::None)?,
        kind("plus 10 %", Jitter::Plus10Percent)?,
        // As in the documents: up to half of the base.
        kind("plus base / 2", Jitter::Additive(base / 2))?,
        kind("equal", Jitter::Equal)?,
        decorrelated,
        kind("full", Jitter::Full)?,
    ])
}

/// The means of `runs` runs with this many clients.
pub(crate) fn simulate(backoff: Option<&Backoff>, clients: u32, runs: u32, seed: u64) -> Means {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut time, mut calls) = (0.0, 0.0);
    for _ in 0..runs {
        let (took, writes) = run(backoff, clients, &mut random);
        time += took.as_secs_f64() * 1e3;
        calls += f64::from(writes);
    }
    let runs = f64::from(runs);
    Means {
        time: time / runs,
        calls: calls / runs,
    }
}

#[derive(Clone, Copy, Default)]
struct Client {
    version: u32,
    retries: u32,
    delay: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Arrives {
    Read,
    Write,
}

fn run(backoff: Option<&Backoff>, clients: u32, random: &mut fastrand::Rng) -> (Duration, u32) {
    let mut all = vec![Client::default(); clients as usize];
    let mut events: BinaryHeap<_> = (0..all.len())
        .map(|client| Reverse((network(random), client, Arrives::Read)))
        .collect();
    let (mut version, mut writes, mut end) = (0, 0, Duration::ZERO);
    while let Some(Reverse((now, at, what))) = events.pop() {
        let client = &mut all[at];
        // The time of the answer and of the next request.
        let back_and_forth = network(random) + network(random);
        match what {
            Arrives::Read => {
                client.version = version;
                events.push(Reverse((now + back_and_forth, at, Arrives::Write)));
            }
            Arrives::Write => {
                writes += 1;
                if client.version == version {
                    version += 1;
                    end = now + network(random);
                    continue;
                }
                client.retries += 1;
                client.delay = backoff.map_or(Duration::ZERO, |backoff| {
                    backoff.delay(client.retries, client.delay, random.u64(..))
                });
                let next = now + back_and_forth + client.delay;
                events.push(Reverse((next, at, Arrives::Read)));
            }
        }
    }
    (end, writes)
}

/// The travel time of a message: |N(10, 2)| ms.
fn network(random: &mut fastrand::Rng) -> Duration {
    // Box-Muller; one minus the random number, because zero has no logarithm.
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    let normal = radius * (TAU * random.f64()).cos();
    Duration::from_secs_f64((10.0 + 2.0 * normal).abs() / 1e3)
}
