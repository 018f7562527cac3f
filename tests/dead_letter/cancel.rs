//! A call that is dropped at any point: no entry before it has failed, and a whole one after.

use super::*;
use std::mem;
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, service_fn};
use tower_webhook::{
    DeadLetterLayer, StoreErrorKind,
    dead_letter::{DeadLetters, EntryBody, describe_fn},
    observe::{Event, observer_fn},
    outcome::{Outcome, classify_fn},
    peer::OnePeer,
};

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_is_made_leaves_no_entry() {
    let sink = Recording::default();
    let layer = DeadLetterLayer::new(DeadLetters::new(sink.clone()));
    let peer = service_fn(|_: Request<BufferedBody>| pending::<Result<Answer, BoxError>>());
    let mut service = layer.layer(peer);
    drop(service.call(request()));
    let mut call = task::spawn(service.call(request()));
    assert_pending!(call.poll());
    drop(call);
    advance(60 * SECOND).await;
    assert!(sink.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_being_written_when_its_call_is_dropped_is_written() {
    let sink = Recording::that(Does::TakesAfter(SECOND));
    let ends: Arc<Mutex<Vec<&str>>> = Arc::default();
    let told = Arc::clone(&ends);
    let entries = DeadLetters::new(sink.clone());
    let entries = entries.observe(observer_fn(move |event| {
        told.lock().unwrap().push(event.name());
    }));
    let peer = service_fn(|_: Request<BufferedBody>| async { answer(503) });
    let mut service = DeadLetterLayer::new(entries).layer(peer);

    let mut call = task::spawn(service.call(request()));
    assert_pending!(call.poll());
    drop(call);
    tokio::task::yield_now().await;
    assert!(sink.entries().is_empty());
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(sink.entry().event_id.as_deref(), Some("msg_1"));
    assert_eq!(*ends.lock().unwrap(), ["dead_lettered"]);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_outside_cuts_the_wait_and_not_the_entry() {
    let sink = Recording::that(Does::TakesAfter(3 * SECOND));
    let peer = service_fn(|_: Request<BufferedBody>| async { answer(503) });
    let mut service = DeadLetterLayer::new(DeadLetters::new(sink.clone())).layer(peer);
    let called = tokio::time::timeout(SECOND, service.call(request())).await;
    assert!(called.is_err());
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(sink.entries().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn entries_of_dropped_calls_have_a_bound_and_the_others_are_told_as_lost() {
    const MIB: usize = 1 << 20;
    let (sink, lost) = (
        Recording::that(Does::Hangs),
        Arc::new(Mutex::new(Vec::new())),
    );
    let told = Arc::clone(&lost);
    let entries = DeadLetters::new(sink).observe(observer_fn(move |event| {
        if let Event::Lost { kind, .. } = event {
            told.lock().unwrap().push(*kind);
        }
    }));
    // They share their bytes, so that the test needs few.
    let whole = EntryBody::from_parts(vec![0; 10 * MIB].into(), 10 << 20, [0; 32]).unwrap();
    let mut service = DeadLetterLayer::new(entries)
        .classifier(classify_fn(|_: Result<&(), &BoxError>| {
            Outcome::transient()
        }))
        .peer(OnePeer)
        .describe(describe_fn(move |_: &u8, entry| entry.body = whole.clone()))
        .body_limit(10 * MIB)
        .layer(service_fn(|_: u8| async { Ok::<_, BoxError>(()) }));
    let mut fail = || {
        let mut call = task::spawn(service.call(0));
        assert_pending!(call.poll());
        call
    };

    // While their callers wait, none is refused: a call holds its own request anyway.
    let mut calls: Vec<_> = (0..20).map(|_| fail()).collect();
    tokio::time::sleep(SECOND).await;
    assert!(lost.lock().unwrap().is_empty());
    // 64 MiB have room for 6 of them.
    calls.truncate(2);
    calls.extend((0..2).map(|_| fail()));
    tokio::time::sleep(SECOND).await;
    assert_eq!(*lost.lock().unwrap(), [StoreErrorKind::Full; 12]);
    tokio::time::sleep(5 * SECOND).await;
    let ended = mem::take(&mut *lost.lock().unwrap());
    assert_eq!(ended[12..], [StoreErrorKind::Timeout; 10]);
    // They have left their room.
    drop(calls);
    let calls: Vec<_> = (0..6).map(|_| fail()).collect();
    tokio::task::yield_now().await;
    drop(calls);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(*lost.lock().unwrap(), [StoreErrorKind::Timeout; 6]);
}
