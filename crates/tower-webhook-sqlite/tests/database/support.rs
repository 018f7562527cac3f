//! What the tests share.

pub(crate) use crate::{
    child::{Ends, child, childs_file, killed_after, say, told_by},
    home::{Home, ManualClock, hold_up, until},
};

use std::time::Duration;
use tower_webhook::idempotency::{Begin, IdempotencyKey, Store};
use tower_webhook::lease::FencingToken;
use tower_webhook_sqlite::SqliteStore;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(3600);

impl Home {
    pub(crate) fn store(&self) -> SqliteStore {
        SqliteStore::open(self.file()).unwrap()
    }
}

pub(crate) fn key(id: &str) -> IdempotencyKey {
    IdempotencyKey::new("test", id).unwrap()
}

pub(crate) async fn begin(store: &SqliteStore, id: &str) -> Begin {
    store.begin(&key(id), None, LEASE).await.unwrap()
}

pub(crate) async fn acquire(store: &SqliteStore, id: &str) -> FencingToken {
    match begin(store, id).await {
        Begin::Acquired(token) => token,
        other => panic!("{id} is not free: {other:?}"),
    }
}
