//! An idempotency store of your own, here a table behind a network: shows the four operations, and the
//! contract that a store must fulfil.
//!
//! ```sh
//! cargo run --example custom_store
//! ```

use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tower_webhook::{
    BoxError, BoxFuture, StoreError,
    idempotency::{Begin, Fingerprint, IdempotencyKey, Store, contract},
    lease::{FencingToken, Settled},
};

/// A map behind a lock and a "network" with a delay of one tick. Clones share it.
#[derive(Clone, Default)]
struct RemoteStore {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    last_token: u64,
    rows: HashMap<IdempotencyKey, Row>,
}

struct Row {
    fingerprint: Option<Fingerprint>,
    state: State,
    until: Instant,
}

enum State {
    Claimed(FencingToken),
    Completed(Bytes),
}

impl RemoteStore {
    /// Works like a driver: sends a command, waits, and returns the answer of the server. The server runs
    /// each command atomically, so that only one caller can claim a key.
    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Table) -> T + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let table = Arc::clone(&self.table);
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(command(
                &mut table.lock().unwrap_or_else(PoisonError::into_inner),
            ))
        })
    }

    /// Applies `change` to the claim of `token`, if it is the current one.
    fn settle(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        change: impl FnOnce(&mut Row) -> bool + Send + 'static,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let key = key.clone();
        self.ask(move |table| {
            let keep = match table.rows.get_mut(&key) {
                Some(row) if matches!(row.state, State::Claimed(held) if held == token) => {
                    change(row)
                }
                _ => return Settled::Lost,
            };
            if !keep {
                table.rows.remove(&key);
            }
            Settled::Done
        })
    }
}

impl Store for RemoteStore {
    type Begin = BoxFuture<Result<Begin, StoreError>>;
    type Settle = BoxFuture<Result<Settled, StoreError>>;

    fn begin(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Self::Begin {
        let (key, fingerprint) = (key.clone(), fingerprint.copied());
        self.ask(move |table| {
            let now = Instant::now();
            if let Some(row) = table.rows.get(&key).filter(|row| row.until > now) {
                if let (Some(theirs), Some(ours)) = (row.fingerprint, fingerprint)
                    && theirs != ours
                {
                    return Begin::Mismatch;
                }
                return match &row.state {
                    State::Claimed(_) => Begin::InProgress {
                        lease_left: row.until - now,
                    },
                    State::Completed(answer) => Begin::Completed(answer.clone()),
                };
            }
            table.last_token += 1;
            let token = FencingToken::new(table.last_token);
            let state = State::Claimed(token);
            let until = now + lease;
            table.rows.insert(
                key,
                Row {
                    fingerprint,
                    state,
                    until,
                },
            );
            Begin::Acquired(token)
        })
    }

    fn renew(&self, key: &IdempotencyKey, token: FencingToken, lease: Duration) -> Self::Settle {
        self.settle(key, token, move |row| {
            row.until = Instant::now() + lease;
            true
        })
    }

    fn complete(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        answer: Bytes,
        ttl: Duration,
    ) -> Self::Settle {
        self.settle(key, token, move |row| {
            row.state = State::Completed(answer);
            row.until = Instant::now() + ttl;
            true
        })
    }

    fn release(&self, key: &IdempotencyKey, token: FencingToken) -> Self::Settle {
        self.settle(key, token, |_| false)
    }
}

struct Subject;

impl contract::Subject for Subject {
    type Store = RemoteStore;

    async fn store(&self) -> RemoteStore {
        RemoteStore::default()
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    contract::check(&Subject).await;
    println!("the store keeps the contract");
    Ok(())
}
