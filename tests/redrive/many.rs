//! Many entries: which, how fast, how far.

use crate::support::{Answer, Peer, builder, entry, filled, id, left, redrive};
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tower_webhook::dead_letter::{
    Cause, EntryBody, Filter, LetterStore, MemoryDeadLetters, Reason, Sink,
    redrive::{Report, Run, Stop},
};
use tower_webhook::observe::{Event, observer_fn};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_run_takes_what_matches_and_says_what_became_of_each() {
    let mut entries: Vec<_> = (0..250).map(entry).collect();
    for entry in &mut entries[240..] {
        entry.cause = Cause::new(Reason::Rejected);
    }
    entries[3].body = EntryBody::new(&Bytes::from_static(b"12345"), 2);
    entries[4].replays = 5;
    let store = filled(entries).await;
    let progress = Arc::new(Mutex::new(Vec::new()));
    let heard = progress.clone();
    let peer = Peer::default();
    let client = peer.behaving(|number, _| Answer::Status(if number < 10 { 400 } else { 200 }));
    let redrive = builder(&store)
        .observe(observer_fn(move |event| match event {
            Event::Redriven { done, total, .. } => heard.lock().unwrap().push((*done, *total)),
            other => panic!("{other:?}"),
        }))
        .build(client)
        .unwrap();
    let exhausted = Filter::all().reason(Reason::RetriesExhausted);
    let report = redrive.many(exhausted, "anna").await.unwrap();

    let counts = &report;
    assert_eq!((counts.matched, counts.accepted), (240, 230));
    assert_eq!((counts.failed, counts.unsendable, counts.spent), (8, 1, 1));
    assert_eq!(
        (counts.sent(), counts.skipped(), counts.done()),
        (230, 2, 240)
    );
    assert!(!report.stopped && report.cursor.is_none());
    assert_eq!(left(&*store).await, 20);

    let expected: Vec<_> = (1..=240).map(|done| (done, 240)).collect();
    assert_eq!(*progress.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_run_sees_each_entry_once_and_none_that_came_later() {
    let store = filled((0..250).map(entry)).await;
    let peer = Peer::default();
    let writes = store.clone();
    // Each that fails has another written beside it.
    let client = peer.behaving(move |number, _| {
        let entry = Arc::new(entry(number + 1_000));
        let write = writes.write(&entry);
        tokio::spawn(write);
        Answer::Status(500)
    });
    let redrive = redrive(&store, client);
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!(report.failed, 250);
    let seen = peer.seen();
    assert_eq!(seen.len(), 250);
    assert!(
        seen.iter()
            .all(|(number, times)| *number < 1_000 && *times == 1)
    );
}

#[tokio::test(start_paused = true)]
async fn the_rate_and_the_bound_hold() {
    let store = filled((0..21).map(entry)).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(SECOND, 200));
    let redrive = builder(&store)
        .rate(10.0)
        .concurrency(100)
        .build(client)
        .unwrap();
    let began = Instant::now();
    redrive.many(Filter::all(), "anna").await.unwrap();
    // Twenty spaces of 100 ms, and the last answer.
    let took = began.elapsed();
    assert!(
        took >= SECOND * 3 && took < SECOND * 3 + SECOND / 10,
        "{took:?}"
    );

    let store = filled((0..21).map(entry)).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(SECOND, 200));
    let redrive = builder(&store).concurrency(3).build(client).unwrap();
    let began = Instant::now();
    redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!(peer.most(), 3);
    let took = began.elapsed();
    assert!(took >= SECOND * 7 && took < SECOND * 8, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_rate_does_not_let_a_claim_end() {
    let store = filled((0..4).map(entry)).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::Status(200));
    // Four claimed at once, sent over five minutes.
    let redrive = builder(&store).rate(0.01).build(client).unwrap();
    let (one, two) = tokio::join!(
        redrive.many(Filter::all(), "anna"),
        redrive.many(Filter::all(), "bert"),
    );
    assert_eq!(one.unwrap().accepted + two.unwrap().accepted, 4);
    assert!(peer.seen().values().all(|times| *times == 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_ends_between_entries_and_can_go_on() {
    let store = filled((0..250).map(entry)).await;
    let peer = Peer::default();
    let (stop, from_within) = (Stop::new(), Stop::new());
    let client = {
        let (peer, stop) = (peer.clone(), from_within.clone());
        let behaving = peer.clone();
        behaving.behaving(move |number, _| {
            if peer.seen().len() == 130 {
                stop.stop();
            }
            // The older half fails, so that a second look would be seen.
            Answer::After(SECOND, if number >= 125 { 500 } else { 200 })
        })
    };
    let redrive = redrive(&store, client);
    let run = Run::new(Filter::all(), "anna").until(&from_within);
    let report = redrive.run(run).await.unwrap();
    assert!(report.stopped);
    // Those under way were waited for.
    let done = report.done();
    assert!((130..140).contains(&done), "{done}");
    assert_eq!(peer.answered() as u64, done);

    // The first page, and nothing of the next, is behind.
    let cursor = report.cursor.unwrap();
    let run = Run::new(Filter::all(), "anna").after(cursor).until(&stop);
    let rest = redrive.run(run).await.unwrap();
    assert!(!rest.stopped);
    for number in 0..250 {
        let times = peer.times(number);
        let expected = if number >= 150 { 1..=1 } else { 1..=2 };
        assert!(expected.contains(&times), "{number}: {times}");
    }
    assert_eq!(left(&*store).await, 125);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_waiting_for_the_rate() {
    let store = filled((0..10).map(entry)).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::Status(200));
    let redrive = builder(&store).rate(0.01).build(client).unwrap();
    let stop = Stop::new();
    let run = tokio::spawn(redrive.run(Run::new(Filter::all(), "anna").until(&stop)));
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    stop.stop();
    let report = run.await.unwrap().unwrap();
    assert!(report.stopped && began.elapsed() < SECOND);
    assert_eq!(report.accepted, 1);
    // Claimed, not sent: released as they were.
    for number in 0..9 {
        let kept = store.get(id(number)).await.unwrap().unwrap();
        assert_eq!(kept, entry(number));
    }
    let none = redrive
        .run(Run::new(Filter::all(), "anna").until(&stop))
        .await;
    assert!(none.unwrap().stopped);
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_is_done_at_once() {
    let store = Arc::new(MemoryDeadLetters::default());
    let redrive = redrive(&store, Peer::default().behaving(|_, _| Answer::Status(200)));
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!(report, Report::default());
}
