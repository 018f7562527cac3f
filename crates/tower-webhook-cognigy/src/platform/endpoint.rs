use super::{
    handover::HandoverWebhook,
    id::UrlToken,
    message::MessageData,
    open::{open_enum, open_struct},
};
use crate::{
    ApiError,
    connection::{Connection, request_json, segment},
    credential::Credential,
};
use http::{Method, Response, Uri};
use serde::Serialize;
use serde_json::{Map, Number, Value};
use std::{error::Error as _, fmt};
use tower_webhook::{
    InvalidConfig,
    body::BufferedBody,
    outcome::{TransportError, Unsendable},
    signature::Secret,
    transport,
};

/// A client of one endpoint: messages to a flow, and to its user.
///
/// A message is not sent again when it may have arrived: nothing at the endpoint tells a repetition.
///
/// # Examples
///
/// ```no_run
/// use tower_webhook_cognigy::platform::{EndpointClient, Message, message::{QuickReplies, QuickReply}};
///
/// # async fn run() -> Result<(), tower_webhook::BoxError> {
/// let endpoint = EndpointClient::with_key(
///     "https://endpoint-trial.cognigy.ai/f65b289912c929c2a09523dd48eedb1249bb74384f6561f84b4ffc5e84d2f15f",
///     "the endpoint's API key",
/// )?;
///
/// let hello = Message::new("user-1", "session-1").text("Hello!");
/// for output in endpoint.send(&hello).await?.outputs() {
///     println!("{}", output.text.as_deref().unwrap_or_default());
/// }
///
/// // Later, when the order is ready, to the user without the flow:
/// let ready = QuickReplies::new("It is ready.").reply(QuickReply::postback("Thanks", "thanks"));
/// endpoint.notify(&Message::new("user-1", "session-1").data(ready)).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// As [`connection`](crate::connection): a message whose future is dropped may have arrived.
#[derive(Clone)]
pub struct EndpointClient {
    connection: Connection,
    token: UrlToken,
}

impl fmt::Debug for EndpointClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointClient")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// The header of an endpoint's API key (O).
const KEY: &str = "X-Webhook-Key";

impl EndpointClient {
    /// A client of the endpoint at this URL, as the platform's interface shows it: `https://<host>/<URL token>`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `url` or `url_token`. It does not repeat the URL.
    pub fn new(url: &str) -> Result<Self, InvalidConfig> {
        let (base, token) = split(url)?;
        Ok(Self::over(Connection::builder(base).build()?, token))
    }

    /// As [`new`](Self::new), with an API key of the endpoint in the header `X-Webhook-Key` (2026.13). For another header or
    /// another credential make the [connection](Self::over) of one's own.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `url`, `url_token` or `secret`.
    pub fn with_key(url: &str, key: impl Into<Secret>) -> Result<Self, InvalidConfig> {
        let (base, token) = split(url)?;
        let connection = Connection::builder(base).credential(Credential::header(KEY, key)?);
        Ok(Self::over(connection.build()?, token))
    }

    /// A client over a connection with settings of its own, to the URL of [`Host::endpoint`](super::Host::endpoint).
    pub const fn over(connection: Connection, token: UrlToken) -> Self {
        Self { connection, token }
    }

    /// Sends a message to the flow. A REST Endpoint responds with the outputs of the flow, a Webhook Endpoint that it took the
    /// message: it posts the outputs to its webhook.
    ///
    /// # Errors
    ///
    /// [`ApiError`]. [`UnexpectedResponse`](crate::ApiErrorKind::UnexpectedResponse), if the response is not empty and is no
    /// [`Reply`], such as a page of HTML: the flow may have run, and its outputs are lost. Nothing is sent if the message has neither text nor data.
    pub async fn send(&self, message: &Message) -> Result<Reply, ApiError> {
        const OPERATION: &str = "send the message";
        let path = format!("/{}", self.token.as_str());
        let res = self.post(OPERATION, &path, message).await?;
        let (status, body) = (res.status(), res.body().clone());
        Reply::read(res).await.map_err(|error| {
            // The cause names the field, and quotes nothing.
            let cause = error.source().map(ToString::to_string);
            ApiError::unexpected(OPERATION, status, &body, cause.unwrap_or_default())
        })
    }

    /// Sends a message to the flow from outside of its conversation. The user gets the outputs of the flow.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn inject(&self, message: &Message) -> Result<(), ApiError> {
        let path = format!("/inject/{}", self.token.as_str());
        self.post("inject the message", &path, message)
            .await
            .map(drop)
    }

    /// Sends a message to the user, without the flow.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn notify(&self, message: &Message) -> Result<(), ApiError> {
        let path = format!("/notify/{}", self.token.as_str());
        self.post("notify the user", &path, message).await.map(drop)
    }

    /// Posts an event of a contact centre to `/handover/{name}` of the endpoint service, such as
    /// [`GenesysCloudOm`](super::handover::GenesysCloudOm).
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn report_handover<T: Serialize + Sync>(
        &self,
        to: &HandoverWebhook,
        event: &T,
    ) -> Result<(), ApiError> {
        let req = segment("the handover webhook", to.as_str())
            .and_then(|to| request_json(Method::POST, &format!("/handover/{to}"), event));
        let sent = self.connection.call("report the handover", req).await;
        sent.map(drop)
    }

    async fn post(
        &self,
        operation: &'static str,
        path: &str,
        message: &Message,
    ) -> Result<Response<BufferedBody>, ApiError> {
        let req = message
            .checked()
            .and_then(|message| request_json(Method::POST, path, message));
        self.connection.call(operation, req).await
    }
}

/// The base and the token of an endpoint's URL.
fn split(url: &str) -> Result<(String, UrlToken), InvalidConfig> {
    let wrong = || {
        InvalidConfig::new(
            "url",
            "must be the URL of an endpoint: https://<host>/<URL token>",
        )
    };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority), None) = (uri.scheme_str(), uri.authority(), uri.query())
    else {
        return Err(wrong());
    };
    let (before, token) = uri.path().rsplit_once('/').ok_or_else(wrong)?;
    Ok((format!("{scheme}://{authority}{before}"), token.parse()?))
}

/// A message to a flow or its user.
///
/// It needs a text or data. `Debug` shows neither.
#[derive(Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[must_use]
pub struct Message {
    user_id: String,
    session_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
}

impl Message {
    /// A message of or to this user, in this session. A new conversation has a new session.
    pub fn new(user_id: impl Into<String>, session_id: impl Into<String>) -> Self {
        Self {
            user_id: user_id.into(),
            session_id: session_id.into(),
            ..Self::default()
        }
    }

    /// Sets the text. Default: none.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets the data: a [template](super::message), or a [`MessageData`]. Default: none.
    pub fn data(mut self, data: impl Into<MessageData>) -> Self {
        // Its keys are texts and its numbers finite, so it is JSON.
        self.data = serde_json::to_value(data.into()).ok();
        self
    }

    /// Sets data of one's own. Default: none.
    pub fn fields(mut self, data: Map<String, Value>) -> Self {
        self.data = Some(Value::Object(data));
        self
    }

    /// Adds a file, a contact or a place, for [`notify`](EndpointClient::notify) (O?; of the new route not documented).
    pub fn attachment(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// The message, if an endpoint can take it.
    fn checked(&self) -> Result<&Self, Unsendable> {
        if self.user_id.is_empty() || self.session_id.is_empty() {
            return Err(Unsendable::because("a message has a user and a session"));
        }
        if self.text.is_none() && self.data.is_none() {
            return Err(Unsendable::because(
                "a message has a text, or data, or both",
            ));
        }
        Ok(self)
    }

    /// The body of the old routes, which require text and data.
    pub(super) fn legacy_body(&self, token: &UrlToken) -> Result<Value, Unsendable> {
        let mut body = serde_json::to_value(self.checked()?).map_err(Unsendable::because)?;
        if let Value::Object(fields) = &mut body {
            fields.insert("URLToken".to_owned(), token.as_str().into());
            fields.entry("text").or_insert_with(|| "".into());
            fields.entry("data").or_insert_with(|| Map::new().into());
        }
        Ok(body)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

open_enum! {
    /// The type of an [`Attachment`].
    pub enum AttachmentType {
        /// Any file:
        File = "file",
        /// A document:
        Document = "document",
        /// An image:
        Image = "image",
        /// A video:
        Video = "video",
        /// Audio:
        Audio = "audio",
        /// A sticker:
        Sticker = "sticker",
        /// A contact, whose fields are in `other`:
        Contact = "contact",
        /// A place:
        Location = "location",
    }
}

open_struct! {
    /// What is attached to a message for the user (O?).
    pub struct Attachment {
        required {
            pub kind: AttachmentType = "type",
        }
        pub name: String = "name",
        pub url: String = "url",
        pub caption: String = "caption",
        /// Of a place.
        pub latitude: Number = "latitude",
        /// Of a place.
        pub longitude: Number = "longitude",
        /// Of a place.
        pub title: String = "title",
        /// Of a place.
        pub address: String = "address",
    }
}

impl Attachment {
    /// A file of this type, by its name and URL.
    pub fn new(kind: AttachmentType, name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            url: Some(url.into()),
            ..Self::of(kind)
        }
    }

    /// A place, in degrees. Numbers that are not finite are left out.
    pub fn location(latitude: f64, longitude: f64) -> Self {
        Self {
            latitude: Number::from_f64(latitude),
            longitude: Number::from_f64(longitude),
            ..Self::of(AttachmentType::Location)
        }
    }

    /// Sets the text below it.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = Some(text.into());
        self
    }

    fn of(kind: AttachmentType) -> Self {
        Self {
            kind,
            name: None,
            url: None,
            caption: None,
            latitude: None,
            longitude: None,
            title: None,
            address: None,
            other: Map::new(),
        }
    }
}

open_struct! {
    /// One output of a flow (O). The outputs of one turn share their trace id.
    #[derive(Default)]
    pub struct Output {
        pub text: String = "text",
        /// Anything; for a message typed by [`message`](Output::message).
        pub data: Value = "data",
        pub trace_id: Box<str> = "traceId",
        /// The flow asks that this output is not logged.
        pub disable_sensitive_logging: bool = "disableSensitiveLogging",
        /// `bot`, for an output of a flow.
        pub source: Box<str> = "source",
    }
}

impl Output {
    /// `data` as the data of a message; absent is empty.
    ///
    /// # Errors
    ///
    /// That of `serde_json`, if it is none.
    pub fn message(&self) -> Result<MessageData, serde_json::Error> {
        match &self.data {
            Some(data) => serde::Deserialize::deserialize(data),
            None => Ok(MessageData::default()),
        }
    }
}

open_struct! {
    /// The response of a REST Endpoint (O).
    pub struct RestReply {
        required {
            /// Each output of the flow.
            pub output_stack: Vec<Output> = "outputStack",
        }
        /// The texts of all outputs, one after the other.
        pub text: String = "text",
        /// The data of all outputs, merged.
        pub data: Value = "data",
        pub user_id: String = "userId",
        pub session_id: String = "sessionId",
    }
}

/// Whether a body is empty, or a word or two. Neither HTML nor a piece of a reply is.
fn is_word(body: &[u8]) -> bool {
    let is_plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b".,!-_".contains(byte)
    };
    body.len() <= 64 && body.iter().all(is_plain)
}

/// The response to a message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// A REST Endpoint has responded with the outputs of the flow.
    Rest(RestReply),
    /// The message was taken; outputs go another way. What the response says is not documented: it is empty, JSON that is no
    /// reply, or up to 64 letters, digits, spaces and `.,!-_`, such as `OK`.
    Accepted,
}

impl Reply {
    /// The outputs of the flow, if they are in the response.
    pub fn outputs(&self) -> &[Output] {
        match self {
            Self::Rest(reply) => &reply.output_stack,
            Self::Accepted => &[],
        }
    }

    /// A response is of a REST Endpoint if it is an object with an `outputStack`.
    async fn read(res: Response<BufferedBody>) -> Result<Self, TransportError> {
        if is_word(res.body().as_bytes()) {
            return Ok(Self::Accepted);
        }
        let value: Value = transport::read_json(res.clone()).await?;
        if value.get("outputStack").is_none() {
            return Ok(Self::Accepted);
        }
        transport::read_json(res).await.map(Self::Rest)
    }
}
