//! Every interleaving of a few threads around one breaker, over the very files of the crate.
//!
//! Run: `cargo test --manifest-path tests/loom/Cargo.toml`

#![cfg(test)]
#![allow(dead_code, reason = "each model uses some of it")]

#[path = "../../src/observe/breaker_state.rs"]
mod breaker_state;
#[path = "../../src/circuit_breaker/gate.rs"]
mod gate;
#[path = "../../src/circuit_breaker/model.rs"]
mod model;
#[path = "../../src/circuit_breaker/state.rs"]
mod state;
#[path = "../../src/circuit_breaker/window.rs"]
mod window;

mod observe {
    pub use crate::breaker_state::BreakerState;
}

mod sync {
    pub(super) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
    pub(super) use std::sync::PoisonError;
}

use gate::Gate;
use loom::{sync::Arc, thread};
use model::{BreakerMode, BreakerState, Rules, Tick, Totals, WindowRule, World};
use state::{Admission, Evidence, Machine};

const FAILED: Evidence = Evidence::Failed { hint: None };

/// A time that stands still, which is all that a handful of calls need.
#[derive(Clone, Copy)]
struct At(u64);

impl World for At {
    fn now(&self) -> Tick {
        Tick(self.0)
    }

    /// Not modelled: that a lock orders it is checked by the models that compare generations.
    fn generation(&self) -> u64 {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    fn random(&self) -> f64 {
        0.0
    }
}

/// Two failures in a row open it for 10; one probe at once, with a lease of 5, closes it.
fn rules() -> Rules {
    Rules {
        window: WindowRule::Calls(4),
        min_calls: 1,
        failure_rate: None,
        consecutive_failures: Some(2),
        slow_call: None,
        slow_call_rate: 1.0,
        open_for: 10,
        max_open_for: 10,
        open_growth: 1.0,
        open_jitter: 0.0,
        probes: 1,
        probe_successes: 1,
        probe_lease: 5,
        forget_after: 100,
    }
}

fn closed() -> Arc<Gate> {
    let machine = Machine::new(&rules(), BreakerMode::Auto, &At(0));
    Arc::new(Gate::new(machine))
}

/// Open since 0, so it can be probed at 10.
fn open() -> Arc<Gate> {
    let gate = closed();
    for _ in 0..2 {
        let admission = admit(&gate, 0).expect("it is closed");
        gate.settle(&rules(), admission, FAILED, &At(0));
    }
    gate
}

fn admit(gate: &Gate, at: u64) -> Option<Admission> {
    gate.admit(&rules(), &At(at)).0.ok()
}

fn call(gate: &Gate, at: u64, evidence: Evidence) -> bool {
    let Some(admission) = admit(gate, at) else {
        return false;
    };
    gate.settle(&rules(), admission, evidence, &At(at));
    true
}

fn totals(gate: &Gate) -> Totals {
    gate.look(|machine| *machine.totals())
}

fn state(gate: &Gate) -> BreakerState {
    gate.look(Machine::state)
}

/// Runs `work` on another thread of the model.
fn spawn<T: 'static>(
    gate: &Arc<Gate>,
    work: impl FnOnce(&Gate) -> T + 'static,
) -> thread::JoinHandle<T> {
    let gate = Arc::clone(gate);
    thread::spawn(move || work(&gate))
}

#[test]
fn failures_at_once_trip_once_and_none_is_lost() {
    loom::model(|| {
        let gate = closed();
        let threads = [(); 2].map(|()| spawn(&gate, |gate| call(gate, 0, FAILED)));
        let here = call(&gate, 0, FAILED);
        let passed = threads.into_iter().filter_map(|thread| thread.join().ok());
        let passed = passed.chain([here]).filter(|passed| *passed).count() as u64;
        let totals = totals(&gate);
        assert_eq!(state(&gate), BreakerState::Open);
        assert_eq!((totals.trips, totals.failures), (1, 2));
        assert_eq!(totals.failures + totals.stale, passed);
        assert_eq!(totals.refused, 3 - passed);
    });
}

#[test]
fn one_probe_passes_however_many_ask() {
    loom::model(|| {
        let gate = open();
        let threads = [(); 2].map(|()| spawn(&gate, |gate| admit(gate, 10)));
        let here = admit(&gate, 10);
        let there = threads.into_iter().filter_map(|thread| thread.join().ok());
        let admitted: Vec<_> = there.chain([here]).flatten().collect();
        assert_eq!(admitted.len(), 1);
        assert!(admitted.iter().all(|admission| admission.ticket != 0));
        assert_eq!(state(&gate), BreakerState::HalfOpen);
    });
}

/// While a probe ends, one more call asks and an operator decides: nothing gets stuck between.
#[test]
fn an_operator_and_a_probe_agree() {
    loom::model(|| {
        let gate = open();
        let probe = admit(&gate, 10).expect("its time is over");
        let ends = spawn(&gate, move |gate| {
            gate.settle(&rules(), probe, Evidence::Healthy, &At(11));
        });
        let operator = spawn(&gate, |gate| {
            gate.set_mode(BreakerMode::ForcedOpen, &At(11));
        });
        let here = admit(&gate, 11);
        let _ = (ends.join(), operator.join());
        assert_eq!(state(&gate), BreakerState::ForcedOpen);
        assert!(admit(&gate, 1_000).is_none());
        gate.set_mode(BreakerMode::Auto, &At(1_000));
        // What came before the operator does not count, whatever it says.
        if let Some(here) = here {
            gate.settle(&rules(), here, FAILED, &At(1_000));
        }
        assert_eq!(totals(&gate).failures, 2);
        assert!(call(&gate, 1_000, Evidence::Healthy));
        assert_eq!(state(&gate), BreakerState::Closed);
    });
}

/// A call of the closed state and a cancelled probe: the probe alone decides, and it says nothing.
#[test]
fn a_late_result_and_a_cancelled_probe_change_nothing() {
    loom::model(|| {
        let gate = closed();
        let late = admit(&gate, 0).expect("it is closed");
        for _ in 0..2 {
            call(&gate, 0, FAILED);
        }
        let probe = admit(&gate, 10).expect("its time is over");
        let first = spawn(&gate, move |gate| {
            gate.settle(&rules(), late, Evidence::Healthy, &At(10));
        });
        let second = spawn(&gate, move |gate| {
            gate.settle(&rules(), probe, Evidence::Cancelled, &At(10));
        });
        let here = admit(&gate, 10);
        let _ = (first.join(), second.join());
        assert_eq!(state(&gate), BreakerState::HalfOpen);
        let totals = totals(&gate);
        assert_eq!(
            (totals.stale, totals.cancelled, totals.successes),
            (1, 1, 0)
        );
        assert_eq!(
            here.is_none(),
            admit(&gate, 10).is_some(),
            "one place, for one"
        );
    });
}

/// Whoever reads the word before the lock gets an admission of the state that the word was of.
#[test]
fn a_word_never_outlives_its_generation() {
    loom::model(|| {
        let gate = closed();
        let flips = spawn(&gate, |gate| {
            gate.set_mode(BreakerMode::ForcedOpen, &At(0));
            gate.set_mode(BreakerMode::Auto, &At(0));
        });
        let admission = admit(&gate, 0);
        let _ = flips.join();
        if let Some(admission) = admission {
            let now = gate.look(Machine::generation);
            gate.settle(&rules(), admission, Evidence::Healthy, &At(0));
            let totals = totals(&gate);
            let counted = admission.generation == now;
            assert_eq!(totals.successes, u64::from(counted));
            assert_eq!(totals.stale, u64::from(!counted));
        }
        assert!(call(&gate, 0, Evidence::Healthy));
    });
}

/// Successes are counted without the lock, while another thread has it: none is lost, and none counts twice.
#[test]
fn a_success_counts_once_whoever_has_the_lock() {
    loom::model(|| {
        let gate = closed();
        let fails = spawn(&gate, |gate| call(gate, 0, FAILED));
        assert!(call(&gate, 0, Evidence::Healthy));
        let _ = fails.join();
        assert!(call(&gate, 0, Evidence::Healthy));
        let totals = totals(&gate);
        assert_eq!((totals.successes, totals.failures), (2, 1));
        assert_eq!(gate.look(|machine| machine.view(Tick(0)).counts.calls), 3);
    });
}

#[test]
fn successes_at_once_are_all_counted_and_a_reader_takes_none_away() {
    loom::model(|| {
        let gate = closed();
        let succeeds = spawn(&gate, |gate| call(gate, 0, Evidence::Healthy));
        assert!(call(&gate, 0, Evidence::Healthy));
        let seen = totals(&gate).successes;
        let _ = succeeds.join();
        assert!(seen == 1 || seen == 2);
        assert_eq!(totals(&gate).successes, 2);
    });
}
