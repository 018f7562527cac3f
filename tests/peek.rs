//! Failed answers, judged by their body.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};
use support::{Script, Step, data, header_map, read, trailers};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    BoxError,
    body::{
        BufferedBody, PeekedBody,
        peek::{PeekBody, PeekBodyLayer},
    },
    deadline::Deadline,
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, OutcomeKind, Peeked},
};

#[path = "support/bodies.rs"]
mod support;

async fn send<B>(layer: PeekBodyLayer, status: u16, body: B) -> Response<PeekedBody<B>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut body = Some(body);
    let transport = service_fn(move |_: Request<()>| {
        let res = Response::builder().status(status);
        std::future::ready(Ok::<_, Infallible>(res.body(body.take().unwrap()).unwrap()))
    });
    let call = layer.layer(transport).oneshot(Request::new(()));
    match call.await {
        Ok(res) => res,
    }
}

fn peeked<B>(res: &Response<B>) -> Option<(&[u8], bool)> {
    let peeked = res.extensions().get::<Peeked>()?;
    Some((peeked.as_bytes(), peeked.is_truncated()))
}

#[tokio::test]
async fn a_failed_answer_is_shown_and_passed_on_whole() {
    let layer = PeekBodyLayer::new(64);
    let fields: &[_] = &[("x-sum", "7")];
    let body = || Script::new([data("not "), data(""), data("yet"), trailers(fields)]).declares(7);

    let res = send(layer, 400, body()).await;
    assert_eq!(peeked(&res), Some((&b"not yet"[..], false)));
    assert_eq!(res.body().size_hint().exact(), Some(7));
    assert_eq!(
        read(res.into_body()).await,
        ("not yet".into(), Some(header_map(fields)))
    );

    // One that has not failed is not looked at.
    let whole = body();
    let probe = whole.probe();
    let res = send(layer, 200, whole).await;
    assert_eq!((peeked(&res), probe.polls()), (None, 0));
    assert_eq!(
        read(res.into_body()).await,
        ("not yet".into(), Some(header_map(fields)))
    );
}

#[tokio::test]
async fn no_more_is_read_than_the_limit() {
    for (limit, shown, truncated, polls) in [
        (1, "a", true, 1),
        (2, "ab", true, 1),
        (3, "abc", true, 2),
        (4, "abcd", true, 2),
        (5, "abcd", false, 3),
    ] {
        let body = Script::chunks(["ab", "cd"]);
        let probe = body.probe();
        let res = send(PeekBodyLayer::new(limit), 500, body).await;
        assert_eq!(peeked(&res), Some((shown.as_bytes(), truncated)), "{limit}");
        assert_eq!(probe.polls(), polls, "{limit}");
        assert_eq!(read(res.into_body()).await.0, "abcd", "{limit}");
    }
    // A body that says where it ends is known to be whole.
    let res = send(PeekBodyLayer::new(4), 500, BufferedBody::from("abcd")).await;
    assert_eq!(peeked(&res), Some((&b"abcd"[..], false)));
    // Zero shows nothing.
    let res = send(PeekBodyLayer::new(0), 500, BufferedBody::from("abcd")).await;
    assert_eq!(peeked(&res), None);
    // No end, and no byte either.
    let res = send(PeekBodyLayer::new(9), 500, Script::new([Step::Spin])).await;
    assert_eq!(peeked(&res), Some((&b""[..], true)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_waited_for_no_longer_than_told() {
    let millis = Duration::from_millis;
    let slow = || Script::new([data("ab"), Step::Wait(millis(300)), data("cd")]);
    let timed = async |layer| {
        let begun = Instant::now();
        let res = send(layer, 500, slow()).await;
        let shown = peeked(&res).map(|(bytes, truncated)| (bytes.len(), truncated));
        let waited = begun.elapsed().as_millis();
        assert_eq!(read(res.into_body()).await.0, "abcd");
        (shown, waited)
    };
    let layer = PeekBodyLayer::new(64);
    assert_eq!(timed(layer).await, (Some((4, false)), 300));
    let short = layer.time(millis(100));
    assert_eq!(timed(short).await, (Some((2, true)), 100));
    let none = layer.time(Duration::ZERO);
    assert_eq!(timed(none).await, (Some((2, true)), 0));

    let begun = Instant::now();
    let mut sending = pin!(send(layer, 500, Script::new([Step::Hang])));
    let end = Deadline::at(begun + millis(20));
    std::future::poll_fn(|cx| end.scope(|| sending.as_mut().poll(cx))).await;
    assert_eq!(begun.elapsed(), millis(20));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_shown_cut_and_its_error_passed_on() {
    let res = send(
        PeekBodyLayer::new(64),
        502,
        Script::new([data("ab"), Step::Fail]),
    )
    .await;
    assert_eq!(peeked(&res), Some((&b"ab"[..], true)));
    let mut body = res.into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "ab"
    );
    assert_eq!(body.frame().await.unwrap().unwrap_err(), support::Gone);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn the_user_says_which_answers_and_what_they_mean() {
    let classifier = HttpClassifier::new()
        .bodies(|status, body| {
            assert_eq!(status, 200);
            (body == b"busy").then(|| Outcome::throttled(None))
        })
        .statuses(|_| Some(Outcome::permanent()));
    let layer = PeekBodyLayer::new(64).when(|status| status == StatusCode::OK);
    for (status, body, kind) in [
        (200, "busy", OutcomeKind::Throttled),
        (200, "gone", OutcomeKind::Permanent),
        (500, "busy", OutcomeKind::Permanent),
    ] {
        let mut res = send(layer, status, BufferedBody::from(body)).await;
        res.headers_mut().insert("retry-after", 7.into());
        let classify = classifier.make_classifier(&Request::put("/").body(()).unwrap());
        let outcome = classify.classify(Ok::<_, &BoxError>(&res));
        assert_eq!(outcome.kind(), kind, "{status} {body}");
        assert_eq!(outcome.code(), Some(status));
        assert_eq!(
            outcome.retry_after().is_some(),
            kind == OutcomeKind::Throttled
        );
        assert_eq!(outcome.may_retry(), kind == OutcomeKind::Throttled);
    }
}

#[test]
fn an_answer_that_is_here_needs_no_timer_and_readiness_passes_through() {
    // No runtime here: a timer would panic.
    let mut sending = pin!(send(PeekBodyLayer::new(9), 500, BufferedBody::from("ab")));
    let cx = &mut Context::from_waker(Waker::noop());
    assert_ready!(sending.as_mut().poll(cx));

    let (mock, mut handle) = tower_test::mock::pair::<Request<()>, Response<BufferedBody>>();
    let mut service: PeekBody<_> = PeekBodyLayer::new(9).layer(mock);
    handle.allow(0);
    assert_pending!(Service::<Request<()>>::poll_ready(&mut service, cx));
    handle.allow(1);
    assert!(assert_ready!(Service::<Request<()>>::poll_ready(&mut service, cx)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_peeks_drops_the_answer() {
    let body = Script::new([data("ab"), Step::Hang]);
    let probe = body.probe();
    let mut sending = Box::pin(send(PeekBodyLayer::new(64), 500, body));
    let cx = &mut Context::from_waker(Waker::noop());
    assert_pending!(sending.as_mut().poll(cx));
    assert!(!probe.is_dropped());
    drop(sending);
    assert!(probe.is_dropped());
}

#[test]
fn what_was_read_is_not_in_debug() {
    let peeked = Peeked::new(Bytes::from("secret"), true);
    assert_eq!(format!("{peeked:?}"), "Peeked { len: 6, truncated: true }");
}
