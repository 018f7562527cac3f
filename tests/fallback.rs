//! What `FallbackLayer` promises: which failures it answers, and which it leaves alone.

#![cfg(feature = "failover")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value
)]

use http::{Request, Response};
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;
use tower_webhook::{
    AttemptTimeoutLayer, BoxError, DeadlineLayer, FailoverLayer, FallbackLayer,
    body::{BufferedBody, ResponseBody},
    deadline::DeadlineExceeded,
    fallback::{AnswerHttp, Failure, FallbackReason},
    outcome::{LocallyRefused, Outcome, OutcomeKind, Unreached, Unsendable, classify_fn},
};

type Sent = Result<Response<BufferedBody>, BoxError>;

const SECOND: Duration = Duration::from_secs(1);

fn post() -> Request<()> {
    Request::post("https://peer.test/").body(()).unwrap()
}

fn status(status: u16) -> Sent {
    Ok(Response::builder()
        .status(status)
        .body("the peer's own".into())?)
}

/// Sends a POST without a key, which may not be repeated, to a peer with this answer.
async fn send(
    layer: FallbackLayer<AnswerHttp>,
    answer: Sent,
) -> Result<Response<ResponseBody<BufferedBody>>, BoxError> {
    let mut answer = Some(answer);
    let mut service = layer.layer(service_fn(move |_| ready(answer.take().unwrap())));
    service.ready().await?.call(post()).await
}

fn always() -> FallbackLayer<AnswerHttp> {
    FallbackLayer::http(|_| Some(Response::new("instead".into())))
}

async fn text(res: Response<ResponseBody<BufferedBody>>) -> String {
    let whole = res.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(whole.to_vec()).unwrap()
}

fn reason<B>(res: &Response<B>) -> Option<OutcomeKind> {
    let reason = res.extensions().get::<FallbackReason>()?;
    Some(reason.outcome().kind())
}

/// One of each failure.
fn failures() -> Vec<(Sent, OutcomeKind)> {
    let refused = LocallyRefused::after(SECOND);
    vec![
        (status(400), OutcomeKind::Permanent),
        (status(404), OutcomeKind::Permanent),
        (status(302), OutcomeKind::Permanent),
        (Err(refused.into()), OutcomeKind::Refused),
        (status(429), OutcomeKind::Throttled),
        (status(503), OutcomeKind::Throttled),
        (status(500), OutcomeKind::Transient),
        (Err("reset".into()), OutcomeKind::Transient),
        (Err(Unreached::new().into()), OutcomeKind::Unreached),
        (Err(Unsendable::new().into()), OutcomeKind::Unsendable),
        (
            Err(DeadlineExceeded::before_sending().into()),
            OutcomeKind::Refused,
        ),
    ]
}

#[tokio::test]
async fn a_peer_that_cannot_be_used_is_answered_for_and_nothing_else_is() {
    for (answer, kind) in failures() {
        let was = answer.as_ref().map_or(0, |res| res.status().as_u16());
        let result = send(always(), answer).await;
        if matches!(kind, OutcomeKind::Permanent | OutcomeKind::Unsendable) {
            match result {
                Ok(res) => {
                    assert_eq!((res.status().as_u16(), reason(&res)), (was, None));
                    assert_eq!(text(res).await, "the peer's own");
                }
                Err(error) => assert!(error.is::<Unsendable>()),
            }
        } else {
            let res = result.unwrap();
            assert_eq!((res.status().as_u16(), reason(&res)), (200, Some(kind)));
            assert_eq!(text(res).await, "instead");
        }
    }
}

#[tokio::test]
async fn a_success_passes_untouched() {
    let res = send(always(), status(201)).await.unwrap();
    assert_eq!((res.status().as_u16(), reason(&res)), (201, None));
    assert_eq!(text(res).await, "the peer's own");
}

#[tokio::test]
async fn only_the_chosen_outcomes_are_answered_for() {
    for chosen in OutcomeKind::ALL {
        for (answer, kind) in failures() {
            let layer = always().when([*chosen]);
            let replaced = send(layer, answer)
                .await
                .is_ok_and(|res| reason(&res).is_some());
            assert_eq!(replaced, kind == *chosen, "{chosen} {kind}");
        }
        let res = send(always().when([*chosen]), status(200)).await.unwrap();
        assert_eq!(reason(&res), None, "a success is no failure");
    }
}

#[tokio::test]
async fn without_an_answer_the_failure_stays() {
    let only_refused = || {
        FallbackLayer::http(|outcome| {
            let refused = outcome.kind() == OutcomeKind::Refused;
            refused.then(|| Response::new(BufferedBody::default()))
        })
    };
    assert_eq!(
        send(only_refused(), status(503)).await.unwrap().status(),
        503
    );
    assert_eq!(
        send(only_refused(), Err("reset".into()))
            .await
            .unwrap_err()
            .to_string(),
        "reset"
    );
    let refused = LocallyRefused::after(SECOND);
    assert_eq!(
        send(only_refused(), Err(refused.into()))
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn the_answer_says_nothing_of_the_error() {
    let res = send(always(), Err("the secret of the database".into()))
        .await
        .unwrap();
    assert!(!format!("{res:?}").contains("secret"));
    assert!(res.headers().is_empty());
}

#[tokio::test]
async fn a_service_of_any_type_is_answered_for_in_its_own_type() {
    let judge = classify_fn(|result: Result<&u32, &io::Error>| match result {
        Ok(0) => Outcome::transient(),
        Ok(_) => Outcome::success(),
        Err(error) => Outcome::of_error(error),
    });
    let layer = FallbackLayer::new(|failure: &Failure<'_, u32, io::Error>| {
        assert_eq!(failure.response().is_some(), failure.error().is_none());
        match failure.error() {
            Some(error) if error.kind() == io::ErrorKind::TimedOut => None,
            Some(_) => Some(100),
            None => Some(failure.response()? + 1),
        }
    })
    .classifier(judge);
    let service = layer.layer(service_fn(|n: u32| {
        ready(match n {
            8 => Err(io::ErrorKind::TimedOut.into()),
            9 => Err(io::ErrorKind::ConnectionRefused.into()),
            n => Ok(n),
        })
    }));
    assert_eq!(service.clone().oneshot(0).await.unwrap(), 1);
    assert_eq!(service.clone().oneshot(7).await.unwrap(), 7);
    assert_eq!(service.clone().oneshot(9).await.unwrap(), 100);
    assert_eq!(
        service.oneshot(8).await.unwrap_err().kind(),
        io::ErrorKind::TimedOut
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_and_a_hang_are_answered_for() {
    for (total, each) in [(1, 10), (10, 1)] {
        let mut service = ServiceBuilder::new()
            .layer(always())
            .layer(DeadlineLayer::new(SECOND * total).unwrap())
            .layer(AttemptTimeoutLayer::new(SECOND * each).unwrap())
            .service_fn(|_: Request<()>| pending::<Sent>());
        let res = service.ready().await.unwrap().call(post()).await.unwrap();
        assert_eq!(reason(&res), Some(OutcomeKind::Transient));
    }
}

#[tokio::test]
async fn the_last_word_of_a_failover_is_answered_for() {
    let mut service = ServiceBuilder::new()
        .layer(always())
        .layer(
            FailoverLayer::fallbacks(["https://b.test/"])
                .build()
                .unwrap(),
        )
        .service_fn(|_: Request<()>| ready(Sent::Err(LocallyRefused::after(SECOND).into())));
    let res = service.ready().await.unwrap().call(post()).await.unwrap();
    assert_eq!(reason(&res), Some(OutcomeKind::Refused));
}

#[cfg(feature = "cognigy")]
#[tokio::test]
async fn exhaustion_and_an_open_circuit_both_reach_the_documents_branch() {
    let open = LocallyRefused::after(SECOND);
    for failure in [status(500), Err("reset".into()), Err(open.into())] {
        let res = send(tower_webhook::cognigy::presets::fallback_branch(3), failure)
            .await
            .unwrap();
        assert_eq!(res.status(), 200);
        assert_eq!(res.headers()["content-type"], "application/json");
        assert_eq!(
            text(res).await,
            r#"{"status":"success","nextNode":"default_fallback_branch","variables":{"lookupStatus":"failed","failureReason":"downstream_unavailable","maxRetries":3}}"#
        );
    }
}

#[tokio::test]
async fn readiness_is_the_inner_services() {
    let (mut service, mut peer) =
        mock::spawn_layer::<Request<()>, Response<BufferedBody>, _>(always());
    peer.allow(0);
    assert_pending!(service.poll_ready());
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());
    peer.send_error("closed");
    assert!(assert_ready!(service.poll_ready()).is_err());
}

#[tokio::test]
async fn a_dropped_call_is_not_answered_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let layer = FallbackLayer::http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        None
    });
    let (mut service, mut peer) =
        mock::spawn_layer::<Request<()>, Response<BufferedBody>, _>(layer);
    for polled in [false, true] {
        peer.allow(1);
        assert_ready_ok!(service.poll_ready());
        let mut call = task::spawn(service.call(post()));
        if polled {
            assert_pending!(call.poll());
        }
        drop(call);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_service_that_cannot_fail_still_cannot() {
    let service = always().layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(
            Response::builder()
                .status(503)
                .body(BufferedBody::default())
                .unwrap(),
        ))
    }));
    let Ok(res) = service.oneshot(post()).await;
    assert_eq!(res.status(), 200);
}
