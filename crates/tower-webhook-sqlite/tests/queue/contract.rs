//! The contract of every engine, under a clock that is moved and under the real one.

use crate::support::{Home, ManualClock};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tower_webhook::{
    dead_letter::LetterStore,
    queue::{Engine, contract},
};
use tower_webhook_sqlite::{Database, SqliteDeadLetters, SqliteQueue};

#[derive(Default)]
struct Subject {
    /// `None` for the real clock.
    clock: Option<ManualClock>,
    homes: Mutex<Vec<(Home, Database)>>,
    settings: Mutex<contract::Settings>,
}

impl Subject {
    fn open(&self, settings: contract::Settings) -> Arc<dyn Engine> {
        let home = Home::new();
        let database = self.database(&home);
        *self.settings.lock().unwrap() = settings;
        let queue = Self::queue(&database, settings);
        self.homes.lock().unwrap().push((home, database));
        queue
    }

    fn database(&self, home: &Home) -> Database {
        let mut builder = Database::builder();
        if let Some(clock) = &self.clock {
            builder = builder.clock(clock.wall());
        }
        builder.open(home.file()).unwrap()
    }

    fn queue(database: &Database, settings: contract::Settings) -> Arc<dyn Engine> {
        let builder = SqliteQueue::builder()
            .max_jobs(settings.max_jobs.try_into().unwrap())
            .attempts(settings.attempts)
            .per_target(settings.per_target)
            .retention(settings.retention);
        Arc::new(builder.build(database).unwrap())
    }

    /// Whatever was done, the counts and the lanes say what is there.
    fn check(&self) {
        for (home, _) in self.homes.lock().unwrap().iter() {
            home.check();
        }
    }
}

impl contract::Subject for Subject {
    async fn engine(&self, settings: contract::Settings) -> Arc<dyn Engine> {
        self.open(settings)
    }

    async fn advance(&self, by: Duration) {
        let Some(clock) = &self.clock else {
            return tokio::time::sleep(by).await;
        };
        clock.forward(by);
        // What was begun before, is done by then.
        let newest = self.homes.lock().unwrap().last().map(|(_, it)| it.clone());
        newest.unwrap().write(|_| Ok(())).await.unwrap();
    }

    async fn letters(&self) -> Option<Arc<dyn LetterStore>> {
        let homes = self.homes.lock().unwrap();
        let letters = SqliteDeadLetters::new(&homes.last()?.1).unwrap();
        Some(Arc::new(letters))
    }

    /// A handle that shares nothing but the file. See `processes` for what processes do.
    async fn again(&self) -> Option<Arc<dyn Engine>> {
        let settings = *self.settings.lock().unwrap();
        let homes = self.homes.lock().unwrap();
        let database = self.database(&homes.last()?.0);
        Some(Self::queue(&database, settings))
    }

    async fn leap(&self, by: Duration) -> bool {
        let Some(clock) = &self.clock else {
            return false;
        };
        clock.leap(by);
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_under_a_clock_that_is_moved() {
    let subject = Subject {
        clock: Some(ManualClock::new()),
        ..Subject::default()
    };
    let grade = contract::check(&subject).await;
    assert_eq!(grade.left_out, [""; 0], "it promises everything");
    subject.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_under_the_real_clock() {
    let subject = Subject::default();
    contract::a_claim_that_ends_is_given_to_another(&subject).await;
    contract::a_late_holder_is_heard_until_another_claims(&subject).await;
    contract::a_renewed_claim_holds(&subject).await;
    contract::a_retry_waits_its_time(&subject).await;
    contract::what_is_over_leaves_after_its_time(&subject).await;
    contract::what_comes_wakes_who_waits(&subject).await;
    contract::what_time_brings_wakes_who_waits(&subject).await;
    contract::news_between_a_claim_and_a_wait_are_not_missed(&subject).await;
    contract::a_burst_is_drained(&subject).await;
    contract::a_dropped_claim_loses_nothing(&subject).await;
    subject.check();
}
