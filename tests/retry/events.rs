//! Observers hear of every retry and of the end, and cannot disturb a delivery.

use super::*;
use tower_webhook::{
    observe::{Event, Observer, observer_fn},
    outcome::OutcomeKind,
};

async fn observed(peer: &Peer, observer: impl Observer) -> Result<Response<()>, BoxError> {
    let layer = layer(plain()).observe(observer);
    layer.layer(peer.clone()).oneshot(get()).await
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_each_retry_and_of_giving_up() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = {
        let heard = Arc::clone(&heard);
        observer_fn(move |event| {
            let told = match event {
                Event::Retrying {
                    attempt,
                    outcome,
                    wait,
                } => format!("{attempt} {} {wait:?}", outcome.kind()),
                Event::GaveUp { reason, history } => {
                    assert_eq!(history.gave_up(), Some(*reason));
                    format!("{} {}", history.attempts(), reason.as_str())
                }
                other => panic!("{other:?}"),
            };
            heard.lock().unwrap().push(told);
        })
    };
    let peer = Peer::new([Step::Status(500), Step::Reset]);
    observed(&peer, note).await.unwrap_err();
    assert_eq!(
        *heard.lock().unwrap(),
        ["1 transient 1s", "2 transient 1s", "3 retries_exhausted"]
    );
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_a_delivery_that_had_no_time_to_begin() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = {
        let heard = Arc::clone(&heard);
        observer_fn(move |event| {
            if let Event::GaveUp { reason, history } = event {
                heard.lock().unwrap().push((*reason, history.attempts()));
            }
        })
    };
    let peer = Peer::new([Step::Status(200)]);
    let mut service = layer(plain()).observe(note).layer(peer.clone());
    ready(&mut service).await;
    let passed = tower_webhook::deadline::Deadline::at(Instant::now());
    let call = passed.scope(|| service.call(get()));
    assert!(call.await.is_err());
    assert_eq!(*heard.lock().unwrap(), [(GaveUp::Deadline, 0)]);
}

#[tokio::test(start_paused = true)]
async fn observers_hear_nothing_of_a_success() {
    let heard = Arc::new(Mutex::new(0));
    let peer = Peer::new([Step::Status(200)]);
    let count = {
        let heard = Arc::clone(&heard);
        observer_fn(move |_| *heard.lock().unwrap() += 1)
    };
    assert_eq!(status(&observed(&peer, count).await), 200);
    assert_eq!(*heard.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_does_no_harm() {
    let peer = Peer::new([Step::Status(500)]);
    let result = observed(&peer, observer_fn(|_| panic!("on purpose"))).await;
    assert_eq!((status(&result), peer.calls()), (500, 3));
    let kinds = history(&result)
        .unwrap()
        .records()
        .iter()
        .map(|record| record.outcome().kind());
    assert!(kinds.eq([OutcomeKind::Transient; 3]));
}
