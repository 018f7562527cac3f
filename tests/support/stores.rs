//! Stores that do as a test says.

#![allow(dead_code, reason = "each test file uses some of these")]

use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    idempotency::{Begin, Fingerprint, IdempotencyKey, MemoryStore, Store},
    lease::{FencingToken, Settled},
};

/// An operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Begin,
    Renew,
    Complete,
    Release,
}

/// What an operation of a [`Gated`] store does. By default it passes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate {
    Pass,
    /// Waits for [`Gated::open`], then does its work: a request on its way.
    HoldRequest,
    /// Does its work, then waits for [`Gated::open`]: an answer on its way.
    HoldAnswer,
    Fail(StoreErrorKind),
    /// Says that the claim is another's, and leaves it alone. Not for `begin`.
    Lose,
}

/// A memory store behind gates, with boxed futures, as one that goes to a server has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gated {
    pub(crate) inner: MemoryStore,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    gates: Mutex<HashMap<Op, Gate>>,
    permits: Mutex<HashMap<Op, Arc<Semaphore>>>,
    started: Mutex<Vec<(Op, tokio::time::Instant)>>,
}

impl Gated {
    pub(crate) fn set(&self, op: Op, gate: Gate) {
        self.state.gates.lock().unwrap().insert(op, gate);
    }

    /// Lets one held operation go.
    pub(crate) fn open(&self, op: Op) {
        self.permits(op).add_permits(1);
    }

    /// How many operations of this kind were polled.
    pub(crate) fn count(&self, op: Op) -> usize {
        self.times(op).len()
    }

    /// When the operations of this kind were first polled.
    pub(crate) fn times(&self, op: Op) -> Vec<tokio::time::Instant> {
        let started = self.state.started.lock().unwrap();
        let of_kind = started.iter().filter(|(kind, _)| *kind == op);
        of_kind.map(|(_, at)| *at).collect()
    }

    /// Waits until this many operations of a kind were polled.
    pub(crate) async fn reached(&self, op: Op, count: usize) {
        for _ in 0..10_000 {
            if self.count(op) >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{op:?} was not reached {count} times");
    }

    fn permits(&self, op: Op) -> Arc<Semaphore> {
        let mut permits = self.state.permits.lock().unwrap();
        let permits = permits.entry(op);
        Arc::clone(permits.or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

    fn run<T, F>(&self, op: Op, lost: Option<T>, work: F) -> BoxFuture<Result<T, StoreError>>
    where
        T: Send + 'static,
        F: FnOnce(&MemoryStore) -> Result<T, StoreError> + Send + 'static,
    {
        let this = self.clone();
        Box::pin(async move {
            let gate = {
                let now = tokio::time::Instant::now();
                this.state.started.lock().unwrap().push((op, now));
                let gates = this.state.gates.lock().unwrap();
                gates.get(&op).copied().unwrap_or(Gate::Pass)
            };
            let hold = async || this.permits(op).acquire().await.unwrap().forget();
            match gate {
                Gate::Pass => work(&this.inner),
                Gate::HoldRequest => {
                    hold().await;
                    work(&this.inner)
                }
                Gate::HoldAnswer => {
                    let result = work(&this.inner);
                    hold().await;
                    result
                }
                Gate::Fail(kind) => Err(StoreError::new(kind)),
                Gate::Lose => lost.ok_or(StoreError::new(StoreErrorKind::Unavailable)),
            }
        })
    }
}

/// The memory store is ready at once.
fn now<T>(ready: std::future::Ready<T>) -> T {
    ready.into_inner()
}

impl Store for Gated {
    type Begin = BoxFuture<Result<Begin, StoreError>>;
    type Settle = BoxFuture<Result<Settled, StoreError>>;

    fn begin(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Self::Begin {
        let (key, fingerprint) = (key.clone(), fingerprint.copied());
        self.run(Op::Begin, None, move |store| {
            now(store.begin(&key, fingerprint.as_ref(), lease))
        })
    }

    fn renew(&self, key: &IdempotencyKey, token: FencingToken, lease: Duration) -> Self::Settle {
        let key = key.clone();
        self.run(Op::Renew, Some(Settled::Lost), move |store| {
            now(store.renew(&key, token, lease))
        })
    }

    fn complete(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        answer: Bytes,
        ttl: Duration,
    ) -> Self::Settle {
        let key = key.clone();
        self.run(Op::Complete, Some(Settled::Lost), move |store| {
            now(store.complete(&key, token, answer, ttl))
        })
    }

    fn release(&self, key: &IdempotencyKey, token: FencingToken) -> Self::Settle {
        let key = key.clone();
        self.run(Op::Release, Some(Settled::Lost), move |store| {
            now(store.release(&key, token))
        })
    }
}
