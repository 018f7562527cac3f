//! Several processes on one file, and what is left of one that is killed.

use crate::support::{
    Ends, Home, LEASE, child, childs_file, claim, entry, id, killed_after, say, told_by, write,
};
use std::{collections::HashSet, sync::Arc};
use tower_webhook::{
    dead_letter::{EntryClaim, Filter, LetterStore, Sink},
    lease::Settled,
};
use tower_webhook_sqlite::SqliteDeadLetters;

const LETTERS: u64 = 200;

/// Claims and removes every entry that it gets.
async fn take(store: &SqliteDeadLetters) -> Vec<u64> {
    let mut taken = Vec::new();
    for number in 0..LETTERS {
        let claimed = store.claim(id(number), LEASE, 5).await.unwrap();
        if let EntryClaim::Claimed { token, .. } = claimed {
            taken.push(number);
            let removed = store.remove(id(number), token).await.unwrap();
            assert_eq!(removed, Settled::Done);
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_give_each_entry_away_once() {
    let home = Home::new();
    let store = home.store();
    for number in 0..LETTERS {
        write(&store, number).await;
    }
    let others: Vec<_> = (0..2)
        .map(|_| Ends::spawn(child("processes::child_that_takes", &home.file())))
        .collect();
    let mut taken = take(&store).await;
    let theirs = told_by(others, "took ");
    taken.extend(theirs.iter().map(|number| number.parse::<u64>().unwrap()));
    assert_eq!(taken.len() as u64, LETTERS);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len() as u64, LETTERS);
    assert_eq!(store.count(&Filter::all()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_takes() {
    if let Some(file) = childs_file() {
        for number in take(&SqliteDeadLetters::open(file).unwrap()).await {
            println!("\ntook {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_outlives_a_kill_and_its_claim_does_not() {
    let home = Home::new();
    let mut written = Vec::new();
    let child = child("processes::child_that_writes", &home.file());
    killed_after(50, child, |line| {
        let number = line.strip_prefix("wrote ");
        written.extend(number.map(|number| number.parse::<u64>().unwrap()));
        number.is_some()
    });
    let store = home.store();
    for number in &written {
        let kept = store.get(id(*number)).await.unwrap().unwrap();
        assert_eq!(kept.body, entry(*number).body);
    }
    // The first was claimed before: that counts, and ends with the process.
    assert_eq!(store.get(id(0)).await.unwrap().unwrap().replays, 1);
    let claimed = store.claim(id(0), LEASE, 5).await.unwrap();
    let EntryClaim::Claimed { entry, .. } = claimed else {
        panic!("its owner is gone: {claimed:?}")
    };
    assert_eq!(entry.replays, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_writes() {
    let Some(file) = childs_file() else { return };
    let store = SqliteDeadLetters::open(file).unwrap();
    write(&store, 0).await;
    claim(&store, 0).await;
    for number in 1..100_000 {
        store.write(&Arc::new(entry(number))).await.unwrap();
        say(&format!("wrote {number}"));
    }
}
