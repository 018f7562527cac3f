//! The contract of every store, under a clock that is moved and under the real one.

use crate::support::{Home, ManualClock};
use std::{sync::Mutex, time::Duration};
use tower_webhook::idempotency::contract;
use tower_webhook_sqlite::{Database, SqliteStore};

struct Moved {
    clock: ManualClock,
    homes: Mutex<Vec<Home>>,
}

impl contract::Subject for Moved {
    type Store = SqliteStore;

    async fn store(&self) -> SqliteStore {
        let home = Home::new();
        let builder = Database::builder().clock(self.clock.wall());
        let store = SqliteStore::new(&builder.open(home.file()).unwrap()).unwrap();
        self.homes.lock().unwrap().push(home);
        store
    }

    async fn advance(&self, by: Duration) {
        self.clock.forward(by);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_under_a_clock_that_is_moved() {
    contract::check(&Moved {
        clock: ManualClock::new(),
        homes: Mutex::default(),
    })
    .await;
}

/// All rules on one file, in real time.
struct Waited(SqliteStore);

impl contract::Subject for Waited {
    type Store = SqliteStore;

    async fn store(&self) -> SqliteStore {
        self.0.clone()
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_in_real_time() {
    let home = Home::new();
    contract::check(&Waited(home.store())).await;
}
