//! Entries in memory: the contract and the bounds.

use crate::support::{LEASE, Told, entry, id, ids, large, write};
use std::{sync::Arc, time::Duration};
use tower_webhook::{
    StoreErrorKind,
    dead_letter::{Discarded, EntryClaim, LetterStore, MemoryDeadLetters, contract},
    lease::Settled,
};

struct Subject;

impl contract::Subject for Subject {
    type Store = MemoryDeadLetters;

    async fn store(&self) -> MemoryDeadLetters {
        MemoryDeadLetters::default()
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract() {
    contract::check(&Subject).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_new_entries_and_nothing_else() {
    let entries = MemoryDeadLetters::builder().max_entries(3).build().unwrap();
    for number in 1..=3 {
        write(&entries, &entry(number)).await.unwrap();
    }
    assert_eq!(write(&entries, &entry(4)).await, Err(StoreErrorKind::Full));
    // Another word on one that is there needs no room.
    write(&entries, &entry(2)).await.unwrap();
    assert_eq!(ids(&entries).await, [id(3), id(2), id(1)]);
    assert_eq!(entries.discard(id(1)).await.unwrap(), Discarded::Done);
    write(&entries, &entry(4)).await.unwrap();
    assert_eq!((entries.len(), entries.dropped()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_too_and_come_back() {
    let entries = MemoryDeadLetters::builder()
        .max_bytes(64 << 10)
        .build()
        .unwrap();
    assert_eq!(
        write(&entries, &large(1, 64 << 10)).await,
        Err(StoreErrorKind::TooLarge)
    );
    for round in 0..100 {
        let base = round * 10;
        for number in base..base + 3 {
            write(&entries, &large(number, 20 << 10)).await.unwrap();
        }
        let fourth = large(base + 3, 20 << 10);
        assert_eq!(write(&entries, &fourth).await, Err(StoreErrorKind::Full));
        // Written again, it takes its room once.
        for _ in 0..10 {
            write(&entries, &large(base, 20 << 10)).await.unwrap();
        }
        for number in base..base + 3 {
            match entries.claim(id(number), LEASE, 5).await.unwrap() {
                EntryClaim::Claimed { token, entry } => {
                    // Grown while it was out.
                    let mut grown = *entry;
                    grown.body = large(number, 30 << 10).body;
                    let settled = entries.release(token, &Arc::new(grown)).await.unwrap();
                    assert_eq!(settled, Settled::Done);
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(entries.discard(id(number)).await.unwrap(), Discarded::Done);
        }
        assert!(entries.is_empty());
    }
    assert!(format!("{entries:?}").contains("bytes: 0"), "{entries:?}");
}

#[tokio::test(start_paused = true)]
async fn where_it_was_chosen_the_oldest_make_room_and_are_counted() {
    let told = Told::default();
    let builder = MemoryDeadLetters::builder().max_entries(3).drop_oldest();
    let entries = builder.observe(told.clone()).build().unwrap();
    for number in 1..=5 {
        write(&entries, &entry(number)).await.unwrap();
    }
    assert_eq!(ids(&entries).await, [id(5), id(4), id(3)]);
    assert_eq!(entries.dropped(), 2);
    let dropped = ("the oldest entries were dropped", "1".to_owned());
    assert_eq!(told.lines(), [dropped.clone(), dropped]);
    // One that is being sent stays, whatever its age.
    let claimed = entries.claim(id(3), LEASE, 5).await.unwrap();
    assert!(matches!(claimed, EntryClaim::Claimed { .. }));
    write(&entries, &entry(6)).await.unwrap();
    assert_eq!(ids(&entries).await, [id(6), id(5), id(3)]);
    for number in [5, 6] {
        entries.claim(id(number), LEASE, 5).await.unwrap();
    }
    assert_eq!(write(&entries, &entry(7)).await, Err(StoreErrorKind::Full));
    assert_eq!((entries.len(), entries.dropped()), (3, 3));

    let builder = MemoryDeadLetters::builder()
        .max_bytes(64 << 10)
        .drop_oldest();
    let entries = builder.build().unwrap();
    for number in 1..=100 {
        write(&entries, &large(number, 10 << 10)).await.unwrap();
    }
    let kept = ids(&entries).await;
    assert_eq!(kept[0], id(100));
    assert_eq!(kept.len() as u64 + entries.dropped(), 100);
    assert!((4..=6).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let of = |builder: tower_webhook::dead_letter::MemoryDeadLettersBuilder| {
        builder.build().unwrap_err().setting()
    };
    assert_eq!(
        of(MemoryDeadLetters::builder().max_entries(0)),
        "max_entries"
    );
    assert_eq!(of(MemoryDeadLetters::builder().max_bytes(0)), "max_bytes");
}

/// A lease that no clock can reach does not panic.
#[tokio::test(start_paused = true)]
async fn an_endless_lease_holds() {
    let entries = MemoryDeadLetters::default();
    write(&entries, &entry(1)).await.unwrap();
    entries.claim(id(1), Duration::MAX, 5).await.unwrap();
    tokio::time::advance(Duration::from_secs(1 << 32)).await;
    let busy = entries.claim(id(1), LEASE, 5).await.unwrap();
    assert!(matches!(busy, EntryClaim::InProgress { .. }));
}

#[tokio::test]
async fn the_last_ten_thousand_removals_are_remembered() {
    let entries = MemoryDeadLetters::default();
    for number in 0..10_001 {
        write(&entries, &entry(number)).await.unwrap();
        assert_eq!(entries.discard(id(number)).await.unwrap(), Discarded::Done);
    }
    write(&entries, &entry(1)).await.unwrap();
    assert!(entries.is_empty(), "a late repetition");
    write(&entries, &entry(0)).await.unwrap();
    assert_eq!(entries.len(), 1, "nobody knows it any more");
}
