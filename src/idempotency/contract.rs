//! The tests that every [`Store`] must pass, for those who write one.
//!
//! ```
//! use std::time::Duration;
//! use tower_webhook::idempotency::{MemoryStore, contract};
//!
//! struct Subject;
//!
//! impl contract::Subject for Subject {
//!     type Store = MemoryStore;
//!
//!     async fn store(&self) -> MemoryStore {
//!         MemoryStore::default()
//!     }
//!
//!     // The memory store reads tokio's clock, which a test can move.
//!     async fn advance(&self, by: Duration) {
//!         tokio::time::advance(by).await;
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! contract::check(&Subject).await;
//! # });
//! ```

use super::{Begin, Fingerprint, IdempotencyKey, Store};
use crate::lease::{FencingToken, Settled};
use bytes::Bytes;
use std::{future::Future, time::Duration};

/// A store under test, and its clock.
#[diagnostic::on_unimplemented(
    message = "the contract cannot be run on `{Self}`",
    note = "implement `Subject` for a type of your test that makes your idempotency store"
)]
pub trait Subject {
    /// The store.
    type Store: Store;

    /// Returns an empty store, or one in which the keys of the contract (scope `contract`) are free.
    fn store(&self) -> impl Future<Output = Self::Store>;

    /// Lets time pass for the store: moves a paused clock, or waits.
    fn advance(&self, by: Duration) -> impl Future<Output = ()>;
}

/// The lease of the contract's claims. It is short, for stores whose clock cannot be moved.
const LEASE: Duration = Duration::from_millis(400);
/// The time to live of the contract's answers.
const TTL: Duration = Duration::from_millis(800);
/// A time longer than both.
const LATER: Duration = Duration::from_secs(1);

/// Checks every rule, one after another, each on its own key.
///
/// # Panics
///
/// When a rule does not hold. The message names the rule.
pub async fn check<S: Subject>(subject: &S) {
    one_of_many_acquires_a_free_key(subject).await;
    a_completed_key_gives_its_answer_back(subject).await;
    an_answer_is_kept_to_the_byte(subject).await;
    a_released_key_is_free(subject).await;
    a_lease_that_ends_frees_the_key(subject).await;
    a_renewed_lease_holds(subject).await;
    an_answer_leaves_after_its_time_to_live(subject).await;
    a_late_holder_is_heard_until_another_claims(subject).await;
    a_stale_holder_changes_nothing(subject).await;
    a_settled_claim_cannot_be_settled_again(subject).await;
    another_fingerprint_is_a_mismatch(subject).await;
    a_missing_fingerprint_matches_any(subject).await;
    scopes_are_apart(subject).await;
    clones_share_what_they_keep(subject).await;
}

fn key(id: &str) -> IdempotencyKey {
    match IdempotencyKey::new("contract", id) {
        Ok(key) => key,
        Err(error) => panic!("contract: {error}"),
    }
}

async fn begin<St: Store>(store: &St, key: &IdempotencyKey) -> Begin {
    match store.begin(key, None, LEASE).await {
        Ok(begin) => begin,
        Err(error) => panic!("contract: `begin` failed: {error:?}"),
    }
}

async fn acquire<St: Store>(store: &St, key: &IdempotencyKey) -> FencingToken {
    match begin(store, key).await {
        Begin::Acquired(token) => token,
        other => panic!("contract: a free key must be acquired, got {other:?}"),
    }
}

async fn settled(operation: impl Future<Output = Result<Settled, crate::StoreError>>) -> Settled {
    match operation.await {
        Ok(settled) => settled,
        Err(error) => panic!("contract: the store failed: {error:?}"),
    }
}

/// Of 50 concurrent `begin` calls for a free key, one acquires it and 49 return
/// [`Begin::InProgress`].
///
/// # Panics
///
/// When the rule does not hold.
pub async fn one_of_many_acquires_a_free_key<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for round in 0..20 {
        let key = key(&format!("race-{round}"));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (store, key) = (store.clone(), key.clone());
            tasks.spawn(async move { store.begin(&key, None, LEASE).await });
        }
        let mut acquired = 0;
        while let Some(result) = tasks.join_next().await {
            match result {
                Ok(Ok(Begin::Acquired(_))) => acquired += 1,
                Ok(Ok(Begin::InProgress { lease_left })) => {
                    assert!(lease_left <= LEASE, "contract: a lease does not grow");
                }
                other => panic!("contract: a key in flight must be in progress, got {other:?}"),
            }
        }
        assert_eq!(acquired, 1, "contract: one of many acquires a free key");
    }
}

/// After `complete`, `begin` returns the answer.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_completed_key_gives_its_answer_back<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("answer"));
    let token = acquire(&store, &key).await;
    let answer = Bytes::from_static(b"the answer");
    let done = settled(store.complete(&key, token, answer.clone(), TTL)).await;
    assert_eq!(done, Settled::Done, "contract: the holder may complete");
    for _ in 0..3 {
        assert_eq!(
            begin(&store, &key).await,
            Begin::Completed(answer.clone()),
            "contract: a completed key gives its answer back, any number of times"
        );
    }
}

/// An answer is returned byte for byte: empty, binary and large ones too.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn an_answer_is_kept_to_the_byte<S: Subject>(subject: &S) {
    let store = subject.store().await;
    let binary: Vec<u8> = (0..=255).collect();
    for (index, answer) in [Vec::new(), binary.clone(), binary.repeat(1024)]
        .into_iter()
        .map(Bytes::from)
        .enumerate()
    {
        let key = key(&format!("bytes-{index}"));
        let token = acquire(&store, &key).await;
        let done = settled(store.complete(&key, token, answer.clone(), TTL)).await;
        assert_eq!(done, Settled::Done, "contract: the holder may complete");
        assert_eq!(
            begin(&store, &key).await,
            Begin::Completed(answer),
            "contract: an answer is kept to the byte"
        );
    }
}

/// After `release`, the key is free, and its next token is greater.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_released_key_is_free<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("released"));
    let first = acquire(&store, &key).await;
    let done = settled(store.release(&key, first)).await;
    assert_eq!(done, Settled::Done, "contract: the holder may release");
    let second = acquire(&store, &key).await;
    assert!(second > first, "contract: a later token is greater");
}

/// When a lease ends, the key is free, and its next token is greater.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_lease_that_ends_frees_the_key<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("crashed"));
    let first = acquire(&store, &key).await;
    subject.advance(LATER).await;
    let second = acquire(&store, &key).await;
    assert!(second > first, "contract: a later token is greater");
}

/// A claim that is renewed outlives its first lease.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_renewed_lease_holds<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("renewed"));
    let token = acquire(&store, &key).await;
    for _ in 0..3 {
        subject.advance(LEASE / 2).await;
        let done = settled(store.renew(&key, token, LEASE)).await;
        assert_eq!(done, Settled::Done, "contract: the holder may renew");
    }
    assert!(
        matches!(begin(&store, &key).await, Begin::InProgress { .. }),
        "contract: a renewed lease holds"
    );
}

/// An answer is removed after its time to live, and not before.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn an_answer_leaves_after_its_time_to_live<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("old"));
    let token = acquire(&store, &key).await;
    let done = settled(store.complete(&key, token, Bytes::from_static(b"old"), TTL)).await;
    assert_eq!(done, Settled::Done, "contract: the holder may complete");
    subject.advance(TTL / 2).await;
    assert!(
        matches!(begin(&store, &key).await, Begin::Completed(_)),
        "contract: an answer is kept for its time to live"
    );
    subject.advance(LATER).await;
    acquire(&store, &key).await;
}

/// A holder whose lease has ended can still renew, complete or release its claim, as long as nobody has claimed
/// the key since: work that was done is not done again for a moment's delay. Each settles the claim once.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_late_holder_is_heard_until_another_claims<S: Subject>(subject: &S) {
    let store = subject.store().await;
    let keys = ["late-answer", "late-release", "late-renewal"].map(key);
    let completes = acquire(&store, &keys[0]).await;
    let releases = acquire(&store, &keys[1]).await;
    let renews = acquire(&store, &keys[2]).await;
    subject.advance(LATER).await;
    let heard = "contract: a claim that ended is the holder's while nobody else has the key";
    let once = "contract: a claim is settled once";

    let answer = Bytes::from_static(b"late");
    let complete = || settled(store.complete(&keys[0], completes, answer.clone(), TTL));
    assert_eq!(complete().await, Settled::Done, "{heard}: it completes");
    let kept = "contract: an answer that came late is kept";
    let begun = begin(&store, &keys[0]).await;
    assert_eq!(begun, Begin::Completed(answer.clone()), "{kept}");
    assert_eq!(complete().await, Settled::Lost, "{once}");

    let release = || settled(store.release(&keys[1], releases));
    assert_eq!(release().await, Settled::Done, "{heard}: it releases");
    assert_eq!(release().await, Settled::Lost, "{once}");
    let next = acquire(&store, &keys[1]).await;
    assert!(next > releases, "contract: a later token is greater");

    let renewed = settled(store.renew(&keys[2], renews, 10 * LATER)).await;
    assert_eq!(renewed, Settled::Done, "{heard}: it renews");
    assert!(
        matches!(begin(&store, &keys[2]).await, Begin::InProgress { .. }),
        "contract: a renewed lease holds"
    );
}

/// A holder whose claim has passed to another holder can neither renew, complete nor release it.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_stale_holder_changes_nothing<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("stale"));
    let stale = acquire(&store, &key).await;
    subject.advance(LATER).await;
    let current = acquire(&store, &key).await;

    let late = Bytes::from_static(b"late");
    for (operation, result) in [
        ("renew", settled(store.renew(&key, stale, LEASE)).await),
        (
            "complete",
            settled(store.complete(&key, stale, late, TTL)).await,
        ),
        ("release", settled(store.release(&key, stale)).await),
    ] {
        assert_eq!(
            result,
            Settled::Lost,
            "contract: a stale {operation} is refused"
        );
    }
    assert!(
        matches!(begin(&store, &key).await, Begin::InProgress { .. }),
        "contract: a stale holder changes nothing"
    );
    let answer = Bytes::from_static(b"current");
    let done = settled(store.complete(&key, current, answer.clone(), TTL)).await;
    assert_eq!(
        done,
        Settled::Done,
        "contract: the current holder completes"
    );
    assert_eq!(begin(&store, &key).await, Begin::Completed(answer));
}

/// A claim that is completed or released cannot be settled again, neither with its token nor with a
/// made-up one.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_settled_claim_cannot_be_settled_again<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("settled"));
    let token = acquire(&store, &key).await;
    let answer = Bytes::from_static(b"first");
    let done = settled(store.complete(&key, token, answer.clone(), TTL)).await;
    assert_eq!(done, Settled::Done, "contract: the holder may complete");
    for token in [token, FencingToken::new(token.get().wrapping_add(1))] {
        let second = Bytes::from_static(b"second");
        for result in [
            settled(store.complete(&key, token, second, TTL)).await,
            settled(store.renew(&key, token, LEASE)).await,
            settled(store.release(&key, token)).await,
        ] {
            assert_eq!(result, Settled::Lost, "contract: a claim is settled once");
        }
    }
    assert_eq!(
        begin(&store, &key).await,
        Begin::Completed(answer),
        "contract: an answer is never replaced"
    );
}

/// A different fingerprint is a mismatch, both while the work runs and after it.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn another_fingerprint_is_a_mismatch<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("mismatch"));
    let (mine, other) = (Fingerprint::new([1; 32]), Fingerprint::new([2; 32]));
    let ask = |print: Fingerprint| {
        let begin = store.begin(&key, Some(&print), LEASE);
        async move { begin.await.ok() }
    };
    let Some(Begin::Acquired(token)) = ask(mine).await else {
        panic!("contract: a free key must be acquired");
    };
    let in_flight = "contract: another fingerprint is a mismatch while the work runs";
    assert_eq!(ask(other).await, Some(Begin::Mismatch), "{in_flight}");
    assert!(
        matches!(ask(mine).await, Some(Begin::InProgress { .. })),
        "contract: the same fingerprint is in progress"
    );
    let answer = Bytes::from_static(b"mine");
    let done = settled(store.complete(&key, token, answer.clone(), TTL)).await;
    assert_eq!(done, Settled::Done, "contract: the holder may complete");
    let after = "contract: another fingerprint is a mismatch after the work";
    assert_eq!(ask(other).await, Some(Begin::Mismatch), "{after}");
    assert_eq!(ask(mine).await, Some(Begin::Completed(answer)));
    subject.advance(LATER).await;
    assert!(
        matches!(ask(other).await, Some(Begin::Acquired(_))),
        "contract: a fingerprint leaves with its answer"
    );
}

/// Fingerprints are compared only if both calls have one.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_missing_fingerprint_matches_any<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("unprinted"));
    let token = acquire(&store, &key).await;
    let print = Fingerprint::new([7; 32]);
    assert!(
        matches!(
            store.begin(&key, Some(&print), LEASE).await,
            Ok(Begin::InProgress { .. })
        ),
        "contract: a claim without a fingerprint matches any"
    );
    let done = settled(store.complete(&key, token, Bytes::new(), TTL)).await;
    assert_eq!(done, Settled::Done, "contract: the holder may complete");
    assert!(
        matches!(
            store.begin(&key, Some(&print), LEASE).await,
            Ok(Begin::Completed(_))
        ),
        "contract: an answer without a fingerprint matches any"
    );
}

/// The same id in another scope is another key, even if scope and id give the same text when joined.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn scopes_are_apart<S: Subject>(subject: &S) {
    let store = subject.store().await;
    acquire(&store, &key("shared-id")).await;
    for (scope, id) in [
        ("contract-other", "shared-id"),
        ("contractshared", "-id"),
        ("", "contractshared-id"),
    ] {
        match IdempotencyKey::new(scope, id) {
            Ok(key) => drop(acquire(&store, &key).await),
            Err(error) => panic!("contract: {error}"),
        }
    }
}

/// Clones share the contents of the store.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn clones_share_what_they_keep<S: Subject>(subject: &S) {
    let (store, key) = (subject.store().await, key("clones"));
    acquire(&store, &key).await;
    assert!(
        matches!(begin(&store.clone(), &key).await, Begin::InProgress { .. }),
        "contract: clones share what they keep"
    );
}
