use super::{h2, hyper};
use crate::outcome::{Outcome, OutcomeKind};
use ::hyper_util::client::legacy;
use std::error::Error;

/// The errors of [hyper-util's client](https://docs.rs/hyper-util), with any connector, and of what
/// lies below it. The [module docs](super) have the table.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower_webhook::{
///     body::BufferedBody,
///     outcome::{Classify, HttpClassifier, MakeClassifier, OutcomeKind, transport},
/// };
/// use tower::{BoxError, ServiceExt};
///
/// # tokio_test::block_on(async {
/// let client = Client::builder(TokioExecutor::new()).build_http().map_err(BoxError::from);
/// let req = Request::post("http://no-such-host.invalid/").body(BufferedBody::default()).unwrap();
///
/// let classifier = HttpClassifier::new().errors(transport::hyper_util);
/// let classify = classifier.make_classifier(&req);
/// let result = client.oneshot(req).await;
/// let outcome = classify.classify(result.as_ref());
/// assert_eq!(outcome.kind(), OutcomeKind::Unreached);
/// assert!(outcome.may_retry(), "a POST without a key, but nobody saw it");
/// # });
/// ```
pub fn hyper_util(link: &(dyn Error + 'static)) -> Option<Outcome> {
    if let Some(error) = link.downcast_ref::<legacy::Error>() {
        return by_client(error);
    }
    if let Some(error) = link.downcast_ref() {
        return Some(hyper::judge(error));
    }
    link.downcast_ref().map(h2::judge)
}

fn by_client(error: &legacy::Error) -> Option<Outcome> {
    if error.is_connect() {
        // A resolver or connector of ours may know that it never will be.
        let below = Outcome::of_error(error);
        let never = below.kind() == OutcomeKind::Unsendable;
        return Some(if never { below } else { Outcome::unreached() });
    }
    if error.source().is_some() {
        return None;
    }
    // Nothing below: the client itself said it, before anything was sent. `UserAbsoluteUriRequired`
    // and the like are only in the text.
    let user = error.to_string().contains("(User");
    Some(if user {
        Outcome::unsendable()
    } else {
        Outcome::unreached()
    })
}
