//! Many who want the same.

use crate::support::{Answer, Peer, builder, entry, filled, left};
use std::time::Duration;
use tokio::task::JoinSet;
use tower_webhook::dead_letter::{
    Filter,
    redrive::{Redrive, Report},
};

const ENTRIES: u64 = 120;

async fn all_once(redrives: Vec<Redrive<crate::support::Client>>, peer: &Peer) {
    let mut runs = JoinSet::new();
    for (number, redrive) in redrives.into_iter().enumerate() {
        runs.spawn(redrive.many(Filter::all(), &format!("operator {number}")));
    }
    let reports: Vec<Report> = runs
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let accepted: u64 = reports.iter().map(|report| report.accepted).sum();
    assert_eq!(accepted, ENTRIES);
    let seen = peer.seen();
    assert_eq!(seen.len() as u64, ENTRIES);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    for report in reports {
        assert_eq!(report.done(), report.matched);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_runs_over_memory_send_each_entry_once() {
    let store = filled((0..ENTRIES).map(entry)).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(Duration::from_millis(2), 200));
    let redrive = || builder(&store).build(client.clone()).unwrap();
    all_once((0..20).map(|_| redrive()).collect(), &peer).await;
    assert_eq!(left(&*store).await, 0);
}
