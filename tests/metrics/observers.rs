//! Observers of one's own, several at once, and bad ones.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tower::{Layer, ServiceExt};
use tower_webhook::{
    DeliveryMetricsLayer,
    observe::{Observers, observer_fn},
};

/// Remembers what it was told, in words.
#[derive(Clone, Default)]
struct Diary {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn write(&self, peer: &str, line: &str) {
        self.lines.lock().unwrap().push(format!("{peer} {line}"));
    }
}

impl Observer for Diary {
    fn on(&self, event: &Event<'_>) {
        match *event {
            Event::AttemptBegan { peer, retry, after } => {
                self.write(peer, "attempt began");
                if retry {
                    self.write(peer, &format!("retried {after:?}"));
                }
            }
            Event::AttemptEnded {
                peer,
                outcome,
                elapsed,
            } => self.write(peer, &format!("attempt {} {elapsed:?}", outcome.kind())),
            Event::DeliveryBegan { peer } => self.write(peer, "delivery began"),
            Event::DeliveryEnded {
                peer,
                outcome,
                elapsed,
                attempts,
                queued: false,
            } => {
                let line = format!("delivery {} {attempts} {elapsed:?}", outcome.kind());
                self.write(peer, &line);
            }
            _ => panic!("unexpected: {event:?}"),
        }
    }
}

fn bad(event: &Event<'_>) {
    panic!("on purpose, at {}", event.name())
}

fn stack<O: Observer + Clone>(
    observer: &O,
    peer: Peer,
) -> impl Service<Req, Response = Res, Error = BoxError, Future: Send> + Clone + use<O> {
    let attempts = DeliveryMetricsLayer::attempts().observe(observer.clone());
    let deliveries = DeliveryMetricsLayer::deliveries().observe(observer.clone());
    deliveries.layer(Again {
        inner: attempts.layer(peer),
        most: 3,
    })
}

const STORY: [&str; 7] = [
    "a.test delivery began",
    "a.test attempt began",
    "a.test attempt throttled 10ms",
    "a.test attempt began",
    "a.test retried Some(503)",
    "a.test attempt success 10ms",
    "a.test delivery success 2 1.02s",
];

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_the_whole_story() {
    let diary = Diary::default();
    let client = stack(&diary, Peer::new([503]));
    client.oneshot(to("http://a.test/")).await.unwrap();
    assert_eq!(diary.lines(), STORY);
}

#[tokio::test(start_paused = true)]
async fn so_is_each_of_several_whatever_they_are_held_in() {
    let (one, two) = (Diary::default(), Diary::default());
    let nested = Arc::new(Observers::new(two.clone()));
    let client = stack(&Observers::new(one.clone()).and(nested), Peer::new([503]));
    client.oneshot(to("http://a.test/")).await.unwrap();
    assert_eq!(one.lines(), STORY);
    assert_eq!(two.lines(), STORY);
}

#[tokio::test(start_paused = true)]
async fn names_of_any_length_are_told_whole() {
    let diary = Diary::default();
    let mut client = DeliveryMetricsLayer::attempts()
        .observe(diary.clone())
        .layer(Peer::default());
    for len in [1, 60, 94, 95, 200] {
        let host = "h".repeat(len);
        client
            .ready()
            .await
            .unwrap()
            .call(to(&format!("http://{host}/")))
            .await
            .unwrap();
        let ended = diary.lines().pop().unwrap();
        assert_eq!(ended, format!("{host} attempt success 10ms"));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_breaks_neither_the_call_nor_the_others() {
    let diary = Diary::default();
    let observers = Observers::new(observer_fn(bad))
        .and(diary.clone())
        .and(observer_fn(bad));
    let client = stack(&observers, Peer::new([503]));
    let answer = client.oneshot(to("http://a.test/")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(diary.lines(), STORY);
    assert_eq!(observers.panics(), 2 * 6);
    // Dropped while it unwinds, it must not abort either.
    let alone = Observers::new(observer_fn(bad));
    drop(stack(&alone, Peer::default()).call(to("http://a.test/")));
}

#[tokio::test(start_paused = true)]
async fn one_that_panicked_is_told_again() {
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let layer = DeliveryMetricsLayer::attempts().observe(observer_fn(move |_| {
        assert!(count.fetch_add(1, Relaxed) > 0, "on purpose");
    }));
    let mut client = layer.layer(Peer::default());
    for _ in 0..3 {
        let call = client.ready().await.unwrap().call(to("http://a.test/"));
        call.await.unwrap();
    }
    assert_eq!(told.load(Relaxed), 6);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_listens_the_peer_is_not_asked_for() {
    let unasked = tower_webhook::peer::peer_fn(|_: &Req| panic!("nobody listens"));
    let client = DeliveryMetricsLayer::attempts()
        .peer(unasked)
        .layer(Peer::default());
    assert_eq!(
        client.oneshot(to("http://a.test/")).await.unwrap().status(),
        200
    );
}
