//! Rules for claims and how they end.

use super::{
    LATER, LEASE, LONG, SHORT, Subject, at, claim, count, done, entry, get, id, is_in_progress,
    list, write,
};
use crate::{
    attempt::AttemptRecord,
    dead_letter::{
        Cause, Discarded, EntryClaim, Filter, LetterStore, Listing, Page, Reason, Summary,
    },
    lease::{FencingToken, Settled},
    outcome::Outcome,
};
use std::{future::poll_fn, sync::Arc, task::Poll};

/// Of 50 concurrent claims of an entry one succeeds, and 49 find it in progress.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn one_of_many_claims_an_entry<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for round in 1..=10 {
        write(&store, &entry(round)).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let claim = store.claim(id(round), LONG, 5);
            tasks.spawn(claim);
        }
        let mut claimed = 0;
        while let Some(result) = tasks.join_next().await {
            match result {
                Ok(Ok(EntryClaim::Claimed { entry, .. })) => {
                    assert_eq!(entry.replays, 1, "contract: one claim counts once");
                    claimed += 1;
                }
                Ok(Ok(EntryClaim::InProgress { lease_left })) => {
                    assert!(lease_left <= LONG, "contract: a lease does not grow");
                }
                other => panic!("contract: a claimed entry must be in progress, got {other:?}"),
            }
        }
        assert_eq!(claimed, 1, "contract: one of many claims an entry");
        let listing = list(&store, &Filter::all(), &Page::first(1)).await;
        let shown = listing
            .entries
            .first()
            .map(|it| (it.in_progress, it.replays));
        assert_eq!(
            shown,
            Some((true, 1)),
            "contract: a list shows what is in progress"
        );
    }
}

/// Every claim counts, even one that is never settled, and there is none beyond the limit.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_claim_counts_and_the_limit_holds<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &entry(1)).await;
    let (token, claimed) = claim(&store, id(1), LONG).await;
    assert_eq!(claimed.replays, 1, "contract: a claim counts");
    let settled = done(store.release(token, &Arc::new(claimed)).await);
    assert_eq!(settled, Settled::Done, "contract: the holder may release");
    // This claim is never settled.
    let (_, claimed) = claim(&store, id(1), LEASE).await;
    assert_eq!(claimed.replays, 2, "contract: a claim counts");
    let busy = done(store.claim(id(1), LEASE, 2).await);
    assert!(
        matches!(busy, EntryClaim::InProgress { .. }),
        "contract: the last replay is in progress while it is, got {busy:?}"
    );
    subject.advance(LATER).await;
    for most in [2, 1, 0] {
        assert_eq!(
            done(store.claim(id(1), LEASE, most).await),
            EntryClaim::Spent { replays: 2 },
            "contract: {most} replays are all there are"
        );
    }
    let replays = get(&store, id(1)).await.map(|entry| entry.replays);
    assert_eq!(replays, Some(2), "contract: a refused claim does not count");
    let (_, claimed) = claim(&store, id(1), LEASE).await;
    assert_eq!(claimed.replays, 3, "contract: a higher limit allows more");
}

/// When a lease ends, the entry can be claimed, and its next token is greater.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_lease_that_ends_frees_the_entry<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &entry(1)).await;
    let (first, _) = claim(&store, id(1), LEASE).await;
    assert!(
        is_in_progress(&store, id(1)).await,
        "contract: a claim excludes others"
    );
    subject.advance(LATER).await;
    let listing = list(&store, &Filter::all(), &Page::first(1)).await;
    assert!(
        listing.entries.iter().all(|summary| !summary.in_progress),
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
    write(&store, &entry(1)).await;
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

/// A holder whose lease has ended can still renew, release or remove, as long as nobody has claimed the entry
/// since: what was sent is not sent again for a moment's delay. Each does so once.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_late_holder_is_heard_until_another_claims<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=4 {
        write(&store, &entry(number)).await;
    }
    let (removes, _) = claim(&store, id(1), LEASE).await;
    let (releases, mut claimed) = claim(&store, id(2), LEASE).await;
    let (renews, _) = claim(&store, id(3), LEASE).await;
    let (discarded, _) = claim(&store, id(4), LEASE).await;
    subject.advance(LATER).await;
    let heard = "contract: a claim that ended is the holder's while nobody else has the entry";

    let removed = done(store.remove(id(1), removes).await);
    assert_eq!(removed, Settled::Done, "{heard}: it removes");
    assert_eq!(get(&store, id(1)).await, None, "contract: and it is gone");

    claimed.cause = Cause::new(Reason::Window);
    let newest = Arc::new(claimed);
    let released = done(store.release(releases, &newest).await);
    assert_eq!(released, Settled::Done, "{heard}: it releases");
    let found = get(&store, id(2)).await;
    let kept = "contract: a release keeps the newest";
    assert_eq!(found.as_ref(), Some(&*newest), "{kept}");
    for again in [
        done(store.release(releases, &newest).await),
        done(store.renew(id(2), releases, LONG).await),
        done(store.remove(id(2), releases).await),
    ] {
        assert_eq!(again, Settled::Lost, "contract: a claim is settled once");
    }

    let renewed = done(store.renew(id(3), renews, LONG).await);
    assert_eq!(renewed, Settled::Done, "{heard}: it renews");
    assert!(
        is_in_progress(&store, id(3)).await,
        "contract: a renewed lease holds"
    );

    let gone = done(store.discard(id(4)).await);
    assert_eq!(gone, Discarded::Done, "contract: a free entry goes");
    let late = done(store.remove(id(4), discarded).await);
    assert_eq!(late, Settled::Lost, "contract: what is gone has no holder");
}

/// A holder whose claim has passed to another can neither renew, release nor remove, and a token that was
/// never given can do so at no time.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_stale_holder_changes_nothing<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &entry(1)).await;
    let (stale, mut late) = claim(&store, id(1), LEASE).await;
    late.cause = Cause::new(Reason::Window);
    let late = Arc::new(late);
    let made_up = FencingToken::new(stale.get().wrapping_add(1_000));
    let refused = async |token, state: &str| {
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
    };
    refused(made_up, "a claimed entry").await;
    subject.advance(LATER).await;
    refused(made_up, "a free entry").await;
    let (current, _) = claim(&store, id(1), LONG).await;
    for token in [stale, made_up] {
        refused(token, "another's entry").await;
    }
    let reason = get(&store, id(1)).await.map(|entry| entry.cause.reason);
    assert_eq!(
        reason,
        Some(Reason::RetriesExhausted),
        "contract: a stale holder changes nothing"
    );
    assert!(
        is_in_progress(&store, id(1)).await,
        "contract: the current claim stays"
    );
    let settled = done(store.remove(id(1), current).await);
    assert_eq!(
        settled,
        Settled::Done,
        "contract: the current holder removes"
    );
}

/// A released entry can be claimed at once. It has the cause and history of the release, and the old claim
/// cannot be settled again.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_released_entry_is_as_it_was_given_back<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &entry(1)).await;
    write(&store, &entry(2)).await;
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
        listing.entries,
        [Summary::of(&newest, false)],
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

/// A removed entry is in no list, and the others still are.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_removed_entry_is_gone<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=3 {
        write(&store, &entry(number)).await;
    }
    let (token, _) = claim(&store, id(2), LONG).await;
    let settled = done(store.remove(id(2), token).await);
    assert_eq!(settled, Settled::Done, "contract: the holder may remove");
    let settled = done(store.remove(id(2), token).await);
    assert_eq!(settled, Settled::Lost, "contract: once");
    assert_eq!(
        get(&store, id(2)).await,
        None,
        "contract: a removed entry is gone"
    );
    let claimed = done(store.claim(id(2), LEASE, u32::MAX).await);
    assert_eq!(
        claimed,
        EntryClaim::Missing,
        "contract: a removed entry is gone"
    );
    assert_eq!(
        count(&store).await,
        2,
        "contract: a removed entry does not count"
    );
    let listing = list(&store, &Filter::all(), &Page::first(10)).await;
    let ids: Vec<_> = listing.entries.iter().map(|summary| summary.id).collect();
    assert_eq!(ids, [id(3), id(1)], "contract: the others stay");
}

/// Writing an entry again after it was removed or discarded succeeds and writes nothing.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn an_entry_that_is_gone_stays_gone<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=3 {
        write(&store, &entry(number)).await;
    }
    let (token, _) = claim(&store, id(1), LONG).await;
    let settled = done(store.remove(id(1), token).await);
    assert_eq!(settled, Settled::Done, "contract: the holder may remove");
    let discarded = done(store.discard(id(2)).await);
    assert_eq!(discarded, Discarded::Done, "contract: a free entry goes");
    for number in [1, 2] {
        for _ in 0..2 {
            write(&store, &entry(number)).await;
            assert_eq!(
                get(&store, id(number)).await,
                None,
                "contract: an entry that is gone does not come again"
            );
        }
        let claimed = done(store.claim(id(number), LEASE, u32::MAX).await);
        assert_eq!(
            claimed,
            EntryClaim::Missing,
            "contract: what is gone cannot be claimed"
        );
    }
    assert_eq!(count(&store).await, 1, "contract: what is gone is gone");
    let listing = list(&store, &Filter::all(), &Page::first(10)).await;
    let ids: Vec<_> = listing.entries.iter().map(|summary| summary.id).collect();
    assert_eq!(ids, [id(3)], "contract: the others stay");
}

/// A claim whose future is dropped before it returned is released and does not count, whether the future
/// was never polled, polled once, or dropped when the claim was done.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_claim_that_nobody_got_is_given_back<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &entry(1)).await;
    for way in 0..3 {
        let mut dropped = store.claim(id(1), LONG, 1);
        let given = match way {
            0 => false,
            1 => poll_fn(|cx| Poll::Ready(dropped.as_mut().poll(cx).is_ready())).await,
            _ => {
                // The claim is made, and nobody has read its result.
                let _ = get(&store, id(1)).await;
                subject.advance(SHORT).await;
                false
            }
        };
        if given {
            // A store that answers at once has returned the entry already.
            return;
        }
        drop(dropped);
        let mut tries = 0;
        let (token, claimed) = loop {
            match done(store.claim(id(1), LONG, 1).await) {
                EntryClaim::Claimed { token, entry } => break (token, entry),
                other => assert!(
                    tries < 50,
                    "contract: a claim that nobody got is released, got {other:?}"
                ),
            }
            tries += 1;
            subject.advance(SHORT).await;
        };
        assert_eq!(
            claimed.replays, 1,
            "contract: a claim that nobody got does not count"
        );
        let mut unsent = *claimed;
        unsent.replays = 0;
        let settled = done(store.release(token, &Arc::new(unsent)).await);
        assert_eq!(settled, Settled::Done, "contract: the holder may release");
    }
}

/// A claimed entry is not discarded; an unclaimed one is.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn an_entry_in_progress_is_not_discarded<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &entry(1)).await;
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
    assert_eq!(discarded, Discarded::Done, "contract: a free entry goes");
    assert_eq!(get(&store, id(1)).await, None, "contract: and is gone");
    let again = done(store.discard(id(1)).await);
    assert_eq!(again, Discarded::Missing, "contract: once");
}

/// An unknown id is not an error.
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
    assert_eq!(claimed, EntryClaim::Missing, "contract: none to claim");
    let token = FencingToken::new(1);
    for settled in [
        done(store.renew(id(1), token, LEASE).await),
        done(store.remove(id(1), token).await),
        done(store.release(token, &Arc::new(entry(1))).await),
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
