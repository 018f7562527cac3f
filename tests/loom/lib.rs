//! Every interleaving of a few threads around one breaker, one retry budget and one table of claims, over the very
//! files of the crate.
//!
//! Run: `cargo test --manifest-path tests/loom/Cargo.toml`

#![cfg(test)]
#![allow(dead_code, reason = "each model uses some of it")]

#[path = "../../src/retry/balance.rs"]
mod balance;
#[path = "../../src/observe/breaker_state.rs"]
mod breaker_state;
#[path = "../../src/idempotency/claims.rs"]
mod claims;
#[path = "../../src/circuit_breaker/gate.rs"]
mod gate;
#[path = "../../src/lease.rs"]
mod lease;
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
        atomic::{AtomicU64, AtomicUsize, Ordering},
    };
    pub(super) use std::sync::PoisonError;
}

use balance::{Balance, RETRY};
use claims::{Begun, Claims};
use gate::Gate;
use lease::{FencingToken, Settled};
use loom::{sync::Arc, thread};
use model::{BreakerMode, BreakerState, Rules, Tick, Totals, WindowRule, World};
use state::{Admission, Evidence, Machine};
use std::{collections::hash_map::DefaultHasher, hash::BuildHasherDefault};

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

/// The first attempts of two threads, the first of a new slot, buy as many retries as both together, and each once.
#[test]
fn a_budget_counts_each_deposit_and_gives_each_retry_once() {
    loom::model(|| {
        let budget = Arc::new(Balance::new(RETRY, 0));
        // What this slot counted in the window before is over.
        budget.deposit(0);
        let other = Arc::clone(&budget);
        let there = thread::spawn(move || {
            other.deposit(10);
            other.withdraw(10).is_some()
        });
        budget.deposit(10);
        let here = budget.withdraw(10).is_some();
        let there = there.join().expect("it ends");
        assert!(here || there, "whoever comes last sees its own deposit");
        let left = budget.left(10) / RETRY;
        assert_eq!(u64::from(here) + u64::from(there) + left, 2);
    });
}

#[test]
fn a_retry_that_is_given_back_is_there_once() {
    loom::model(|| {
        let budget = Arc::new(Balance::new(RETRY, 0));
        budget.deposit(3);
        let taken = budget.withdraw(3).expect("one is there");
        let other = Arc::clone(&budget);
        let there = thread::spawn(move || {
            other.release(taken);
            other.withdraw(3).is_some()
        });
        let here = budget.withdraw(3).is_some();
        let there = there.join().expect("it ends");
        assert!(!(here && there), "one retry for two");
        assert_eq!(budget.left(3) / RETRY, u64::from(!here && !there));
    });
}

type Table = Claims<u8, (), BuildHasherDefault<DefaultHasher>>;

/// Claims a key, in the shard of its number, until a time.
fn claim(table: &Table, key: u8, now: u64, until: u64) -> Begun<(), ()> {
    table.begin(usize::from(key), key, (), [now, until], |_| None)
}

fn token(begun: &Begun<(), ()>) -> Option<FencingToken> {
    match begun {
        Begun::Acquired(token) => Some(*token),
        _ => None,
    }
}

/// Whoever asks while the answer is stored waits for it or gets it: the work does not run again.
#[test]
fn a_key_is_claimed_once_while_its_answer_is_stored() {
    loom::model(|| {
        let table = Arc::new(Table::new(1, 4, 1));
        let answered = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let ask = |table: &Table, answered: &loom::sync::atomic::AtomicBool| {
            let known = |_: &u8| {
                let is_known = answered.load(loom::sync::atomic::Ordering::Relaxed);
                is_known.then_some(())
            };
            table.begin(0, 7, (), [0, 10], known)
        };
        let other = (Arc::clone(&table), Arc::clone(&answered));
        let there = thread::spawn(move || token(&ask(&other.0, &other.1)));
        let here = token(&ask(&table, &answered));
        if let Some(token) = here {
            let store = |_, ()| answered.store(true, loom::sync::atomic::Ordering::Relaxed);
            assert_eq!(table.settle(0, 7, token, store), Settled::Done);
            assert_eq!(table.settle(0, 7, token, |_, ()| ()), Settled::Lost);
            assert_eq!(ask(&table, &answered), Begun::Known(()));
        }
        let there = there.join().expect("it ends");
        assert_eq!(u8::from(here.is_some()) + u8::from(there.is_some()), 1);
        assert_eq!(table.in_flight(), usize::from(there.is_some()));
    });
}

/// Nobody's claim is swept away, and none is forgotten that ends later: a full table has room again.
#[test]
fn a_sweep_takes_what_is_over_and_nothing_else() {
    let mut model = loom::model::Builder::new();
    // All orders take many minutes; those with three changes of threads against their will, seconds.
    model.preemption_bound = Some(3);
    model.check(|| {
        let table = Arc::new(Table::new(2, 2, 1));
        assert!(token(&claim(&table, 0, 0, 5)).is_some());
        assert!(token(&claim(&table, 1, 0, 20)).is_some());
        // The first one is over, so both find room for one, and one of them sweeps.
        let other = Arc::clone(&table);
        let there = thread::spawn(move || token(&claim(&other, 2, 10, 15)).is_some());
        let here = token(&claim(&table, 3, 10, 15)).is_some();
        let there = there.join().expect("it ends");
        assert!(here || there);
        assert!(!(here && there), "there was room for one");
        assert_eq!(table.in_flight(), 2);
        assert_eq!(claim(&table, 1, 14, 30), Begun::Held { kept: (), left: 6 });
        assert_eq!(claim(&table, 4, 14, 30), Begun::Full);
        assert!(token(&claim(&table, 4, 15, 30)).is_some(), "stuck");
        assert_eq!(table.in_flight(), 2);
    });
}

/// Of two that take over a claim that is over, one has it; the old token changes nothing.
#[test]
fn a_claim_that_is_over_passes_to_one() {
    loom::model(|| {
        let table = Arc::new(Table::new(1, 1, 1));
        let old = token(&claim(&table, 0, 0, 5)).expect("it is free");
        let other = Arc::clone(&table);
        let there = thread::spawn(move || token(&claim(&other, 0, 10, 20)));
        let here = token(&claim(&table, 0, 10, 20));
        assert_eq!(table.renew(0, &0, old, 99), Settled::Lost);
        assert_eq!(table.settle(0, 0, old, |_, ()| ()), Settled::Lost);
        let there = there.join().expect("it ends");
        let new = here.or(there).expect("it is over");
        assert!(here.is_none() || there.is_none());
        assert!(new > old);
        assert_eq!(table.settle(0, 0, new, |_, ()| ()), Settled::Done);
        assert_eq!(table.in_flight(), 0);
    });
}
