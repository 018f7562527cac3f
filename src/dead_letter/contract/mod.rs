//! The rules of [`LetterStore`] as functions that test an implementation.
//!
//! If the clock of a store cannot be moved, [`advance`](Subject::advance) sleeps: about ten seconds for
//! all rules together.
//!
//! ```
//! use std::time::Duration;
//! use tower_webhook::dead_letter::{MemoryDeadLetters, contract};
//!
//! struct Subject;
//!
//! impl contract::Subject for Subject {
//!     type Store = MemoryDeadLetters;
//!
//!     async fn store(&self) -> MemoryDeadLetters {
//!         MemoryDeadLetters::default()
//!     }
//!
//!     // This store uses tokio's clock, which a test can move. Others: `tokio::time::sleep(by).await`.
//!     async fn advance(&self, by: Duration) {
//!         tokio::time::advance(by).await;
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! contract::check(&Subject).await;
//! # });
//! ```

mod claims;
mod keeping;

pub use self::{claims::*, keeping::*};

use super::{
    Cause, Direction, Entry, EntryBody, EntryClaim, EntryId, Filter, LetterStore, Listing, Page,
    Reason,
};
use crate::{
    StoreError,
    attempt::{AttemptRecord, GaveUp, History},
    lease::FencingToken,
    outcome::Outcome,
};
use bytes::Bytes;
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A store under test, and its clock.
#[diagnostic::on_unimplemented(
    message = "the contract cannot be run on `{Self}`",
    note = "implement `Subject` for a type of your test that makes your dead-letter store"
)]
pub trait Subject {
    /// The store. Its clones share their entries.
    type Store: LetterStore + Clone;

    /// Makes an empty store. Called once for each rule.
    fn store(&self) -> impl Future<Output = Self::Store>;

    /// Advances the clock of the store, or waits.
    fn advance(&self, by: Duration) -> impl Future<Output = ()>;
}

/// The lease of the contract's claims. It is short, for stores whose clock cannot be moved.
const LEASE: Duration = Duration::from_secs(1);
/// Longer than the lease.
const LATER: Duration = Duration::from_millis(1_500);
/// The interval at which tests look for a change that happens soon.
const SHORT: Duration = Duration::from_millis(20);
/// Longer than the contract takes.
const LONG: Duration = Duration::from_secs(600);

/// Checks every rule, one after another, each on its own store.
///
/// # Panics
///
/// When a rule does not hold. The message names the rule.
pub async fn check<S: Subject>(subject: &S) {
    an_entry_comes_back_as_it_was(subject).await;
    a_large_entry_is_kept_to_the_byte(subject).await;
    an_entry_that_is_written_twice_is_one(subject).await;
    an_entry_written_again_keeps_its_count_and_claim(subject).await;
    a_list_is_newest_first_and_in_parts(subject).await;
    pages_hold_while_others_write(subject).await;
    a_filter_finds_what_it_says(subject).await;
    one_of_many_claims_an_entry(subject).await;
    a_claim_counts_and_the_limit_holds(subject).await;
    a_lease_that_ends_frees_the_entry(subject).await;
    a_renewed_lease_holds(subject).await;
    a_late_holder_is_heard_until_another_claims(subject).await;
    a_stale_holder_changes_nothing(subject).await;
    a_released_entry_is_as_it_was_given_back(subject).await;
    a_removed_entry_is_gone(subject).await;
    an_entry_that_is_gone_stays_gone(subject).await;
    a_claim_that_nobody_got_is_given_back(subject).await;
    an_entry_in_progress_is_not_discarded(subject).await;
    what_is_not_there_is_missing(subject).await;
}

fn done<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => panic!("contract: the store failed: {error:?}"),
    }
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second)
}

fn id(number: u64) -> EntryId {
    let mut bytes = [0xC0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

/// The entry of this number, with every field set.
fn entry(number: u64) -> Entry {
    let cause = Cause::new(Reason::RetriesExhausted)
        .with_code(Some(503))
        .with_class("throttled")
        .with_message("the peer answered 503 \"busy\"\nagain");
    let mut entry = Entry::new(id(number), "http", "peer.test", cause, at(number));
    entry.direction = Direction::Inbound;
    entry.method = Some("POST".to_owned());
    entry.uri = Some("https://peer.test/hooks?a=1".to_owned());
    entry.headers = vec![
        (
            "content-type".to_owned(),
            Bytes::from_static(b"application/json"),
        ),
        ("x-odd".to_owned(), Bytes::from_static(b"\xff\xfe")),
        ("x-odd".to_owned(), Bytes::new()),
    ];
    entry.body = EntryBody::new(&Bytes::from(format!("{{\"number\":{number}}}")), 1024);
    let mut history = History::new();
    let (second, outcome) = (
        Duration::from_secs(1),
        Outcome::throttled(None).with_code(503),
    );
    history.push(AttemptRecord::new(1, Duration::ZERO, second, outcome).with_wait(second));
    history.push(AttemptRecord::new(2, second * 2, second, outcome));
    entry.history = history.with_gave_up(GaveUp::RetriesExhausted);
    entry.first_attempt_at = Some(at(number.saturating_sub(3)));
    entry.last_attempt_at = Some(at(number));
    entry.event_time = Some(at(0));
    entry.event_id = Some(format!("evt_{number}"));
    entry.idempotency_key = Some(format!("key_{number}"));
    entry.replay_of = Some("evt_0".to_owned());
    entry.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
    entry.task_id = Some(EntryId::from_bytes([9; 16]));
    entry.dedup_key = Some("key:tenant:evt_1".to_owned());
    entry.fifo_group = Some("order".to_owned());
    entry.credentials_left_out = 1;
    entry
}

async fn write<St: LetterStore>(store: &St, entry: &Entry) {
    done(store.write(&Arc::new(entry.clone())).await);
}

async fn get<St: LetterStore>(store: &St, id: EntryId) -> Option<Entry> {
    done(store.get(id).await)
}

async fn list<St: LetterStore>(store: &St, filter: &Filter, page: &Page) -> Listing {
    done(store.list(filter, page).await)
}

async fn count<St: LetterStore>(store: &St) -> u64 {
    done(store.count(&Filter::all()).await)
}

async fn claim<St: LetterStore>(store: &St, id: EntryId, lease: Duration) -> (FencingToken, Entry) {
    match done(store.claim(id, lease, u32::MAX).await) {
        EntryClaim::Claimed { token, entry } => (token, *entry),
        other => panic!("contract: a free entry must be claimed, got {other:?}"),
    }
}

async fn is_in_progress<St: LetterStore>(store: &St, id: EntryId) -> bool {
    match done(store.claim(id, LEASE, u32::MAX).await) {
        EntryClaim::InProgress { .. } => true,
        EntryClaim::Claimed { .. } => false,
        other => panic!("contract: the entry is there, got {other:?}"),
    }
}
