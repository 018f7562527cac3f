use super::hyper_util;
use crate::outcome::{Outcome, http::by_answer};
use ::reqwest::Error as ReqwestError;
use http::HeaderMap;
use std::error::Error;

/// The errors of a `reqwest::Client`. The [module docs](super) have the table.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower_webhook::{
///     BoxError,
///     outcome::{Classify, HttpClassifier, MakeClassifier, OutcomeKind, transport},
/// };
///
/// # tokio_test::block_on(async {
/// let classifier = HttpClassifier::new().errors(transport::reqwest);
/// let classify = classifier.make_classifier(&Request::post("/").body(()).unwrap());
/// let failed = reqwest::Client::new().post("no address").send().await.unwrap_err();
/// let outcome = classify.classify(Err::<&Response<()>, _>(&BoxError::from(failed)));
/// assert_eq!(outcome.kind(), OutcomeKind::Unsendable);
/// # });
/// ```
pub fn reqwest(link: &(dyn Error + 'static)) -> Option<Outcome> {
    let Some(error) = link.downcast_ref::<ReqwestError>() else {
        return hyper_util(link);
    };
    if error.is_builder() {
        return Some(Outcome::unsendable());
    }
    if error.is_redirect() {
        return Some(Outcome::permanent());
    }
    // `is_connect` would also find the connect error of a request's own body, if that is an answer
    // being passed on; the client's error, which is the next link, knows.
    let status = error.status()?;
    Some(by_answer(status, &HeaderMap::new()).with_code(status.as_u16()))
}
