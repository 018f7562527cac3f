//! Rules for writing and finding entries.

use super::{LONG, Subject, at, claim, count, done, entry, get, id, is_in_progress, list, write};
use crate::{
    dead_letter::{Cause, Discarded, Entry, EntryBody, Filter, LetterStore, Page, Reason, Summary},
    lease::Settled,
};
use bytes::Bytes;
use std::{collections::HashSet, sync::Arc};

/// An entry is returned with every field unchanged, and its summary agrees.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn an_entry_comes_back_as_it_was<S: Subject>(subject: &S) {
    let store = subject.store().await;
    let plain = Entry::new(id(2), "", "", Cause::new(Reason::Panicked), at(2));
    for expected in [entry(1), plain] {
        write(&store, &expected).await;
        let found = get(&store, expected.id).await;
        assert_eq!(
            found.as_ref(),
            Some(&expected),
            "contract: every field comes back"
        );
        let listing = list(&store, &Filter::all(), &Page::first(1)).await;
        assert_eq!(
            listing.entries,
            [Summary::of(&expected, false)],
            "contract: the summary is that of the entry"
        );
    }
}

/// Bodies are returned byte for byte: empty, binary, 256 KiB with the most escaping, and cut.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_large_entry_is_kept_to_the_byte<S: Subject>(subject: &S) {
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
        let mut expected = entry(number);
        expected.body = EntryBody::new(&body.into(), most);
        expected.cause = expected
            .cause
            .with_message(&"\u{1}".repeat(Entry::MAX_MESSAGE));
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

/// Writing an entry with an existing id replaces it, at the same position.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn an_entry_that_is_written_twice_is_one<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=3 {
        write(&store, &entry(number)).await;
    }
    let mut again = entry(2);
    again.cause = Cause::new(Reason::Deadline);
    again.body = EntryBody::new(&Bytes::from_static(b"another"), 1024);
    for _ in 0..3 {
        write(&store, &again).await;
    }
    assert_eq!(count(&store).await, 3, "contract: one id is one entry");
    assert_eq!(
        get(&store, id(2)).await,
        Some(again),
        "contract: the last one counts"
    );
    let listing = list(&store, &Filter::all(), &Page::first(10)).await;
    let ids: Vec<_> = listing.entries.iter().map(|summary| summary.id).collect();
    assert_eq!(ids, [id(3), id(2), id(1)], "contract: it keeps its place");
}

/// An entry that is written again keeps its claim and the greater number of replays.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn an_entry_written_again_keeps_its_count_and_claim<S: Subject>(subject: &S) {
    let store = subject.store().await;
    write(&store, &entry(1)).await;
    let (token, mut claimed) = claim(&store, id(1), LONG).await;
    write(&store, &entry(1)).await;
    assert!(
        is_in_progress(&store, id(1)).await,
        "contract: an entry written again keeps its claim"
    );
    let replays = get(&store, id(1)).await.map(|entry| entry.replays);
    assert_eq!(replays, Some(1), "contract: it keeps the greater count");
    // As when this side refused to send it.
    claimed.replays = 0;
    let settled = done(store.release(token, &Arc::new(claimed)).await);
    assert_eq!(settled, Settled::Done, "contract: the claim is the same");
    let (_, claimed) = claim(&store, id(1), LONG).await;
    assert_eq!(
        claimed.replays, 1,
        "contract: a release takes the count back where it says so"
    );
}

/// Pages of any size contain every entry once, newest first, and then end.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_list_is_newest_first_and_in_parts<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=10 {
        write(&store, &entry(number)).await;
    }
    let newest_first: Vec<_> = (1..=10).rev().map(id).collect();
    for limit in [1, 3, 5, 10, 11] {
        let (mut page, mut found) = (Page::first(limit), Vec::new());
        loop {
            let listing = list(&store, &Filter::all(), &page).await;
            assert!(
                listing.entries.len() <= limit,
                "contract: a page has its limit"
            );
            assert_eq!(listing.unreadable, 0, "contract: all of these can be read");
            found.extend(listing.entries.iter().map(|summary| summary.id));
            match listing.next {
                // The cursor goes through its text form, as it does for an operator.
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

/// Writes, claims and removals between two pages neither repeat entries nor hide them.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn pages_hold_while_others_write<S: Subject>(subject: &S) {
    let store = subject.store().await;
    for number in 1..=20 {
        write(&store, &entry(number)).await;
    }
    let (mut page, mut found, mut round) = (Page::first(4), Vec::new(), 0);
    loop {
        let listing = list(&store, &Filter::all(), &page).await;
        found.extend(listing.entries.iter().map(|summary| summary.id));
        let Some(next) = listing.next else { break };
        page = Page::first(4).after(next);
        round += 1;
        write(&store, &entry(100 + round)).await;
        // A listed entry and one that is not listed yet are written again; another listed one is removed.
        write(&store, &entry(20)).await;
        write(&store, &entry(1)).await;
        let seen = found[found.len() - 2];
        let discarded = done(store.discard(seen).await);
        assert_eq!(discarded, Discarded::Done, "contract: a free entry goes");
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
    let mut entries: Vec<_> = (1..=6).map(entry).collect();
    entries[1].cause = Cause::new(Reason::Rejected);
    entries[3].cause = Cause::new(Reason::Rejected);
    entries[3].target = String::from("other.test");
    entries[4].target = String::from("peer.test%");
    entries[5].event_id = None;
    for entry in &entries {
        write(&store, entry).await;
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
            found.extend(listing.entries.iter().map(|summary| summary.id));
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
