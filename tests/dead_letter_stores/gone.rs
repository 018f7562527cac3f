//! Entries in a file that were removed, claimed for nobody, or written by a newer release.

use crate::{
    jsonl::small,
    support::{Home, LEASE, entry, id, ids, large, unreadable, write},
};
use std::{fs, time::Duration};
use tower_webhook::StoreErrorKind;
use tower_webhook::dead_letter::{Discarded, EntryClaim, LetterStore, json};

/// As a release of the next schema would write it.
fn newer(line: &str) -> String {
    line.replace("\"schemaVersion\":1", "\"schemaVersion\":2")
}

fn line(number: u64) -> String {
    format!("{}\n", json::to_json(&entry(number)))
}

const NEWER: StoreErrorKind = StoreErrorKind::NewerSchema { found: 2, known: 1 };

#[tokio::test]
async fn what_is_gone_stays_gone_over_restarts_and_snapshots() {
    let home = Home::new();
    let builder = small(80_000);
    let entries = builder.clone().open(home.file()).unwrap();
    for number in 1..=120 {
        write(&entries, &large(number, 1_000)).await.unwrap();
        let discarded = entries.discard(id(number)).await.unwrap();
        assert_eq!(discarded, Discarded::Done);
    }
    entries.close().await;
    let first = home.text().matches(&id(1).to_string()).count();
    assert_eq!(first, 1, "its removal, and no more");
    for _ in 0..2 {
        let entries = builder.clone().open(home.file()).unwrap();
        for number in [1, 60, 120] {
            write(&entries, &entry(number)).await.unwrap();
        }
        assert!(ids(&entries).await.is_empty(), "none came back");
        entries.close().await;
    }
}

#[tokio::test]
async fn so_many_removals_are_remembered_as_there_is_room_for() {
    let home = Home::new();
    let builder = small(8_000);
    let entries = builder.clone().open(home.file()).unwrap();
    for number in 1..=200 {
        write(&entries, &entry(number)).await.unwrap();
        entries.discard(id(number)).await.unwrap();
    }
    entries.close().await;
    let files = fs::read_dir(home.folder()).unwrap();
    let size: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 16_000, "{size} bytes of removals");
    let entries = builder.clone().open(home.file()).unwrap();
    // The first is forgotten, and then it is an entry like any other, over restarts too.
    for number in [1, 200] {
        write(&entries, &entry(number)).await.unwrap();
    }
    assert_eq!(ids(&entries).await, [id(1)]);
    entries.close().await;
    assert_eq!(ids(&home.entries()).await, [id(1)]);
}

#[tokio::test]
async fn a_claim_that_nobody_got_counts_neither_now_nor_after_a_restart() {
    let home = Home::new();
    let entries = home.entries();
    write(&entries, &entry(1)).await.unwrap();
    for _ in 0..3 {
        let claim = entries.claim(id(1), LEASE, 5);
        // It is done when what came after it is.
        entries.get(id(1)).await.unwrap();
        drop(claim);
    }
    entries.close().await;
    let entries = home.entries();
    let found = entries.claim(id(1), LEASE, 1).await.unwrap();
    let EntryClaim::Claimed { entry, .. } = found else {
        panic!("{found:?}")
    };
    assert_eq!(entry.replays, 1);
}

#[tokio::test]
async fn an_entry_that_a_newer_release_wrote_is_told_as_such_and_hides_the_older_line() {
    let home = Home::new();
    for older in [String::new(), line(1)] {
        let text = format!("{older}{}{}", line(2), newer(&line(1)));
        fs::write(home.file(), &text).unwrap();
        let entries = home.entries();
        assert_eq!(ids(&entries).await, [id(2)]);
        assert_eq!(unreadable(&entries).await, 1);
        let found = entries.get(id(1)).await.unwrap_err();
        assert_eq!(found.kind(), NEWER);
        let found = entries.claim(id(1), LEASE, 5).await.unwrap_err();
        assert_eq!(found.kind(), NEWER);
        // What it says stays: this release would write less.
        write(&entries, &entry(1)).await.unwrap();
        assert_eq!(entries.get(id(1)).await.unwrap_err().kind(), NEWER);
        entries.close().await;
        assert_eq!(home.text(), text);
    }
    let entries = home.entries();
    assert_eq!(entries.discard(id(1)).await.unwrap(), Discarded::Done);
    entries.close().await;
    let entries = home.entries();
    assert_eq!(entries.get(id(1)).await.unwrap(), None);
    assert_eq!(unreadable(&entries).await, 0);
}

#[tokio::test]
async fn what_a_newer_release_removed_and_claimed_is_so() {
    let home = Home::new();
    let removed = format!(
        "{{\"schemaVersion\":2,\"removed\":\"{}\",\"by\":[]}}\n",
        id(1)
    );
    let claimed = format!(
        "{{\"schemaVersion\":2,\"claimed\":\"{}\",\"replays\":3,\"by\":1}}\n",
        id(2)
    );
    let text = format!("{}{}{removed}{claimed}", line(1), line(2));
    fs::write(home.file(), text).unwrap();
    let entries = home.entries();
    assert_eq!(ids(&entries).await, [id(2)]);
    assert_eq!(entries.get(id(1)).await.unwrap(), None);
    write(&entries, &entry(1)).await.unwrap();
    assert_eq!(entries.get(id(1)).await.unwrap(), None);
    let spent = entries.claim(id(2), LEASE, 3).await.unwrap();
    assert_eq!(spent, EntryClaim::Spent { replays: 3 });
    assert_eq!(unreadable(&entries).await, 0);
}

#[tokio::test]
async fn lines_of_a_newer_release_are_in_a_snapshot_as_they_were() {
    let home = Home::new();
    let text = newer(&line(1));
    let removed = format!(
        "{{\"schemaVersion\":2,\"removed\":\"{}\",\"by\":[]}}\n",
        id(2)
    );
    fs::write(home.file(), format!("{text}{removed}")).unwrap();
    let builder = small(80_000);
    let entries = builder.clone().open(home.file()).unwrap();
    for number in 3..80 {
        write(&entries, &large(number, 1_000)).await.unwrap();
        entries.discard(id(number)).await.unwrap();
    }
    assert_eq!(entries.get(id(1)).await.unwrap_err().kind(), NEWER);
    entries.close().await;
    let third = home.text().matches(&id(3).to_string()).count();
    assert_eq!(third, 1, "it is a snapshot");
    let mut all = String::new();
    for entry in fs::read_dir(home.folder()).unwrap() {
        all += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    assert_eq!(
        (all.matches(&text).count(), all.matches(&removed).count()),
        (1, 1)
    );
    let entries = builder.clone().open(home.file()).unwrap();
    assert_eq!(entries.get(id(1)).await.unwrap_err().kind(), NEWER);
    write(&entries, &entry(2)).await.unwrap();
    assert!(ids(&entries).await.is_empty());
    assert_eq!(unreadable(&entries).await, 1);
    tokio::time::timeout(Duration::from_secs(10), entries.close())
        .await
        .unwrap();
}
