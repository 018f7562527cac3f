//! Recorders of one's own, several at once, and bad ones.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tower::{Layer, ServiceExt};
use tower_webhook::{
    DeliveryMetricsLayer,
    metrics::{Level, Measurement, Recorder, Series, SharedRecorder},
};

/// Remembers what it was told, in words.
#[derive(Clone, Default)]
struct Diary {
    lines: Arc<Mutex<Vec<String>>>,
    lookups: Arc<AtomicU32>,
}

#[derive(Clone)]
struct DiaryOf {
    diary: Diary,
    key: Arc<str>,
}

impl Diary {
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Recorder for Diary {
    type Series = DiaryOf;

    fn series(&self, key: &str) -> DiaryOf {
        self.lookups.fetch_add(1, Relaxed);
        DiaryOf {
            diary: self.clone(),
            key: key.into(),
        }
    }
}

impl DiaryOf {
    fn write(&self, line: &str) {
        self.diary
            .lines
            .lock()
            .unwrap()
            .push(format!("{} {line}", self.key));
    }
}

impl Series for DiaryOf {
    fn is_for(&self, key: &str) -> bool {
        *self.key == *key
    }

    fn started(&self, level: Level) {
        self.write(&format!("{} started", level.as_str()));
    }

    fn finished(&self, measurement: &Measurement) {
        let (level, kind) = (measurement.level().as_str(), measurement.outcome().kind());
        let (attempts, elapsed) = (measurement.attempts(), measurement.elapsed());
        self.write(&format!("{level} {kind} {attempts} {elapsed:?}"));
    }

    fn retried(&self, code: Option<u16>) {
        self.write(&format!("retried {code:?}"));
    }
}

#[derive(Clone, Copy)]
enum Bad {
    AtLookup,
    Later,
}

impl Recorder for Bad {
    type Series = Self;

    fn series(&self, _: &str) -> Self {
        assert!(!matches!(self, Self::AtLookup), "on purpose");
        *self
    }
}

impl Series for Bad {
    fn started(&self, _: Level) {
        panic!("on purpose")
    }

    fn finished(&self, _: &Measurement) {
        panic!("on purpose")
    }
}

fn stack<R: Recorder + Clone>(
    recorder: &R,
    peer: Peer,
) -> impl Service<Req, Response = Res, Error = BoxError, Future: Send> + Clone + use<R> {
    let inner = DeliveryMetricsLayer::attempts(recorder.clone()).layer(peer);
    DeliveryMetricsLayer::deliveries(recorder.clone()).layer(Again { inner, most: 3 })
}

const STORY: [&str; 7] = [
    "a.test delivery started",
    "a.test attempt started",
    "a.test attempt throttled 1 10ms",
    "a.test attempt started",
    "a.test retried Some(503)",
    "a.test attempt success 1 10ms",
    "a.test delivery success 2 1.02s",
];

#[tokio::test(start_paused = true)]
async fn a_recorder_is_told_the_whole_story() {
    let diary = Diary::default();
    let client = stack(&diary, Peer::new([503]));
    client.oneshot(to("http://a.test/")).await.unwrap();
    assert_eq!(diary.lines(), STORY);
}

#[tokio::test(start_paused = true)]
async fn so_is_each_of_several_whatever_they_are_held_in() {
    let (one, two) = (Diary::default(), Diary::default());
    let both = (
        one.clone(),
        Arc::new(Some(SharedRecorder::new((two.clone(), None::<Diary>)))),
    );
    let client = stack(&both, Peer::new([503]));
    client.oneshot(to("http://a.test/")).await.unwrap();
    assert_eq!(one.lines(), STORY);
    assert_eq!(two.lines(), STORY);
}

#[tokio::test(start_paused = true)]
async fn calls_for_one_key_look_it_up_once() {
    let diary = Diary::default();
    let mut client = DeliveryMetricsLayer::attempts(diary.clone()).layer(Peer::default());
    for uri in [
        "http://a.test/1",
        "http://a.test/2",
        "http://b.test/",
        "http://b.test/2",
    ] {
        client.ready().await.unwrap().call(to(uri)).await.unwrap();
    }
    assert_eq!(diary.lookups.load(Relaxed), 2);
    let ended: Vec<_> = diary
        .lines()
        .into_iter()
        .filter(|line| line.contains("success"))
        .collect();
    assert_eq!(ended.len(), 4);
    assert_eq!(ended[2], "b.test attempt success 1 10ms");
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_breaks_neither_the_call_nor_the_others() {
    for bad in [Bad::AtLookup, Bad::Later] {
        let diary = Diary::default();
        let client = stack(&((bad, diary.clone()), bad), Peer::new([503]));
        let answer = client.oneshot(to("http://a.test/")).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(diary.lines(), STORY);
        // Dropped while it unwinds, it must not abort either.
        drop(stack(&bad, Peer::default()).call(to("http://a.test/")));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_panicked_is_asked_again() {
    /// Panics once.
    #[derive(Clone, Default)]
    struct Once(Diary);

    impl Recorder for Once {
        type Series = DiaryOf;

        fn series(&self, key: &str) -> DiaryOf {
            let series = self.0.series(key);
            assert!(self.0.lookups.load(Relaxed) > 1, "on purpose");
            series
        }
    }

    let (bad, good) = (Once::default(), Diary::default());
    let layer = DeliveryMetricsLayer::attempts((bad.clone(), good.clone()));
    let mut client = layer.layer(Peer::default());
    for _ in 0..3 {
        let call = client.ready().await.unwrap().call(to("http://a.test/"));
        call.await.unwrap();
    }
    // Two lines for each call, less the first.
    assert_eq!((bad.0.lines().len(), good.lines().len()), (4, 6));
}
