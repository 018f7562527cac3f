//! A call that is dropped at any point: no entry before it has failed, and a whole one after.

use super::*;
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, service_fn};
use tower_webhook::{DeadLetterLayer, dead_letter::DeadLetters, observe::observer_fn};

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
