use super::TransportError;
use crate::{
    BoxError,
    body::{BufferedBody, CollectError, collect},
    json,
    outcome::{Outcome, Unsendable},
};
use http::{HeaderValue, Request, Response, Uri, header::CONTENT_TYPE};
use http_body::Body;
use serde::{Serialize, de::DeserializeOwned};

/// The longest response that [`read_json`] reads, in bytes.
const LONGEST: usize = 1 << 20;

/// A POST with this value as its JSON body and `content-type: application/json`.
///
/// Give it a `webhook-id` or an `idempotency-key`: without one, a request that may have arrived is not repeated.
///
/// # Errors
///
/// [`Unsendable`], if the address is none or the value has no JSON form, such as a map whose keys are no strings.
///
/// # Examples
///
/// ```
/// use tower_webhook::transport;
///
/// let req = transport::post_json("https://example.com/hooks", &["a", "b"])?;
/// assert_eq!(req.body().as_bytes(), r#"["a","b"]"#);
/// assert!(transport::post_json("no address", &()).is_err());
/// # Ok::<_, tower_webhook::outcome::Unsendable>(())
/// ```
pub fn post_json<T: Serialize + ?Sized>(
    uri: impl TryInto<Uri, Error: Into<http::Error>>,
    value: &T,
) -> Result<Request<BufferedBody>, Unsendable> {
    let body = serde_json::to_vec(value).map_err(Unsendable::because)?;
    let json = HeaderValue::from_static("application/json");
    let req = Request::post(uri).header(CONTENT_TYPE, json);
    req.body(BufferedBody::from(body))
        .map_err(Unsendable::because)
}

/// Reads the JSON body of a response, of at most 1 MiB, whatever its status and `content-type`.
///
/// # Errors
///
/// [`TransportError`]: transient if the body broke off; permanent if it is too long, or is no such JSON, with the path of
/// the field that failed and without its value.
///
/// # Cancel safety
///
/// Dropping the future drops the response.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use std::error::Error;
/// use tower_webhook::{body::BufferedBody, transport};
///
/// #[derive(serde::Deserialize)]
/// struct Answer {
///     id: u64,
/// }
///
/// # tokio_test::block_on(async {
/// let answer: Answer = transport::read_json(Response::new(BufferedBody::from(r#"{"id":7}"#))).await?;
/// assert_eq!(answer.id, 7);
///
/// let wrong = Response::new(BufferedBody::from(r#"{"id":"7"}"#));
/// let error = transport::read_json::<Answer, _>(wrong).await.err().unwrap();
/// assert!(error.source().unwrap().to_string().starts_with("id: invalid, expected u64"));
/// # Ok::<_, transport::TransportError>(())
/// # }).unwrap();
/// ```
pub async fn read_json<T, B>(res: Response<B>) -> Result<T, TransportError>
where
    T: DeserializeOwned,
    B: Body<Error: Into<BoxError>>,
{
    let body = collect(res.into_body(), LONGEST).await.map_err(|error| {
        let (outcome, cause) = match error {
            CollectError::Read(error) => (Outcome::transient(), error.into()),
            CollectError::TooLarge { limit } => {
                let text = format!("the response is longer than {limit} bytes");
                (Outcome::permanent(), text.into())
            }
        };
        TransportError::new(outcome, cause)
    })?;
    json::read(body.as_bytes()).map_err(|error| TransportError::new(Outcome::permanent(), error))
}
