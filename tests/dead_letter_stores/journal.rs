//! The journal of a file of entries: what it replays, and its snapshots, finished and not.

use crate::{
    jsonl::small,
    support::{Home, LEASE, Told, entry, id, ids, large, unreadable, write},
};
use std::{fs, path::Path, sync::Arc};
use tower_webhook::{
    StoreErrorKind,
    dead_letter::{
        Discarded, EntryClaim, Filter, JsonlDeadLetters, LetterStore, Listing, MemoryDeadLetters,
        Page, json,
    },
    lease::Settled,
};

async fn all(store: &impl LetterStore) -> Listing {
    let page = Page::first(Page::MAX);
    store.list(&Filter::all(), &page).await.unwrap()
}

/// The operations of number `step`, each of which is over when it returns.
async fn step(store: &impl LetterStore, step: u32) {
    // Any sequence that hits all of it: this one is that of a linear congruential generator.
    let random = u64::from(step).wrapping_mul(6_364_136_223_846_793_005) >> 33;
    let number = random % 12;
    match random / 12 % 7 {
        0..=2 => write(store, &large(number, 300 + step as usize % 700))
            .await
            .unwrap(),
        3 => drop(store.discard(id(number)).await.unwrap()),
        4 => {
            let claim = store.claim(id(number), LEASE, u32::MAX);
            // It is made when what came after it is done, and nobody gets it.
            store.get(id(number)).await.unwrap();
            drop(claim);
        }
        removed => {
            let claim = store.claim(id(number), LEASE, u32::MAX).await.unwrap();
            let EntryClaim::Claimed { token, mut entry } = claim else {
                return;
            };
            let renewed = store.renew(id(number), token, LEASE * 2).await.unwrap();
            assert_eq!(renewed, Settled::Done);
            let settled = if removed == 6 && step.is_multiple_of(5) {
                store.remove(id(number), token).await.unwrap()
            } else {
                entry.body = large(number, 900).body;
                store.release(token, &Arc::new(*entry)).await.unwrap()
            };
            assert_eq!(settled, Settled::Done);
        }
    }
}

#[tokio::test]
async fn it_says_what_memory_says_also_after_snapshots_and_restarts() {
    let home = Home::new();
    let builder = small(16_000);
    let mut entries = builder.clone().open(home.file()).unwrap();
    let memory = MemoryDeadLetters::default();
    let (mut longest, mut shrunk) = (0, 0);
    for number in 0..400 {
        step(&entries, number).await;
        step(&memory, number).await;
        let length = fs::metadata(home.file()).unwrap().len();
        shrunk += u32::from(length < longest);
        longest = length;
        if number.is_multiple_of(29) {
            entries.close().await;
            entries = builder.clone().open(home.file()).unwrap();
        }
        if number.is_multiple_of(7) {
            assert_eq!(all(&entries).await, all(&memory).await, "after {number}");
        }
    }
    assert!(shrunk > 3, "{shrunk} snapshots");
    for number in 0..12 {
        let found = entries.get(id(number)).await.unwrap();
        assert_eq!(found, memory.get(id(number)).await.unwrap());
    }
}

/// The folder of a store of an earlier release, which began a new file when one was full.
fn numbered(home: &Home) -> [(String, String); 3] {
    let line = |number| format!("{}\n", json::to_json(&entry(number)));
    let removed = |number| format!("{{\"schemaVersion\":1,\"removed\":\"{}\"}}\n", id(number));
    let claimed = |number| {
        let id = id(number);
        format!("{{\"schemaVersion\":1,\"claimed\":\"{id}\",\"replays\":3}}\n")
    };
    let name = |end: &str| home.beside(end).display().to_string();
    [
        (
            name(".0000000001"),
            [line(1), line(2), line(3), claimed(2)].concat(),
        ),
        (
            name(".0000000012"),
            ["not json\n".to_owned(), removed(1), line(4)].concat(),
        ),
        (name(""), [removed(3), line(5)].concat()),
    ]
}

async fn is_whole(home: &Home, damaged: u64) {
    let entries = home.entries();
    assert_eq!(ids(&entries).await, [5, 4, 2].map(id));
    assert_eq!(entries.get(id(2)).await.unwrap().unwrap().replays, 3);
    assert_eq!((unreadable(&entries).await, entries.torn()), (damaged, 0));
    for gone in [1, 3] {
        write(&entries, &entry(gone)).await.unwrap();
        assert_eq!(entries.get(id(gone)).await.unwrap(), None);
    }
    entries.close().await;
}

#[tokio::test]
async fn numbered_files_of_an_earlier_release_are_taken_over() {
    let home = Home::new();
    for (path, text) in numbered(&home) {
        fs::write(path, text).unwrap();
    }
    let other = home.beside(".0000000013.bak");
    fs::write(&other, "of somebody else").unwrap();
    for _ in 0..2 {
        is_whole(&home, 1).await;
    }
    let mut names: Vec<_> = { fs::read_dir(home.folder()).unwrap() }
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let left = ["", ".0000000013.bak", ".lock"].map(|end| format!("entries.jsonl{end}"));
    assert_eq!(names, left);
}

#[tokio::test]
async fn files_that_were_half_taken_over_are_taken_over_again() {
    let home = Home::new();
    let files = numbered(&home);
    let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
    let (whole, half) = (all.as_str(), &all[..all.len() / 2]);
    // How many of the numbered files are left, what is in the others, and how many damaged lines that makes.
    for (left, text, snapshot, damaged) in [
        (2, files[2].1.as_str(), half, 1),
        (2, files[2].1.as_str(), whole, 1),
        (2, whole, "", 2),
        (1, whole, "", 1),
    ] {
        for (path, text) in &files[..left] {
            fs::write(path, text).unwrap();
        }
        fs::write(home.file(), text).unwrap();
        if !snapshot.is_empty() {
            fs::write(home.beside(".snapshot"), snapshot).unwrap();
        }
        is_whole(&home, damaged).await;
        is_whole(&home, damaged).await;
    }
}

#[tokio::test]
async fn a_snapshot_that_was_not_finished_is_nothing() {
    let home = Home::new();
    let entries = home.entries();
    for number in 1..=3 {
        write(&entries, &entry(number)).await.unwrap();
    }
    entries.close().await;
    let half = &home.text()[..100];
    fs::write(home.beside(".snapshot"), half).unwrap();
    let entries = home.entries();
    assert_eq!(ids(&entries).await, [3, 2, 1].map(id));
    assert_eq!((unreadable(&entries).await, entries.torn()), (0, 0));
    assert!(!home.beside(".snapshot").exists());
}

async fn churn(entries: &JsonlDeadLetters, numbers: std::ops::Range<u64>) {
    for number in numbers {
        write(entries, &large(number, 1_000)).await.unwrap();
        let discarded = entries.discard(id(number)).await.unwrap();
        assert_eq!(discarded, Discarded::Done);
    }
}

#[tokio::test]
async fn where_no_snapshot_can_be_made_it_is_told_now_and_then_and_the_rest_goes_on() {
    let home = Home::new();
    let told = Told::default();
    let builder = small(40_000).observe(told.clone());
    let entries = builder.clone().open(home.file()).unwrap();
    write(&entries, &entry(1)).await.unwrap();
    // Where it would be.
    fs::create_dir(home.beside(".snapshot")).unwrap();
    churn(&entries, 2..100).await;
    let length = |file: &Path| fs::metadata(file).unwrap().len();
    assert!(length(&home.file()) > 130_000);
    let what = "the file of entries could not be replaced by a shorter one";
    let lines = told.lines();
    assert!(lines.iter().all(|(told, _)| *told == what), "{lines:?}");
    assert!((1..=98).contains(&lines.len()), "{}", lines.len());
    assert_eq!(ids(&entries).await, [id(1)]);

    fs::remove_dir(home.beside(".snapshot")).unwrap();
    churn(&entries, 100..103).await;
    assert!(length(&home.file()) < 20_000);
    assert_eq!(ids(&entries).await, [id(1)]);
}

#[tokio::test]
async fn a_claim_that_is_dropped_while_it_closes_does_not_count() {
    let home = Home::new();
    let entries = home.entries();
    write(&entries, &entry(1)).await.unwrap();
    // None of them is made yet when it closes, or the first one is.
    let claims: Vec<_> = (0..3).map(|_| entries.claim(id(1), LEASE, 5)).collect();
    let closing = entries.close();
    drop(claims);
    closing.await;
    let entries = home.entries();
    assert_eq!(entries.get(id(1)).await.unwrap().unwrap().replays, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_claim_that_is_dropped_while_the_file_is_away_is_free_at_once() {
    let home = Home::new();
    let entries = home.entries();
    write(&entries, &entry(1)).await.unwrap();
    let claim = entries.claim(id(1), LEASE, 5);
    // It is made when what came after it is done.
    entries.get(id(1)).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved");
    fs::rename(home.folder(), &moved).unwrap();
    drop(claim);
    let away = write(&entries, &entry(2)).await;
    assert_eq!(away, Err(StoreErrorKind::Unavailable));
    fs::rename(&moved, home.folder()).unwrap();
    let claim = entries.claim(id(1), LEASE, 5).await.unwrap();
    assert!(matches!(claim, EntryClaim::Claimed { .. }), "{claim:?}");
}
