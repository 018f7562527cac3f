//! The way to a sink: its time limit, its fallback, and what is told when neither takes a letter.

use crate::support::{id, letter};
use std::{
    error::Error,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tower_webhook::{
    BoxFuture,
    dead_letter::{
        DeadLetters, Letter, LetterEnd, LetterStore, MemoryLetters, Sink, SinkError, SinkErrorKind,
    },
};

#[derive(Debug)]
struct Hangs;

impl Sink for Hangs {
    fn write(&self, _: &Arc<Letter>) -> BoxFuture<Result<(), SinkError>> {
        Box::pin(pending())
    }
}

#[derive(Debug)]
struct Refuses;

impl Sink for Refuses {
    fn write(&self, _: &Arc<Letter>) -> BoxFuture<Result<(), SinkError>> {
        Box::pin(async { Err(SinkError::new(SinkErrorKind::Full).caused_by("no room")) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_has_its_time_and_then_the_fallback_takes_it() {
    let kept = MemoryLetters::default();
    let limit = Duration::from_secs(2);
    let letters = DeadLetters::new(Hangs)
        .fallback(kept.clone())
        .time_limit(limit)
        .unwrap();
    let begun = Instant::now();
    let end = letters.write(Arc::new(letter(1))).await.unwrap();
    assert_eq!((end, begun.elapsed()), (LetterEnd::FellBack, limit));
    assert_eq!(kept.get(id(1)).await.unwrap(), Some(letter(1)));
}

#[tokio::test(start_paused = true)]
async fn what_neither_takes_is_an_error_with_both_causes_and_ends_are_told() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = ends.clone();
    let letters = DeadLetters::new(Hangs)
        .fallback(Refuses)
        .on_end(move |letter, end| seen.lock().unwrap().push((letter.id, end)));
    let begun = Instant::now();
    let error = letters.write(Arc::new(letter(1))).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(5), "the default");
    assert_eq!(error.first().kind(), SinkErrorKind::Timeout);
    let second = error.second().unwrap();
    assert_eq!(second.kind(), SinkErrorKind::Full);
    assert_eq!(second.source().unwrap().to_string(), "no room");
    let told = error.to_string();
    assert!(told.contains("in time") && told.contains("full"), "{told}");
    assert_eq!(*ends.lock().unwrap(), [(id(1), LetterEnd::NotWritten)]);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_left_alone_while_the_sink_works() {
    let (first, second) = (MemoryLetters::default(), MemoryLetters::default());
    let letters = DeadLetters::new(first.clone()).fallback(second.clone());
    let end = letters.write(Arc::new(letter(1))).await.unwrap();
    assert_eq!(end, LetterEnd::Written);
    assert_eq!((first.len(), second.len()), (1, 0));
    let zero = letters.time_limit(Duration::ZERO).unwrap_err();
    assert_eq!(zero.setting(), "time_limit");
}
