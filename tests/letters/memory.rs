//! Letters in memory: the contract and the bounds.

use crate::support::{LEASE, id, ids, large, letter, write};
use std::{sync::Arc, time::Duration};
use tower_webhook::{
    dead_letter::{Discarded, LetterClaim, LetterStore, MemoryLetters, SinkErrorKind, contract},
    fence::Settled,
};

struct Subject;

impl contract::Subject for Subject {
    type Store = MemoryLetters;

    async fn store(&self) -> MemoryLetters {
        MemoryLetters::default()
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
async fn a_full_store_refuses_new_letters_and_nothing_else() {
    let letters = MemoryLetters::builder().max_letters(3).build().unwrap();
    for number in 1..=3 {
        write(&letters, &letter(number)).await.unwrap();
    }
    assert_eq!(write(&letters, &letter(4)).await, Err(SinkErrorKind::Full));
    // Another word on one that is there needs no room.
    write(&letters, &letter(2)).await.unwrap();
    assert_eq!(ids(&letters).await, [id(3), id(2), id(1)]);
    assert_eq!(letters.discard(id(1)).await.unwrap(), Discarded::Done);
    write(&letters, &letter(4)).await.unwrap();
    assert_eq!((letters.len(), letters.dropped()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_too_and_come_back() {
    let letters = MemoryLetters::builder()
        .max_bytes(64 << 10)
        .build()
        .unwrap();
    assert_eq!(
        write(&letters, &large(1, 64 << 10)).await,
        Err(SinkErrorKind::TooLarge)
    );
    for round in 0..100 {
        let base = round * 10;
        for number in base..base + 3 {
            write(&letters, &large(number, 20 << 10)).await.unwrap();
        }
        let fourth = large(base + 3, 20 << 10);
        assert_eq!(write(&letters, &fourth).await, Err(SinkErrorKind::Full));
        // Written again, it takes its room once.
        for _ in 0..10 {
            write(&letters, &large(base, 20 << 10)).await.unwrap();
        }
        for number in base..base + 3 {
            match letters.claim(id(number), LEASE, 5).await.unwrap() {
                LetterClaim::Claimed { token, letter } => {
                    // Grown while it was out.
                    let mut grown = *letter;
                    grown.body = large(number, 30 << 10).body;
                    let settled = letters.release(token, &Arc::new(grown)).await.unwrap();
                    assert_eq!(settled, Settled::Done);
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(letters.discard(id(number)).await.unwrap(), Discarded::Done);
        }
        assert!(letters.is_empty());
    }
    assert!(format!("{letters:?}").contains("bytes: 0"), "{letters:?}");
}

#[tokio::test(start_paused = true)]
async fn where_it_was_chosen_the_oldest_make_room_and_are_counted() {
    let builder = MemoryLetters::builder().max_letters(3).drop_oldest();
    let letters = builder.build().unwrap();
    for number in 1..=5 {
        write(&letters, &letter(number)).await.unwrap();
    }
    assert_eq!(ids(&letters).await, [id(5), id(4), id(3)]);
    assert_eq!(letters.dropped(), 2);
    // One that is being sent stays, whatever its age.
    let claimed = letters.claim(id(3), LEASE, 5).await.unwrap();
    assert!(matches!(claimed, LetterClaim::Claimed { .. }));
    write(&letters, &letter(6)).await.unwrap();
    assert_eq!(ids(&letters).await, [id(6), id(5), id(3)]);
    for number in [5, 6] {
        letters.claim(id(number), LEASE, 5).await.unwrap();
    }
    assert_eq!(write(&letters, &letter(7)).await, Err(SinkErrorKind::Full));
    assert_eq!((letters.len(), letters.dropped()), (3, 3));

    let builder = MemoryLetters::builder().max_bytes(64 << 10).drop_oldest();
    let letters = builder.build().unwrap();
    for number in 1..=100 {
        write(&letters, &large(number, 10 << 10)).await.unwrap();
    }
    let kept = ids(&letters).await;
    assert_eq!(kept[0], id(100));
    assert_eq!(kept.len() as u64 + letters.dropped(), 100);
    assert!((4..=6).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let of = |builder: tower_webhook::dead_letter::sink::memory::MemoryLettersBuilder| {
        builder.build().unwrap_err().setting()
    };
    assert_eq!(of(MemoryLetters::builder().max_letters(0)), "max_letters");
    assert_eq!(of(MemoryLetters::builder().max_bytes(0)), "max_bytes");
}

/// A lease that no clock can reach does not panic.
#[tokio::test(start_paused = true)]
async fn an_endless_lease_holds() {
    let letters = MemoryLetters::default();
    write(&letters, &letter(1)).await.unwrap();
    letters.claim(id(1), Duration::MAX, 5).await.unwrap();
    tokio::time::advance(Duration::from_secs(1 << 32)).await;
    let busy = letters.claim(id(1), LEASE, 5).await.unwrap();
    assert!(matches!(busy, LetterClaim::InProgress { .. }));
}

#[tokio::test]
async fn the_last_ten_thousand_removals_are_remembered() {
    let letters = MemoryLetters::default();
    for number in 0..10_001 {
        write(&letters, &letter(number)).await.unwrap();
        assert_eq!(letters.discard(id(number)).await.unwrap(), Discarded::Done);
    }
    write(&letters, &letter(1)).await.unwrap();
    assert!(letters.is_empty(), "a late repetition");
    write(&letters, &letter(0)).await.unwrap();
    assert_eq!(letters.len(), 1, "nobody knows it any more");
}
