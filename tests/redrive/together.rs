//! Many who want the same.

use crate::support::{Answer, Peer, builder, each_once, entry, filled, left};
use std::time::Duration;

const ENTRIES: u64 = 120;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_runs_over_memory_send_each_entry_once() {
    let store = filled((0..ENTRIES).map(entry)).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(Duration::from_millis(2), 200));
    let redrive = || builder(&store).build(client.clone()).unwrap();
    let redrives = (0..20).map(|_| redrive()).collect();
    each_once(redrives, &peer, ENTRIES).await;
    assert_eq!(left(&*store).await, 0);
}
