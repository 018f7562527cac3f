//! The way to a sink: its time limit, its fallback, and what is told when neither takes an entry.

use crate::support::{entry, id};
use std::{
    error::Error,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    dead_letter::{DeadLetters, Entry, LetterStore, MemoryDeadLetters, Sink, WriteOutcome},
    observe::{Event, observer_fn},
};

#[derive(Debug)]
struct Hangs;

impl Sink for Hangs {
    fn write(&self, _: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        Box::pin(pending())
    }
}

#[derive(Debug)]
struct Refuses;

impl Sink for Refuses {
    fn write(&self, _: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Full).caused_by("no room")) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_has_its_time_and_then_the_fallback_takes_it() {
    let kept = MemoryDeadLetters::default();
    let limit = Duration::from_secs(2);
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let entries = DeadLetters::new(Hangs)
        .observe(observer_fn(move |event| {
            let fell_back = match event {
                Event::DeadLettered { fell_back, .. } => Some(*fell_back),
                _ => None,
            };
            heard.lock().unwrap().push((event.name(), fell_back));
        }))
        .fallback(kept.clone())
        .time_limit(limit)
        .unwrap();
    let begun = Instant::now();
    let end = entries.write(Arc::new(entry(1))).await.unwrap();
    assert_eq!((end, begun.elapsed()), (WriteOutcome::FellBack, limit));
    assert_eq!(kept.get(id(1)).await.unwrap(), Some(entry(1)));
    let expected = [("trouble", None), ("dead_lettered", Some(true))];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_neither_takes_is_an_error_with_both_causes_and_ends_are_told() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = ends.clone();
    let entries = DeadLetters::new(Hangs)
        .fallback(Refuses)
        .observe(observer_fn(move |event| {
            let Event::Lost { entry, kind, .. } = event else {
                panic!("{event:?}");
            };
            seen.lock().unwrap().push((entry.to_string(), *kind));
        }));
    let begun = Instant::now();
    let error = entries.write(Arc::new(entry(1))).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(5), "the default");
    assert_eq!(error.first().kind(), StoreErrorKind::Timeout);
    let second = error.second().unwrap();
    assert_eq!(second.kind(), StoreErrorKind::Full);
    assert_eq!(second.source().unwrap().to_string(), "no room");
    let told = error.to_string();
    assert!(told.contains("in time") && told.contains("full"), "{told}");
    let lost = (id(1).to_string(), StoreErrorKind::Timeout);
    assert_eq!(*ends.lock().unwrap(), [lost]);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_left_alone_while_the_sink_works() {
    let (first, second) = (MemoryDeadLetters::default(), MemoryDeadLetters::default());
    let entries = DeadLetters::new(first.clone()).fallback(second.clone());
    let end = entries.write(Arc::new(entry(1))).await.unwrap();
    assert_eq!(end, WriteOutcome::Written);
    assert_eq!((first.len(), second.len()), (1, 0));
    let zero = entries.time_limit(Duration::ZERO).unwrap_err();
    assert_eq!(zero.setting(), "time_limit");
}
