//! What errors say about how far a request got.

use crate::{SIX_HOURS, post, secs};
use http::Response;
use std::{error::Error, fmt, io, time::Duration};
use tower_webhook::{
    BoxError,
    outcome::{
        Classify, GrpcClassifier, HttpClassifier, LocallyRefused, MakeClassifier, Outcome,
        OutcomeKind, Unreached, Unsendable,
    },
};

fn failed(error: impl Into<BoxError>) -> Outcome {
    let classify = HttpClassifier::new().make_classifier(&post());
    classify.classify(Err::<&Response<()>, _>(&error.into()))
}

/// A transport's own error, around something else.
#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("client error")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[test]
fn io_errors_say_how_far_a_request_got() {
    use io::ErrorKind;
    for (kind, expected) in [
        (ErrorKind::ConnectionRefused, OutcomeKind::Unreached),
        (ErrorKind::AddrNotAvailable, OutcomeKind::Unreached),
        (ErrorKind::ConnectionReset, OutcomeKind::Transient),
        (ErrorKind::ConnectionAborted, OutcomeKind::Transient),
        (ErrorKind::BrokenPipe, OutcomeKind::Transient),
        (ErrorKind::HostUnreachable, OutcomeKind::Transient),
        (ErrorKind::NetworkUnreachable, OutcomeKind::Transient),
        (ErrorKind::TimedOut, OutcomeKind::Transient),
        (ErrorKind::UnexpectedEof, OutcomeKind::Transient),
    ] {
        let outcome = failed(Wrapped(Wrapped(io::Error::from(kind).into()).into()));
        assert_eq!(outcome.kind(), expected, "{kind:?}");
        assert_eq!(outcome.peer_is_healthy(), Some(false));
        // A POST without a key: again only if the peer never saw it.
        assert_eq!(outcome.may_retry(), expected == OutcomeKind::Unreached);
        assert_eq!(outcome.code(), None);
    }
}

#[test]
fn markers_are_found_wherever_they_are_in_the_chain() {
    let refused = failed(Wrapped(LocallyRefused::after(secs(3)).into()));
    assert_eq!(refused.kind(), OutcomeKind::Refused);
    assert_eq!(refused.retry_after(), Some(secs(3)));
    assert!(refused.may_retry() && !refused.was_attempted());
    assert_eq!(refused.peer_is_healthy(), None);

    let unreached = failed(Unreached::because("REFUSED_STREAM"));
    assert!(unreached.may_retry() && unreached.was_attempted());

    let unsendable = failed(Wrapped(Unsendable::because("no key").into()));
    assert_eq!(unsendable.kind(), OutcomeKind::Unsendable);
    assert!(unsendable.is_failure() && !unsendable.may_retry() && !unsendable.was_attempted());
    assert_eq!(unsendable.peer_is_healthy(), None);

    assert_eq!(failed("timeout").kind(), OutcomeKind::Transient);
}

#[test]
fn markers_keep_the_error_that_explains_them() {
    let error = Unsendable::because("the id holds a `.`");
    assert_eq!(error.to_string(), "the request cannot be sent");
    assert_eq!(error.source().unwrap().to_string(), "the id holds a `.`");
    assert!(Unreached::new().source().is_none());
    let refused = LocallyRefused::after(secs(3));
    assert_eq!(refused.to_string(), "refused on this side; try again in 3s");
}

#[test]
fn a_local_wait_is_cut_at_the_cap_like_every_other() {
    let error = BoxError::from(LocallyRefused::after(Duration::MAX));
    let classify = HttpClassifier::new().make_classifier(&post());
    let outcome = classify.classify(Err::<&Response<()>, _>(&error));
    assert_eq!(outcome.retry_after(), Some(SIX_HOURS));
}

#[test]
fn the_errors_of_a_transport_can_be_taught() {
    #[derive(Debug)]
    struct RefusedStream;
    impl fmt::Display for RefusedStream {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("REFUSED_STREAM")
        }
    }
    impl Error for RefusedStream {}
    fn rule(link: &(dyn Error + 'static)) -> Option<Outcome> {
        link.is::<RefusedStream>().then(Outcome::unreached)
    }

    let error = BoxError::from(Wrapped(RefusedStream.into()));
    assert_eq!(
        failed(Wrapped(RefusedStream.into())).kind(),
        OutcomeKind::Transient
    );
    let classify = HttpClassifier::new().errors(rule).make_classifier(&post());
    let outcome = classify.classify(Err::<&Response<()>, _>(&error));
    assert_eq!(outcome.kind(), OutcomeKind::Unreached);
    let classify = GrpcClassifier::new().errors(rule).make_classifier(&post());
    let outcome = classify.classify(Err::<&Response<()>, _>(&error));
    assert!(outcome.may_retry());
    // And the markers are still known.
    let classify = HttpClassifier::new().errors(rule).make_classifier(&post());
    let marked = BoxError::from(Unsendable::new());
    let outcome = classify.classify(Err::<&Response<()>, _>(&marked));
    assert_eq!(outcome.kind(), OutcomeKind::Unsendable);
}
