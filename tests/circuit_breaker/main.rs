//! What `CircuitBreakerLayer` and `Breakers` promise: when they trip, what passes half-open, what is
//! counted when calls come late or not at all, and how many keys they keep.

#![cfg(feature = "circuit-breaker")]
#![allow(
    clippy::expect_used,
    clippy::manual_assert,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used
)]

mod config;
mod handle;
mod keys;
mod layer;
mod probes;
mod trips;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::advance;
use tower_webhook::{
    circuit_breaker::{
        BreakerConfig, BreakerConfigBuilder, BreakerMode, BreakerPermit, BreakerSnapshot,
        BreakerState, Breakers,
    },
    observe::{Event, Observer, observer_fn},
    outcome::Outcome,
};

const KEY: &str = "peer.test";

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A failure opens it for exactly ten seconds; a probe has five.
const fn one_failure() -> BreakerConfigBuilder {
    BreakerConfig::builder()
        .consecutive_failures(1)
        .without_failure_rate()
        .open_for(secs(10))
        .open_jitter(0.0)
        .probe_lease(secs(5))
}

fn breakers(config: BreakerConfigBuilder) -> Breakers {
    Breakers::new(config.build().expect("it makes sense"))
}

fn admit(breakers: &Breakers) -> BreakerPermit {
    breakers.admit(KEY).expect("it passes")
}

fn see(breakers: &Breakers) -> BreakerSnapshot {
    breakers.of(KEY).expect("there is room").snapshot()
}

fn state(breakers: &Breakers) -> BreakerState {
    see(breakers).state
}

/// A change of state, as it was told.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    peer: String,
    from: BreakerState,
    to: BreakerState,
    reason: &'static str,
    open_for: Option<Duration>,
    generation: u64,
}

/// Keeps the changes of state that it is told.
#[derive(Clone, Default)]
struct Changes(Arc<Mutex<Vec<Change>>>);

impl Changes {
    fn all(&self) -> Vec<Change> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Changes {
    fn on(&self, event: &Event<'_>) {
        if let Event::BreakerChanged {
            peer,
            from,
            to,
            reason,
            open_for,
            generation,
        } = *event
        {
            self.0.lock().unwrap().push(Change {
                peer: peer.to_owned(),
                from,
                to,
                reason,
                open_for,
                generation,
            });
        }
    }
}

/// Makes calls, one entry each; stops at the first that is refused. Says how many passed.
///
/// `S`uccess, `P`ermanent, `F`ailure, `U`nreached, `T`hrottled, `N`eutral, `C`ancelled, slo`W`
/// success of two seconds, slow failure `X`, `_` a second without a call. In lower case, as no evidence.
async fn run(breakers: &Breakers, script: &str) -> usize {
    let mut passed = 0;
    for entry in script.chars() {
        if entry == '_' {
            advance(secs(1)).await;
            continue;
        }
        let Ok(permit) = breakers.admit(KEY) else {
            break;
        };
        passed += 1;
        if entry == 'C' {
            continue; // which drops the permit
        }
        if matches!(entry, 'W' | 'X' | 'w' | 'x') {
            advance(secs(2)).await;
        }
        let silent = entry.is_lowercase();
        let outcome = match entry.to_ascii_uppercase() {
            'S' | 'W' => Outcome::success(),
            'P' => Outcome::permanent(),
            'F' | 'X' => Outcome::transient(),
            'U' => Outcome::unreached(),
            'T' => Outcome::throttled(None),
            'N' => Outcome::unsendable(),
            other => panic!("what is {other}?"),
        };
        permit.settle(if silent {
            outcome.without_evidence()
        } else {
            outcome
        });
    }
    passed
}
