use crate::body::BufferedBody;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The acknowledgement that a receiver sends before the work is done (S3, S4).
///
/// Answer within 8 s: S4 allows 10 s, the platform's HTTP Request Node waits 8 s.
///
/// # Examples
///
/// ```
/// use tower_webhook::cognigy::Ack;
///
/// assert_eq!(Ack::accepted().to_json(), r#"{"status":"accepted"}"#);
/// assert_eq!(Ack::queued("t-1").to_json(), r#"{"status":"accepted","taskId":"t-1"}"#);
/// assert_eq!(Ack::duplicate().to_json(), r#"{"status":"accepted","duplicate":true}"#);
/// assert_eq!(Ack::processing().to_json(), r#"{"status":"processing"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ack {
    status: &'static str,
    #[serde(rename = "taskId", skip_serializing_if = "Option::is_none")]
    task_id: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "is_false")]
    duplicate: bool,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Ack {
    const fn new(status: &'static str) -> Self {
        Self {
            status,
            task_id: None,
            duplicate: false,
        }
    }

    /// The first delivery of an event: 200 `{"status":"accepted"}`.
    pub const fn accepted() -> Self {
        Self::new("accepted")
    }

    /// The first delivery, when work was queued: 200 `{"status":"accepted","taskId":...}`. The result can be
    /// requested with this id, so it must not be guessable.
    pub fn queued(task_id: impl Into<Cow<'static, str>>) -> Self {
        let mut ack = Self::accepted();
        ack.task_id = Some(task_id.into());
        ack
    }

    /// A delivery of a known event: 200 `{"status":"accepted","duplicate":true}`.
    pub const fn duplicate() -> Self {
        let mut ack = Self::accepted();
        ack.duplicate = true;
        ack
    }

    /// The result is not available yet: 202 `{"status":"processing"}`.
    pub const fn processing() -> Self {
        Self::new("processing")
    }

    /// 202 while processing, otherwise 200.
    pub fn status(&self) -> StatusCode {
        match self.status {
            "processing" => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        }
    }

    /// The body.
    pub fn to_json(&self) -> Bytes {
        // Text and a flag: writing them to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The response.
    pub fn into_response(self) -> Response<BufferedBody> {
        json_response(self.status(), self.to_json())
    }
}

/// The result with which a flow continues (S3):
/// `{"status":"success","nextNode":...,"variables":{...}}`.
///
/// # Examples
///
/// With your own node and variables, and with S3's two:
///
/// ```
/// use tower_webhook::cognigy::DialogAnswer;
///
/// let answer = DialogAnswer::new("greet", serde_json::json!({ "name": "Ada" }));
/// assert_eq!(
///     answer.to_json()?,
///     r#"{"status":"success","nextNode":"greet","variables":{"name":"Ada"}}"#
/// );
///
/// let found = DialogAnswer::completed();
/// assert_eq!(
///     found.to_json()?,
///     r#"{"status":"success","nextNode":"continue_dialog","variables":{"lookupStatus":"completed"}}"#
/// );
///
/// let fallback = DialogAnswer::fallback(3);
/// assert_eq!(fallback.next_node(), "default_fallback_branch");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogAnswer<V> {
    next_node: Cow<'static, str>,
    variables: V,
}

impl<V> DialogAnswer<V> {
    /// Makes an answer that continues at `next_node` with `variables`, which must serialise as an object.
    pub fn new(next_node: impl Into<Cow<'static, str>>, variables: V) -> Self {
        Self {
            next_node: next_node.into(),
            variables,
        }
    }

    /// Sets the node at which the flow continues.
    #[must_use]
    pub fn at(mut self, next_node: impl Into<Cow<'static, str>>) -> Self {
        self.next_node = next_node.into();
        self
    }

    /// The node at which the flow continues.
    pub fn next_node(&self) -> &str {
        &self.next_node
    }

    /// The variables that the flow gets.
    pub const fn variables(&self) -> &V {
        &self.variables
    }
}

/// The longest name of a node that is read from a response, in bytes.
const MAX_NODE: usize = 256;

impl DialogAnswer<Box<RawValue>> {
    /// Reads the answer that a target gave with its response: `nextNode`, a text of 1 to 256 bytes, and `variables`,
    /// an object, which stays as it is. One that is missing or anything else is that of
    /// [`completed`](DialogAnswer::completed). Other members are ignored.
    ///
    /// `None` if the response has neither: its body is no JSON object, or its `Content-Type` is neither JSON nor text.
    ///
    /// # Examples
    ///
    /// As the result of a delivery in the background, for those who ask for the status of its task:
    ///
    /// ```
    /// use http::Response;
    /// use tower_webhook::{body::BufferedBody, cognigy::DialogAnswer};
    ///
    /// let res = Response::new(BufferedBody::from(r#"{"nextNode":"greet","debug":1}"#));
    /// let answer = DialogAnswer::of(&res).ok_or("no answer")?;
    /// assert_eq!(
    ///     answer.to_json()?,
    ///     r#"{"status":"success","nextNode":"greet","variables":{"lookupStatus":"completed"}}"#
    /// );
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(res: &Response<BufferedBody>) -> Option<Self> {
        if let Some(content_type) = res.headers().get(header::CONTENT_TYPE) {
            let content_type = content_type.to_str().ok()?.to_ascii_lowercase();
            let (essence, _) = content_type.split_once(';').unwrap_or((&content_type, ""));
            if !essence.contains("json") && !essence.starts_with("text/") {
                return None;
            }
        }
        let said: Said<'_> = serde_json::from_slice(res.body().as_bytes()).ok()?;
        let node = said
            .next_node
            .and_then(|node| serde_json::from_str(node.get()).ok());
        let node = node.filter(|node: &String| (1..=MAX_NODE).contains(&node.len()));
        let variables = said
            .variables
            .filter(|object| object.get().starts_with('{'));
        if node.is_none() && variables.is_none() {
            return None;
        }
        let default = DialogAnswer::completed();
        let variables = match variables {
            Some(variables) => variables.to_owned(),
            None => serde_json::value::to_raw_value(&default.variables).ok()?,
        };
        let next_node = node.map_or(default.next_node, Cow::Owned);
        Some(Self::new(next_node, variables))
    }
}

/// What a response says about where a flow continues. It has each member once, or is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    #[serde(borrow)]
    next_node: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
}

impl DialogAnswer<LookupVariables> {
    /// S3's answer to a lookup that worked: node `continue_dialog`, `lookupStatus` `completed`.
    pub const fn completed() -> Self {
        Self {
            next_node: Cow::Borrowed("continue_dialog"),
            variables: LookupVariables {
                lookup_status: "completed",
                failure_reason: None,
                max_retries: None,
            },
        }
    }

    /// S3's fallback branch, for a lookup whose retries are exhausted or whose breaker is open:
    /// node `default_fallback_branch`, `lookupStatus` `failed`, `failureReason`
    /// `downstream_unavailable`, and `maxRetries`, the attempts allowed (3 in S3).
    ///
    /// Its `status` is `success` too, because the dialog continues.
    pub const fn fallback(max_retries: u32) -> Self {
        Self {
            next_node: Cow::Borrowed("default_fallback_branch"),
            variables: LookupVariables {
                lookup_status: "failed",
                failure_reason: Some("downstream_unavailable"),
                max_retries: Some(max_retries),
            },
        }
    }
}

impl<V: Serialize> DialogAnswer<V> {
    /// The body.
    ///
    /// # Errors
    ///
    /// If the variables do not serialise, such as a map with keys that are not text.
    pub fn to_json(&self) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(self).map(Bytes::from)
    }

    /// The response: 200.
    ///
    /// # Errors
    ///
    /// As [`to_json`](Self::to_json).
    pub fn into_response(self) -> Result<Response<BufferedBody>, serde_json::Error> {
        let json = self.to_json()?;
        Ok(json_response(StatusCode::OK, json))
    }
}

impl<V: Serialize> Serialize for DialogAnswer<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut answer = serializer.serialize_struct("DialogAnswer", 3)?;
        answer.serialize_field("status", "success")?;
        answer.serialize_field("nextNode", &self.next_node)?;
        answer.serialize_field("variables", &self.variables)?;
        answer.end()
    }
}

/// The variables of S3's own answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LookupVariables {
    lookup_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
}

fn json_response(status: StatusCode, json: Bytes) -> Response<BufferedBody> {
    let mut response = Response::new(BufferedBody::new(json));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(feature = "axum")]
mod axum {
    use super::{Ack, DialogAnswer};
    use crate::{
        observe::{Event, Id, Observers},
        problem::Problem,
    };
    use axum_core::{
        body::Body,
        response::{IntoResponse, Response},
    };
    use http::StatusCode;
    use serde::Serialize;

    impl IntoResponse for Ack {
        fn into_response(self) -> Response {
            self.into_response().map(Body::new)
        }
    }

    /// 500 without detail if the variables do not serialise.
    impl<V: Serialize> IntoResponse for DialogAnswer<V> {
        fn into_response(self) -> Response {
            let response = self.into_response().unwrap_or_else(|error| {
                // To `tracing` alone: a response is made without settings and without its request. Other
                // observers hear of the 500 from the layer that measures the route, and of the reason from
                // a handler that calls the fallible `into_response` itself.
                Observers::none().tell(|| Event::Trouble {
                    part: "cognigy",
                    what: "an answer does not serialise",
                    detail: Some(Id::new(&error)),
                });
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR).into_response()
            });
            response.map(Body::new)
        }
    }
}
