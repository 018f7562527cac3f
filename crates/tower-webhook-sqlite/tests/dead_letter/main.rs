//! Dead letters in an SQLite file: the store contract, several handles and processes on one file,
//! clocks that go back, records that cannot be read, and what is left after a kill.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Children of the tests speak through their stdout.
#![allow(clippy::print_stdout)]

#[path = "../../../../tests/support/child.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod child;
#[path = "../support/home.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod home;

mod bounds;
mod processes;
mod support;
mod time;
mod unreadable;

use std::{sync::Mutex, time::Duration};
use support::{Home, ManualClock};
use tower_webhook::dead_letter::contract;
use tower_webhook_sqlite::{Database, SqliteDeadLetters};

/// Every store has a folder of its own, and they share a clock.
struct Subject {
    clock: ManualClock,
    homes: Mutex<Vec<Home>>,
}

impl contract::Subject for Subject {
    type Store = SqliteDeadLetters;

    async fn store(&self) -> SqliteDeadLetters {
        let home = Home::new();
        let database = Database::builder().clock(self.clock.wall());
        let store = SqliteDeadLetters::new(&database.open(home.file()).unwrap()).unwrap();
        self.homes.lock().unwrap().push(home);
        store
    }

    async fn advance(&self, by: Duration) {
        self.clock.forward(by);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_of_entry_stores() {
    let subject = Subject {
        clock: ManualClock::new(),
        homes: Mutex::default(),
    };
    contract::check(&subject).await;
}
