//! The memory engine: the contract, its bounds, and what waiting costs.

use std::{sync::Arc, time::Duration};
use tower_webhook::queue::{Engine, MemoryQueue, contract};

struct Subject;

impl contract::Subject for Subject {
    async fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(MemoryQueue::default())
    }

    async fn small(&self, jobs: usize) -> Arc<dyn Engine> {
        Arc::new(MemoryQueue::builder().max_jobs(jobs).build().unwrap())
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }
}

/// The contract on the clock that tests cannot move.
struct RealTime;

impl contract::Subject for RealTime {
    async fn engine(&self) -> Arc<dyn Engine> {
        Subject.engine().await
    }

    async fn small(&self, jobs: usize) -> Arc<dyn Engine> {
        Subject.small(jobs).await
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_contract_holds() {
    contract::check(&Subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_do_at_once_holds_between_threads() {
    contract::one_of_many_with_a_key_is_put_in(&RealTime).await;
    contract::each_job_is_claimed_once(&RealTime).await;
    contract::a_backlog_is_claimed_at_once(&RealTime).await;
    contract::a_job_that_kills_its_workers_is_buried_once(&RealTime).await;
    contract::waiting_has_an_end(&RealTime).await;
    contract::what_comes_wakes_who_waits(&RealTime).await;
    contract::what_time_brings_wakes_who_waits(&RealTime).await;
    contract::news_between_a_claim_and_a_wait_are_not_missed(&RealTime).await;
    for _ in 0..10 {
        contract::a_burst_is_drained(&RealTime).await;
    }
}
