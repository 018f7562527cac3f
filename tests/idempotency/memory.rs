//! The memory store: nothing under its bounds is forgotten, and its bounds hold.

use crate::{Fate, LEASE, fate, key};
use bytes::Bytes;
use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::advance;
use tower_webhook::StoreErrorKind;
use tower_webhook::idempotency::{Begin, IdempotencyKey, MemoryStore, Store, contract};
use tower_webhook::lease::{FencingToken, Settled};

const TTL: Duration = Duration::from_secs(3600);

fn begin(store: &MemoryStore, key: &IdempotencyKey) -> Begin {
    store.begin(key, None, LEASE).into_inner().unwrap()
}

fn acquire(store: &MemoryStore, key: &IdempotencyKey) -> FencingToken {
    match begin(store, key) {
        Begin::Acquired(token) => token,
        other => panic!("the key must be free, and is {other:?}"),
    }
}

fn complete(store: &MemoryStore, key: &IdempotencyKey, answer: Bytes) {
    let token = acquire(store, key);
    let settled = store.complete(key, token, answer, TTL).into_inner();
    assert_eq!(settled.unwrap(), Settled::Done);
}

fn nth(n: usize) -> IdempotencyKey {
    IdempotencyKey::new("/hooks", &format!("{n:036}")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract() {
    struct Subject;
    impl contract::Subject for Subject {
        type Store = MemoryStore;
        async fn store(&self) -> MemoryStore {
            MemoryStore::default()
        }
        async fn advance(&self, by: Duration) {
            advance(by).await;
        }
    }
    contract::check(&Subject).await;
}

#[tokio::test(start_paused = true)]
async fn boxed_futures_keep_the_contract_too() {
    struct Subject;
    impl contract::Subject for Subject {
        type Store = crate::stores::Gated;
        async fn store(&self) -> Self::Store {
            crate::stores::Gated::default()
        }
        async fn advance(&self, by: Duration) {
            advance(by).await;
        }
    }
    contract::check(&Subject).await;
}

/// With moka's default policy, 13,992 of them were forgotten.
#[tokio::test]
async fn nineteen_thousand_events_repeated_a_thousand_later_are_all_known() {
    let store = MemoryStore::builder().max_entries(10_000).build().unwrap();
    for event in 0..20_000 {
        if event < 19_000 {
            complete(&store, &nth(event), Bytes::new());
        }
        if let Some(earlier) = event.checked_sub(1_000) {
            let known = matches!(begin(&store, &nth(earlier)), Begin::Completed(_));
            assert!(known, "{earlier} was forgotten by {event}");
        }
    }
}

#[tokio::test]
async fn a_thousand_claims_in_flight_outlive_a_flood_of_answers() {
    let store = MemoryStore::builder().max_entries(100).build().unwrap();
    let claims: Vec<_> = (0..1_000)
        .map(|n| (nth(n), acquire(&store, &nth(n))))
        .collect();
    for n in 1_000..20_000 {
        complete(&store, &nth(n), Bytes::new());
    }
    for (key, token) in claims {
        assert!(matches!(begin(&store, &key), Begin::InProgress { .. }));
        let settled = store.complete(&key, token, Bytes::new(), TTL);
        assert_eq!(settled.into_inner().unwrap(), Settled::Done);
    }
    assert_eq!(store.in_flight(), 0);
}

#[tokio::test]
async fn the_bound_in_entries_holds_and_the_latest_stay() {
    let store = MemoryStore::builder().max_entries(1_000).build().unwrap();
    for n in 0..20_000 {
        complete(&store, &nth(n), Bytes::new());
    }
    let known = |n: &usize| matches!(begin(&store, &nth(*n)), Begin::Completed(_));
    assert!((19_100..20_000).all(|n| known(&n)));
    let all = (5_000..20_000).filter(known).count();
    // The cache lags behind by the writes it has not yet looked at.
    assert!((900..=2_000).contains(&all), "{all} answers are kept");
}

#[tokio::test]
async fn the_bound_in_bytes_holds() {
    let max_bytes = 1 << 20;
    let store = MemoryStore::builder()
        .max_entries(1_000_000)
        .max_bytes(max_bytes)
        .build()
        .unwrap();
    for n in 0..10_000 {
        complete(&store, &nth(n), Bytes::from(vec![7; 10_000]));
    }
    let kept = (0..10_000).filter_map(|n| match begin(&store, &nth(n)) {
        Begin::Completed(answer) => Some(answer.len()),
        _ => None,
    });
    let bytes: usize = kept.sum();
    assert!(bytes > max_bytes / 2, "{bytes} bytes are kept");
    assert!(bytes < 2 * max_bytes, "{bytes} bytes are kept");
}

#[tokio::test]
async fn an_answer_larger_than_the_bound_is_refused_and_its_claim_stays() {
    let store = MemoryStore::builder().max_bytes(2048).build().unwrap();
    let token = acquire(&store, &key("a"));
    let large = Bytes::from(vec![0; 2048]);
    let refused = store.complete(&key("a"), token, large, TTL).into_inner();
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(fate(&store, "a").await, Fate::Claimed);
}

#[tokio::test]
async fn two_hundred_thousand_keys_leave_no_claim_behind() {
    let store = MemoryStore::default();
    for n in 0..200_000 {
        let key = nth(n);
        let token = acquire(&store, &key);
        assert_eq!(store.in_flight(), 1);
        let settled = if n % 2 == 0 {
            store.release(&key, token)
        } else {
            store.complete(&key, token, Bytes::new(), TTL)
        };
        assert_eq!(settled.into_inner().unwrap(), Settled::Done);
    }
    assert_eq!(store.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_makes_room_when_leases_end_and_not_before() {
    let store = MemoryStore::builder().max_in_flight(1_000).build().unwrap();
    for n in 0..1_000 {
        acquire(&store, &nth(n));
        if n == 499 {
            advance(LEASE / 2).await;
        }
    }
    let refused = |n| store.begin(&nth(n), None, LEASE).into_inner().is_err();
    advance((LEASE / 2).saturating_sub(Duration::from_millis(2))).await;
    assert!((1_000..1_100).all(refused));
    assert_eq!(store.in_flight(), 1_000);

    // The first half has ended.
    advance(Duration::from_millis(2)).await;
    acquire(&store, &nth(1_000));
    assert_eq!(store.in_flight(), 501);
    for n in 500..1_000 {
        assert!(matches!(begin(&store, &nth(n)), Begin::InProgress { .. }));
    }
    // A renewed claim is not swept with the rest.
    let kept = acquire(&store, &nth(2_000));
    advance(LEASE.saturating_sub(Duration::from_secs(1))).await;
    let renewed = store.renew(&nth(2_000), kept, LEASE).into_inner();
    assert_eq!(renewed.unwrap(), Settled::Done);
    advance(Duration::from_secs(2)).await;
    for n in 3_000..3_999 {
        acquire(&store, &nth(n));
    }
    assert!(refused(4_000));
    assert!(matches!(
        begin(&store, &nth(2_000)),
        Begin::InProgress { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_lease_ended_is_taken_over_without_being_counted_twice() {
    let store = MemoryStore::builder().max_in_flight(1).build().unwrap();
    for _ in 0..5 {
        acquire(&store, &key("a"));
        assert_eq!(store.in_flight(), 1);
        advance(LEASE).await;
    }
    acquire(&store, &key("b"));
    assert_eq!(store.in_flight(), 1);
}

/// moka's `entry().or_insert(..).is_fresh()` told both up to 19,884 times.
#[test]
fn two_threads_at_the_same_hundred_thousand_keys_never_both_have_one() {
    const KEYS: usize = 100_000;
    let store = MemoryStore::builder().max_in_flight(KEYS).build().unwrap();
    let acquired: Arc<Vec<AtomicU32>> = Arc::new((0..KEYS).map(|_| AtomicU32::new(0)).collect());
    let barrier = Arc::new(Barrier::new(2));
    let threads = [0, 1].map(|thread| {
        let (store, acquired) = (store.clone(), Arc::clone(&acquired));
        let barrier = Arc::clone(&barrier);
        std::thread::spawn(move || {
            barrier.wait();
            for (n, count) in acquired.iter().enumerate() {
                let key = nth(n);
                if let Begin::Acquired(token) = begin(&store, &key) {
                    count.fetch_add(1, Ordering::Relaxed);
                    // Some are answered, some stay in flight: no way back to free.
                    if (n + thread) % 2 == 0 {
                        let done = store.complete(&key, token, Bytes::new(), TTL);
                        assert_eq!(done.into_inner().unwrap(), Settled::Done);
                    }
                }
            }
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    let wrong = acquired
        .iter()
        .filter(|count| count.load(Ordering::Relaxed) != 1);
    assert_eq!(wrong.count(), 0);
}

#[test]
fn two_threads_at_one_bound_never_pass_it() {
    let store = MemoryStore::builder().max_in_flight(500).build().unwrap();
    let threads = [0, 1].map(|thread| {
        let store = store.clone();
        std::thread::spawn(move || {
            let keys = (0..1_000).map(|n| nth(n * 2 + thread));
            keys.filter(|key| store.begin(key, None, LEASE).into_inner().is_ok())
                .count()
        })
    });
    let acquired: usize = threads.map(|thread| thread.join().unwrap()).iter().sum();
    assert_eq!((acquired, store.in_flight()), (500, 500));
}

#[tokio::test]
async fn tokens_of_a_later_store_are_greater() {
    let earlier = MemoryStore::default();
    let tokens: Vec<_> = (0..1_000).map(|n| acquire(&earlier, &nth(n))).collect();
    assert!(tokens.is_sorted());
    let later = acquire(&MemoryStore::default(), &nth(0));
    assert!(tokens.iter().all(|token| *token < later));
}

#[tokio::test]
async fn the_longest_times_are_no_panic() {
    let (store, key) = (MemoryStore::default(), key("a"));
    let Begin::Acquired(token) = store.begin(&key, None, Duration::MAX).await.unwrap() else {
        panic!("the key was free");
    };
    let _ = store.renew(&key, token, Duration::MAX).await.unwrap();
    let done = store
        .complete(&key, token, Bytes::new(), Duration::MAX)
        .await;
    assert_eq!(done.unwrap(), Settled::Done);
    assert_eq!(begin(&store, &key), Begin::Completed(Bytes::new()));
}
