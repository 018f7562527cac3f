//! The tests that every [`LetterStore`] must pass, for those who write one.
//!
//! A store whose clock cannot be moved is given real time: its
//! [`advance`](Subject::advance) sleeps, which takes some ten seconds altogether.
//!
//! ```
//! use std::time::Duration;
//! use tower_webhook::dead_letter::{MemoryLetters, contract};
//!
//! struct Subject;
//!
//! impl contract::Subject for Subject {
//!     type Store = MemoryLetters;
//!
//!     async fn store(&self) -> MemoryLetters {
//!         MemoryLetters::default()
//!     }
//!
//!     // These letters live by tokio's clock, which a test can move. Where real time is needed:
//!     // `tokio::time::sleep(by).await`.
//!     async fn advance(&self, by: Duration) {
//!         tokio::time::advance(by).await;
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! contract::check(&Subject).await;
//! # });
//! ```

use super::{
    Cause, Direction, Discarded, Filter, Letter, LetterBody, LetterClaim, LetterId, LetterStore,
    Listing, Page, Reason, SinkError,
};
use crate::{
    attempt::{AttemptRecord, GaveUp, History},
    fence::{Settled, Token},
    outcome::Outcome,
};
use bytes::Bytes;
use std::{
    collections::HashSet,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A store under test, and its clock.
pub trait Subject {
    /// The store. Its clones share what they keep.
    type Store: LetterStore + Clone;

    /// An empty store. It is called once for each rule.
    fn store(&self) -> impl Future<Output = Self::Store>;

    /// Lets this much time pass for the store: a paused clock is moved, a real one waited for.
    fn advance(&self, by: Duration) -> impl Future<Output = ()>;
}

/// The lease of the contract's claims: short, for stores whose clock cannot be moved.
const LEASE: Duration = Duration::from_secs(1);
/// Past it.
const LATER: Duration = Duration::from_millis(1_500);
/// Longer than the contract takes.
const LONG: Duration = Duration::from_secs(600);

/// Checks every rule, one after another, each on its own store.
///
/// # Panics
///
/// When a rule does not hold, with its name.
pub async fn check<S: Subject>(subject: &S) {
    a_letter_comes_back_as_it_was(subject).await;
    a_large_letter_is_kept_to_the_byte(subject).await;
    a_letter_that_is_written_twice_is_one(subject).await;
    a_letter_written_again_keeps_its_count_and_claim(subject).await;
    a_list_is_newest_first_and_in_parts(subject).await;
    pages_hold_while_others_write(subject).await;
    a_filter_finds_what_it_says(subject).await;
    one_of_many_claims_a_letter(subject).await;
    a_claim_counts_and_the_limit_holds(subject).await;
    a_lease_that_ends_frees_the_letter(subject).await;
    a_renewed_lease_holds(subject).await;
    a_stale_holder_changes_nothing(subject).await;
    a_released_letter_is_as_it_was_given_back(subject).await;
    a_removed_letter_is_gone(subject).await;
    a_letter_in_progress_is_not_discarded(subject).await;
    what_is_not_there_is_missing(subject).await;
}

fn done<T>(result: Result<T, SinkError>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => panic!("contract: the store failed: {error:?}"),
    }
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second)
}

fn id(number: u64) -> LetterId {
    let mut bytes = [0xC0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    LetterId::from_bytes(bytes)
}

/// The letter of this number, with something in every field.
fn letter(number: u64) -> Letter {
    let cause = Cause::new(Reason::RetriesExhausted)
        .with_code(Some(503))
        .with_class("throttled")
        .with_message("the peer answered 503 \"busy\"\nagain");
    let mut letter = Letter::new(id(number), "http", "peer.test", cause, at(number));
    letter.direction = Direction::Inbound;
    letter.method = Some("POST".to_owned());
    letter.uri = Some("https://peer.test/hooks?a=1".to_owned());
    letter.headers = vec![
        (
            "content-type".to_owned(),
            Bytes::from_static(b"application/json"),
        ),
        ("x-odd".to_owned(), Bytes::from_static(b"\xff\xfe")),
        ("x-odd".to_owned(), Bytes::new()),
    ];
    letter.body = LetterBody::new(&Bytes::from(format!("{{\"number\":{number}}}")), 1024);
    let mut history = History::new();
    let (second, outcome) = (
        Duration::from_secs(1),
        Outcome::throttled(None).with_code(503),
    );
    history.push(AttemptRecord::new(1, Duration::ZERO, second, outcome).with_wait(second));
    history.push(AttemptRecord::new(2, second * 2, second, outcome));
    letter.history = history.with_gave_up(GaveUp::RetriesExhausted);
    letter.first_attempt_at = Some(at(number.saturating_sub(3)));
    letter.last_attempt_at = Some(at(number));
    letter.event_time = Some(at(0));
    letter.event_id = Some(format!("evt_{number}"));
    letter.idempotency_key = Some(format!("key_{number}"));
    letter.replay_of = Some("evt_0".to_owned());
    letter.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
    letter
}

async fn write<St: LetterStore>(store: &St, letter: &Letter) {
    done(store.write(&Arc::new(letter.clone())).await);
}

async fn get<St: LetterStore>(store: &St, id: LetterId) -> Option<Letter> {
    done(store.get(id).await)
}

async fn list<St: LetterStore>(store: &St, filter: &Filter, page: &Page) -> Listing {
    done(store.list(filter, page).await)
}

async fn count<St: LetterStore>(store: &St) -> u64 {
    done(store.count(&Filter::all()).await)
}

async fn claim<St: LetterStore>(store: &St, id: LetterId, lease: Duration) -> (Token, Letter) {
    match done(store.claim(id, lease, u32::MAX).await) {
        LetterClaim::Claimed { token, letter } => (token, *letter),
        other => panic!("contract: a free letter must be claimed, got {other:?}"),
    }
}

async fn is_in_progress<St: LetterStore>(store: &St, id: LetterId) -> bool {
    match done(store.claim(id, LEASE, u32::MAX).await) {
        LetterClaim::InProgress { .. } => true,
        LetterClaim::Claimed { .. } => false,
        other => panic!("contract: the letter is there, got {other:?}"),
    }
}

/// Every field of a letter comes back, and its summary says the same.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_letter_comes_back_as_it_was<S: Subject>(subject: &S) {
    let store = subject.store().await;
    let plain = Letter::new(id(2), "", "", Cause::new(Reason::Panicked), at(2));
    for expected in [letter(1), plain] {
        write(&store, &expected).await;
        let found = get(&store, expected.id).await;
        assert_eq!(
            found.as_ref(),
            Some(&expected),
            "contract: every field comes back"
        );
        let listing = list(&store, &Filter::all(), &Page::first(1)).await;
        assert_eq!(
            listing.letters,
            [super::Summary::of(&expected, false)],
            "contract: the summary is that of the letter"
        );
    }
}

/// Bodies come back to the byte: empty, binary, of 256 KiB that need the most escaping, and cut.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_large_letter_is_kept_to_the_byte<S: Subject>(subject: &S) {
    let store = subject.store().await;
    let most = 256 * 1024;
    let binary: Vec<u8> = (0..=255).collect();
    let bodies = [
        Vec::new(),
        binary.repeat(1024),
        vec![0; most],
        vec![b'\n'; most],
        "\u{2028}é".repeat(most / 5).into_bytes(),
        vec![b'x'; most + 1],
    ];
    for (number, body) in (1..).zip(bodies) {
        let mut expected = letter(number);
        expected.body = LetterBody::new(&body.into(), most);
        expected.cause = expected
            .cause
            .with_message(&"\u{1}".repeat(Letter::MAX_MESSAGE));
        write(&store, &expected).await;
        let found = get(&store, expected.id).await;
        assert!(
            found.as_ref() == Some(&expected),
            "contract: body {number} is kept to the byte"
        );
        let (token, claimed) = claim(&store, expected.id, LONG).await;
        expected.replays = 1;
        assert!(
            claimed == expected,
            "contract: body {number} is claimed whole"
        );
        let settled = done(store.release(token, &Arc::new(claimed)).await);
        assert_eq!(settled, Settled::Done, "contract: the holder may release");
        let found = get(&store, expected.id).await;
        assert!(
            found == Some(expected),
            "contract: body {number} stays whole"
        );
    }
}

/// A letter whose id is there already replaces it, where it is.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_letter_that_is_written_twice_is_one<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=3 {
        write(&store, &letter(number)).await;
    }
    let mut again = letter(2);
    again.cause = Cause::new(Reason::Deadline);
    again.body = LetterBody::new(&Bytes::from_static(b"another"), 1024);
    for _ in 0..3 {
        write(&store, &again).await;
    }
    assert_eq!(count(&store).await, 3, "contract: one id is one letter");
    assert_eq!(
        get(&store, id(2)).await,
        Some(again),
        "contract: the last one counts"
    );
    let listing = list(&store, &Filter::all(), &Page::first(10)).await;
    let ids: Vec<_> = listing.letters.iter().map(|summary| summary.id).collect();
    assert_eq!(ids, [id(3), id(2), id(1)], "contract: it keeps its place");
}

/// A letter that is written again while it is sent, or after it was, has its claim and the greater
/// count.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_letter_written_again_keeps_its_count_and_claim<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &letter(1)).await;
    let (token, mut claimed) = claim(&store, id(1), LONG).await;
    write(&store, &letter(1)).await;
    assert!(
        is_in_progress(&store, id(1)).await,
        "contract: a letter written again keeps its claim"
    );
    let replays = get(&store, id(1)).await.map(|letter| letter.replays);
    assert_eq!(replays, Some(1), "contract: it keeps the greater count");
    claimed.replays = 0;
    let settled = done(store.release(token, &Arc::new(claimed)).await);
    assert_eq!(settled, Settled::Done, "contract: the claim is the same");
    let (_, claimed) = claim(&store, id(1), LONG).await;
    assert_eq!(
        claimed.replays, 2,
        "contract: no release takes a count back"
    );
}

/// Pages of any size give every letter once, newest first, and then end.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_list_is_newest_first_and_in_parts<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=10 {
        write(&store, &letter(number)).await;
    }
    let newest_first: Vec<_> = (1..=10).rev().map(id).collect();
    for limit in [1, 3, 5, 10, 11] {
        let (mut page, mut found) = (Page::first(limit), Vec::new());
        loop {
            let listing = list(&store, &Filter::all(), &page).await;
            assert!(
                listing.letters.len() <= limit,
                "contract: a page has its limit"
            );
            assert_eq!(listing.unreadable, 0, "contract: all of these can be read");
            found.extend(listing.letters.iter().map(|summary| summary.id));
            match listing.next {
                // As it goes through an operator's hands.
                Some(next) => match next.to_string().parse() {
                    Ok(cursor) => page = Page::first(limit).after(cursor),
                    Err(error) => panic!("contract: a cursor comes back from text: {error}"),
                },
                None => break,
            }
            assert!(found.len() <= 10, "contract: pages of {limit} end");
        }
        assert_eq!(
            found, newest_first,
            "contract: pages of {limit}, newest first"
        );
    }
}

/// Letters that are written, claimed and removed between two pages neither repeat others nor hide
/// them.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn pages_hold_while_others_write<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=20 {
        write(&store, &letter(number)).await;
    }
    let (mut page, mut found, mut round) = (Page::first(4), Vec::new(), 0);
    loop {
        let listing = list(&store, &Filter::all(), &page).await;
        found.extend(listing.letters.iter().map(|summary| summary.id));
        let Some(next) = listing.next else { break };
        page = Page::first(4).after(next);
        round += 1;
        write(&store, &letter(100 + round)).await;
        // One that was listed and one that is to come are written again, one that was listed goes.
        write(&store, &letter(20)).await;
        write(&store, &letter(1)).await;
        let seen = found[found.len() - 2];
        let discarded = done(store.discard(seen).await);
        assert_eq!(discarded, Discarded::Done, "contract: a free letter goes");
        if round == 1 {
            let (token, claimed) = claim(&store, id(2), LONG).await;
            let settled = done(store.release(token, &Arc::new(claimed)).await);
            assert_eq!(settled, Settled::Done, "contract: the holder may release");
        }
        assert!(round < 20, "contract: pages end");
    }
    let once: HashSet<_> = found.iter().copied().collect();
    assert_eq!(once.len(), found.len(), "contract: pages do not repeat");
    let all = (1..=20).all(|number| once.contains(&id(number)));
    assert!(all, "contract: pages are complete: {found:?}");
}

/// Each condition of a filter holds, alone and with others, in lists and counts.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_filter_finds_what_it_says<S: Subject>(subject: &S) {
    let store = subject.store().await;
    let mut letters: Vec<_> = (1..=6).map(letter).collect();
    letters[1].cause = Cause::new(Reason::Rejected);
    letters[3].cause = Cause::new(Reason::Rejected);
    letters[3].target = String::from("other.test");
    letters[4].target = String::from("peer.test%");
    letters[5].event_id = None;
    for letter in &letters {
        write(&store, letter).await;
    }
    let all = Filter::all();
    let cases: [(Filter, &[u64]); 12] = [
        (all.clone(), &[6, 5, 4, 3, 2, 1]),
        (all.clone().reason(Reason::Rejected), &[4, 2]),
        (all.clone().reason(Reason::Window), &[]),
        (all.clone().target("other.test"), &[4]),
        (all.clone().target("OTHER.test"), &[]),
        (all.clone().target("peer.test%"), &[5]),
        (all.clone().event_id("evt_3"), &[3]),
        (all.clone().event_id(""), &[]),
        (all.clone().written_from(at(5)), &[6, 5]),
        (all.clone().written_before(at(2)), &[1]),
        (
            all.clone().written_from(at(2)).written_before(at(4)),
            &[3, 2],
        ),
        (all.reason(Reason::Rejected).target("peer.test"), &[2]),
    ];
    for (filter, expected) in cases {
        let mut expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
        let found = done(store.count(&filter).await);
        assert_eq!(
            found,
            expected.len() as u64,
            "contract: a count of {filter:?}"
        );
        let (mut page, mut found) = (Page::first(1), Vec::new());
        loop {
            let listing = list(&store, &filter, &page).await;
            found.extend(listing.letters.iter().map(|summary| summary.id));
            let Some(next) = listing.next else { break };
            page = Page::first(1).after(next);
            assert!(
                found.len() <= expected.len(),
                "contract: pages of {filter:?} end"
            );
        }
        assert_eq!(
            found,
            std::mem::take(&mut expected),
            "contract: a list of {filter:?}"
        );
    }
}

/// Of 50 concurrent claims of a letter one gets it and 49 are told so.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn one_of_many_claims_a_letter<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for round in 1..=10 {
        write(&store, &letter(round)).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let claim = store.claim(id(round), LONG, 5);
            tasks.spawn(claim);
        }
        let mut claimed = 0;
        while let Some(result) = tasks.join_next().await {
            match result {
                Ok(Ok(LetterClaim::Claimed { letter, .. })) => {
                    assert_eq!(letter.replays, 1, "contract: one claim counts once");
                    claimed += 1;
                }
                Ok(Ok(LetterClaim::InProgress { lease_left })) => {
                    assert!(lease_left <= LONG, "contract: a lease does not grow");
                }
                other => panic!("contract: a claimed letter must be in progress, got {other:?}"),
            }
        }
        assert_eq!(claimed, 1, "contract: one of many claims a letter");
        let listing = list(&store, &Filter::all(), &Page::first(1)).await;
        let shown = listing
            .letters
            .first()
            .map(|it| (it.in_progress, it.replays));
        assert_eq!(
            shown,
            Some((true, 1)),
            "contract: a list shows what is in progress"
        );
    }
}

/// Every claim counts, also one that nobody settled, and at the limit there is no other.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_claim_counts_and_the_limit_holds<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &letter(1)).await;
    let (token, claimed) = claim(&store, id(1), LONG).await;
    assert_eq!(claimed.replays, 1, "contract: a claim counts");
    let settled = done(store.release(token, &Arc::new(claimed)).await);
    assert_eq!(settled, Settled::Done, "contract: the holder may release");
    // This one dies.
    let (_, claimed) = claim(&store, id(1), LEASE).await;
    assert_eq!(claimed.replays, 2, "contract: a claim counts");
    let busy = done(store.claim(id(1), LEASE, 2).await);
    assert!(
        matches!(busy, LetterClaim::InProgress { .. }),
        "contract: the last replay is in progress while it is, got {busy:?}"
    );
    subject.advance(LATER).await;
    for most in [2, 1, 0] {
        assert_eq!(
            done(store.claim(id(1), LEASE, most).await),
            LetterClaim::Spent { replays: 2 },
            "contract: {most} replays are all there are"
        );
    }
    let replays = get(&store, id(1)).await.map(|letter| letter.replays);
    assert_eq!(replays, Some(2), "contract: a refused claim does not count");
    let (_, claimed) = claim(&store, id(1), LEASE).await;
    assert_eq!(claimed.replays, 3, "contract: a higher limit allows more");
}

/// When a lease ends, the letter can be claimed, and its next token is greater.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_lease_that_ends_frees_the_letter<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &letter(1)).await;
    let (first, _) = claim(&store, id(1), LEASE).await;
    assert!(
        is_in_progress(&store, id(1)).await,
        "contract: a claim excludes others"
    );
    subject.advance(LATER).await;
    let listing = list(&store, &Filter::all(), &Page::first(1)).await;
    assert!(
        listing.letters.iter().all(|summary| !summary.in_progress),
        "contract: what nobody holds is not in progress"
    );
    let (second, _) = claim(&store, id(1), LEASE).await;
    assert!(second > first, "contract: a later token is greater");
}

/// A claim that is renewed outlives its first lease.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_renewed_lease_holds<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &letter(1)).await;
    let (token, _) = claim(&store, id(1), LEASE).await;
    for _ in 0..3 {
        subject.advance(LEASE / 2).await;
        let settled = done(store.renew(id(1), token, LEASE).await);
        assert_eq!(settled, Settled::Done, "contract: the holder may renew");
    }
    assert!(
        is_in_progress(&store, id(1)).await,
        "contract: a renewed lease holds"
    );
}

/// A holder whose lease is over can neither renew, release nor remove: not while the letter is
/// free, and not after it passed to another.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_stale_holder_changes_nothing<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &letter(1)).await;
    let (stale, mut late) = claim(&store, id(1), LEASE).await;
    late.cause = Cause::new(Reason::Window);
    let late = Arc::new(late);
    let made_up = Token::new(stale.get().wrapping_add(1_000));
    subject.advance(LATER).await;
    let mut current = None;
    for state in ["a free letter", "another's letter"] {
        for token in [stale, made_up] {
            for (operation, result) in [
                ("renewal", done(store.renew(id(1), token, LONG).await)),
                ("release", done(store.release(token, &late).await)),
                ("removal", done(store.remove(id(1), token).await)),
            ] {
                assert_eq!(
                    result,
                    Settled::Lost,
                    "contract: a stale {operation} of {state} is refused"
                );
            }
        }
        if current.is_none() {
            current = Some(claim(&store, id(1), LONG).await);
        }
    }
    let reason = get(&store, id(1)).await.map(|letter| letter.cause.reason);
    assert_eq!(
        reason,
        Some(Reason::RetriesExhausted),
        "contract: a stale holder changes nothing"
    );
    assert!(
        is_in_progress(&store, id(1)).await,
        "contract: the current claim stays"
    );
    if let Some((token, _)) = current {
        let settled = done(store.remove(id(1), token).await);
        assert_eq!(
            settled,
            Settled::Done,
            "contract: the current holder removes"
        );
    }
}

/// A released letter is free at once, with the cause and history that it was given back with, and
/// its claim cannot be settled again.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_released_letter_is_as_it_was_given_back<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &letter(1)).await;
    write(&store, &letter(2)).await;
    let (token, mut claimed) = claim(&store, id(1), LONG).await;
    claimed.cause = Cause::new(Reason::Rejected)
        .with_code(Some(410))
        .with_message("gone");
    let gone = Outcome::permanent().with_code(410);
    claimed
        .history
        .push(AttemptRecord::new(3, LONG, LEASE, gone));
    claimed.last_attempt_at = Some(at(100));
    let newest = Arc::new(claimed);
    let settled = done(store.release(token, &newest).await);
    assert_eq!(settled, Settled::Done, "contract: the holder may release");
    let found = get(&store, id(1)).await;
    assert_eq!(
        found.as_ref(),
        Some(&*newest),
        "contract: a release keeps the newest"
    );
    let rejected = Filter::all().reason(Reason::Rejected);
    let listing = list(&store, &rejected, &Page::first(5)).await;
    assert_eq!(
        listing.letters,
        [super::Summary::of(&newest, false)],
        "contract: lists and filters see the newest"
    );
    for again in [
        done(store.release(token, &newest).await),
        done(store.renew(id(1), token, LONG).await),
        done(store.remove(id(1), token).await),
    ] {
        assert_eq!(again, Settled::Lost, "contract: a claim is settled once");
    }
    let (next, _) = claim(&store, id(1), LONG).await;
    assert!(next > token, "contract: a later token is greater");
}

/// A removed letter is in no list, and its neighbours are.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_removed_letter_is_gone<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=3 {
        write(&store, &letter(number)).await;
    }
    let (token, _) = claim(&store, id(2), LONG).await;
    let settled = done(store.remove(id(2), token).await);
    assert_eq!(settled, Settled::Done, "contract: the holder may remove");
    let settled = done(store.remove(id(2), token).await);
    assert_eq!(settled, Settled::Lost, "contract: once");
    assert_eq!(
        get(&store, id(2)).await,
        None,
        "contract: a removed letter is gone"
    );
    let claimed = done(store.claim(id(2), LEASE, u32::MAX).await);
    assert_eq!(
        claimed,
        LetterClaim::Missing,
        "contract: a removed letter is gone"
    );
    assert_eq!(
        count(&store).await,
        2,
        "contract: a removed letter does not count"
    );
    let listing = list(&store, &Filter::all(), &Page::first(10)).await;
    let ids: Vec<_> = listing.letters.iter().map(|summary| summary.id).collect();
    assert_eq!(ids, [id(3), id(1)], "contract: the others stay");
    write(&store, &letter(2)).await;
    let again = get(&store, id(2)).await;
    assert_eq!(
        again,
        Some(letter(2)),
        "contract: the same id can come again"
    );
}

/// A letter that is being sent again is not discarded; a free one is.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_letter_in_progress_is_not_discarded<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &letter(1)).await;
    let (token, claimed) = claim(&store, id(1), LONG).await;
    let refused = done(store.discard(id(1)).await);
    assert_eq!(
        refused,
        Discarded::InProgress,
        "contract: not while it is sent"
    );
    let settled = done(store.release(token, &Arc::new(claimed)).await);
    assert_eq!(settled, Settled::Done, "contract: the claim is as it was");
    let discarded = done(store.discard(id(1)).await);
    assert_eq!(discarded, Discarded::Done, "contract: a free letter goes");
    assert_eq!(get(&store, id(1)).await, None, "contract: and is gone");
    let again = done(store.discard(id(1)).await);
    assert_eq!(again, Discarded::Missing, "contract: once");
}

/// An id that no letter has is an answer, not an error.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn what_is_not_there_is_missing<S: Subject>(subject: &S) {
    let store = subject.store().await;
    assert_eq!(count(&store).await, 0, "contract: the store is empty");
    let listing = list(&store, &Filter::all(), &Page::first(10)).await;
    assert_eq!(
        listing,
        Listing::default(),
        "contract: an empty list is the end"
    );
    assert_eq!(get(&store, id(1)).await, None, "contract: none");
    let claimed = done(store.claim(id(1), LEASE, 5).await);
    assert_eq!(claimed, LetterClaim::Missing, "contract: none to claim");
    let token = Token::new(1);
    for settled in [
        done(store.renew(id(1), token, LEASE).await),
        done(store.remove(id(1), token).await),
        done(store.release(token, &Arc::new(letter(1))).await),
    ] {
        assert_eq!(settled, Settled::Lost, "contract: none to settle");
    }
    assert_eq!(
        count(&store).await,
        0,
        "contract: and a release writes none"
    );
    let discarded = done(store.discard(id(1)).await);
    assert_eq!(discarded, Discarded::Missing, "contract: none to discard");
}
