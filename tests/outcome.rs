//! What the classifiers say about requests, answers and errors, through the public API.
#![allow(clippy::unwrap_used)]

use http::{Request, Response};
use std::time::Duration;
use tower_webhook::{
    BoxError,
    outcome::{
        Classify, ClassifyGrpc, ClassifyHttp, GrpcClassifier, HttpClassifier, LocallyRefused,
        MakeClassifier, Outcome, OutcomeKind, classify_fn,
    },
};

#[path = "outcome/errors.rs"]
mod errors;
#[path = "outcome/grpc.rs"]
mod grpc;
#[path = "outcome/hints.rs"]
mod hints;
#[path = "outcome/http.rs"]
mod http_answers;

type Fields = &'static [(&'static str, &'static str)];

const SIX_HOURS: Duration = Duration::from_secs(6 * 3600);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn post() -> Request<()> {
    Request::post("https://example.com/hook").body(()).unwrap()
}

fn get() -> Request<()> {
    Request::get("https://example.com/hook").body(()).unwrap()
}

fn answer(status: u16, fields: Fields) -> Response<()> {
    let mut builder = Response::builder().status(status);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn verdict(classifier: &HttpClassifier, req: &Request<()>, res: &Response<()>) -> Outcome {
    let classify = classifier.make_classifier(req);
    classify.classify(Ok::<_, &BoxError>(res))
}

#[test]
fn a_function_of_the_result_judges_jobs() {
    fn judge(result: Result<&u32, &BoxError>) -> Outcome {
        match result {
            Ok(0) => Outcome::permanent(),
            Ok(_) => Outcome::success(),
            Err(error) => Outcome::of_error(&**error),
        }
    }
    let classifier = classify_fn(judge);
    let judge = |result| classifier.make_classifier(&"job").classify(result);
    assert_eq!(judge(Ok(&0)).kind(), OutcomeKind::Permanent);
    assert_eq!(judge(Ok(&1)).kind(), OutcomeKind::Success);
    let open = BoxError::from(LocallyRefused::after(secs(1)));
    assert_eq!(judge(Err(&open)).kind(), OutcomeKind::Refused);
    assert_eq!(format!("{classifier:?}"), "ClassifyFn { .. }");
}

#[test]
fn each_kind_means_the_same_to_every_layer() {
    // Kind, label, retry, evidence, dead letter, attempt: the table of `Outcome`.
    for (outcome, label, retry, healthy, failure, attempted) in [
        (Outcome::cancelled(), "cancelled", false, None, false, true),
        (
            Outcome::permanent(),
            "permanent",
            false,
            Some(true),
            true,
            true,
        ),
        (Outcome::refused(None), "refused", true, None, true, false),
        (
            Outcome::success(),
            "success",
            false,
            Some(true),
            false,
            true,
        ),
        (
            Outcome::throttled(None),
            "throttled",
            true,
            Some(false),
            true,
            true,
        ),
        (
            Outcome::transient(),
            "transient",
            true,
            Some(false),
            true,
            true,
        ),
        (
            Outcome::unreached(),
            "unreached",
            true,
            Some(false),
            true,
            true,
        ),
        (
            Outcome::unsendable(),
            "unsendable",
            false,
            None,
            true,
            false,
        ),
    ] {
        assert_eq!(outcome.kind().as_str(), label);
        assert_eq!(outcome.kind().to_string(), label);
        assert_eq!(outcome.may_retry(), retry, "{label}");
        assert_eq!(outcome.peer_is_healthy(), healthy, "{label}");
        assert_eq!(outcome.is_failure(), failure, "{label}");
        assert_eq!(outcome.was_attempted(), attempted, "{label}");
        assert!(!outcome.never_retry().may_retry(), "{label}");
        assert!(OutcomeKind::ALL.contains(&outcome.kind()), "{label}");
    }
}

#[test]
fn what_travels_with_a_call_owns_no_memory() {
    fn copied<T: Copy + Send + Sync + 'static>() {}
    fn shared<T: Clone + Send + Sync + 'static>() {}
    copied::<ClassifyHttp>();
    copied::<ClassifyGrpc>();
    copied::<Outcome>();
    shared::<HttpClassifier>();
    shared::<GrpcClassifier>();
}
