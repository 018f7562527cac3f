use super::{
    endpoint::Message,
    fields::{EndpointFields, EndpointOperation, WebhookSettings},
    handover::HandoverProvider,
    host::Host,
    id::{MongoId, UrlToken},
    limits,
    list::{ListQuery, pages},
    resources::{
        AuditEvent, Conversation, ConversationEntry, Endpoint, EndpointKey, LogEntry,
        NewEndpointKey, Profile, Task,
    },
};
use crate::{
    ApiError,
    connection::{Connection, request, request_json, segment, with_query},
    credential::Credential,
    rate_limit::RateLimitLayer,
};
use futures_util::stream::{self, Stream, StreamExt};
use http::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{fmt, future::ready, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tower_webhook::{
    InvalidConfig,
    outcome::{Outcome, TransportError, Unsendable},
};

/// Before the path of each resource.
const PREFIX: &str = "/new/v2.0";

/// The wait before a task is looked at again, doubled each time.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// The longest wait before a task is looked at again.
const LONGEST_LOOK: Duration = Duration::from_secs(15);
/// How long before the end a task is looked at for the last time.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// A client of the management API. Clones share everything.
///
/// See the [module docs](super) for what it calls, what it retries, and what is not settled.
///
/// # Cancel safety
///
/// As [`connection`](crate::connection): what was asked for may have been done. A stream that is dropped ends its request.
#[derive(Clone)]
pub struct ApiClient {
    connection: Connection,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient")
            .field("connection", &self.connection)
            .finish()
    }
}

/// A list that is on one page.
#[derive(Deserialize)]
struct All<T> {
    items: Vec<T>,
}

impl ApiClient {
    /// A client of this installation. Towards a [shared](Host::is_shared) one it keeps the limit of 1,000 requests in 5
    /// minutes, which is one for all clients behind an address: share the client.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `host`, or `base` for the URL of an installation of one's own.
    pub fn new(host: &Host, credential: Credential) -> Result<Self, InvalidConfig> {
        let mut connection = Connection::builder(host.api()?).credential(credential);
        if host.is_shared() {
            connection = connection.rate_limit(RateLimitLayer::platform());
        }
        Ok(Self::over(connection.build()?))
    }

    /// A client over a connection with settings of its own, to the URL of [`Host::api`].
    pub const fn over(connection: Connection) -> Self {
        Self { connection }
    }

    /// The connection, for what this client has no method for. Paths begin with `/new/v2.0`.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Lists resources of any kind, page by page: `flows`, `projects`, `aiagents`, or a path such as
    /// `projects/{id}/snapshots`.
    ///
    /// # Errors
    ///
    /// The stream ends with the first [`ApiError`]. It is [`InvalidRequest`](crate::ApiErrorKind::InvalidRequest), and nothing
    /// is sent, if `resources` has empty segments, segments of dots, a query, or characters that are not encoded. A cursor that comes again, or more than 10,000 pages, is
    /// [`UnexpectedResponse`](crate::ApiErrorKind::UnexpectedResponse).
    pub fn list<T: DeserializeOwned + Send + 'static>(
        &self,
        resources: &str,
        query: ListQuery,
    ) -> impl Stream<Item = Result<T, ApiError>> + Send + use<T> {
        self.pages("list resources", resources, query)
    }

    /// Lists endpoints, with the fields that a list has.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn endpoints(
        &self,
        query: ListQuery,
    ) -> impl Stream<Item = Result<Endpoint, ApiError>> + Send + use<> {
        self.pages("list endpoints", "endpoints", query)
    }

    /// Reads an endpoint.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn endpoint(&self, id: &MongoId) -> Result<Endpoint, ApiError> {
        let path = format!("{PREFIX}/endpoints/{id}");
        self.get("read the endpoint", path).await
    }

    /// Makes an endpoint in a project.
    ///
    /// It is not sent again if it may have arrived, because a second one would be a second endpoint.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn create_endpoint(
        &self,
        project: &MongoId,
        fields: &EndpointFields,
    ) -> Result<Endpoint, ApiError> {
        let fields = fields.clone().field("projectId", project.as_str());
        let path = format!("{PREFIX}/endpoints");
        let req = request_json(Method::POST, &path, &fields);
        self.connection.json("create the endpoint", req).await
    }

    /// Registers a webhook: makes a Webhook Endpoint that posts the outputs of a flow to a URL. Messages for the flow go to
    /// its [`url_token`](Endpoint::url_token), by [`EndpointClient`](super::EndpointClient).
    ///
    /// # Errors
    ///
    /// [`ApiError`], as [`create_endpoint`](Self::create_endpoint).
    pub async fn register_webhook(
        &self,
        project: &MongoId,
        name: &str,
        flow: &str,
        settings: &WebhookSettings,
    ) -> Result<Endpoint, ApiError> {
        let fields = EndpointFields::webhook(name, settings).flow(flow);
        self.create_endpoint(project, &fields).await
    }

    /// Changes the fields of an endpoint that are given.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn update_endpoint(
        &self,
        id: &MongoId,
        fields: &EndpointFields,
    ) -> Result<(), ApiError> {
        let path = format!("{PREFIX}/endpoints/{id}");
        let req = request_json(Method::PATCH, &path, fields);
        self.done("update the endpoint", req).await
    }

    /// Deletes an endpoint.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn delete_endpoint(&self, id: &MongoId) -> Result<(), ApiError> {
        let path = format!("{PREFIX}/endpoints/{id}");
        let req = request(Method::DELETE, &path);
        self.done("delete the endpoint", req).await
    }

    /// Makes, changes and deletes up to 100 endpoints of a project in one request (O?).
    ///
    /// Whether all of them happen or none is not documented, nor is what the response says.
    ///
    /// # Errors
    ///
    /// [`ApiError`]; nothing is sent if there is no operation, or more than 100.
    pub async fn batch_endpoints(
        &self,
        project: &MongoId,
        operations: &[EndpointOperation],
    ) -> Result<(), ApiError> {
        #[derive(Serialize)]
        struct Batch<'a> {
            operations: &'a [EndpointOperation],
        }
        let path = format!("{PREFIX}/endpoints");
        let path = with_query(&path, &[("projectId", project.as_str())]);
        let req = if (1..=limits::BATCH_OPERATIONS).contains(&operations.len()) {
            request_json(Method::PATCH, &path, &Batch { operations })
        } else {
            Err(Unsendable::because("a batch has from 1 to 100 operations"))
        };
        self.done("change the endpoints", req).await
    }

    /// Makes an API key of an endpoint, for the header `X-Webhook-Key` (2026.13). The key is in this response only: keep it.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn create_endpoint_key(
        &self,
        endpoint: &MongoId,
        name: &str,
    ) -> Result<NewEndpointKey, ApiError> {
        let path = format!("{PREFIX}/endpoints/{endpoint}/apikeys");
        let req = request_json(Method::POST, &path, &json!({"name": name}));
        self.connection.json("create the endpoint's key", req).await
    }

    /// Lists the API keys of an endpoint, without the keys.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn endpoint_keys(&self, endpoint: &MongoId) -> Result<Vec<EndpointKey>, ApiError> {
        let path = format!("{PREFIX}/endpoints/{endpoint}/apikeys");
        self.get("list the endpoint's keys", path).await
    }

    /// Revokes an API key of an endpoint. That it can be done is documented (O), its route is an inference (I).
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn revoke_endpoint_key(
        &self,
        endpoint: &MongoId,
        key: &MongoId,
    ) -> Result<(), ApiError> {
        let path = format!("{PREFIX}/endpoints/{endpoint}/apikeys/{key}");
        let req = request(Method::DELETE, &path);
        self.done("revoke the endpoint's key", req).await
    }

    /// Adds to the context of a session, and returns the context (O).
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn inject_context(
        &self,
        session: &str,
        user: &str,
        context: &Map<String, Value>,
    ) -> Result<Map<String, Value>, ApiError> {
        let body = json!({"userId": user, "context": context});
        let req = session_request(session, "context/inject", &body);
        self.connection.json("inject the context", req).await
    }

    /// Sets the context of a session back to that of a flow, and returns the context (O).
    ///
    /// The documentation spells the field of the entry point `entryPoint`, which is sent; the typings of 2024 spell it
    /// `entrypoint`.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn reset_context(
        &self,
        session: &str,
        user: &str,
        flow_reference: &str,
        entry_point: &str,
    ) -> Result<Map<String, Value>, ApiError> {
        let body = json!({
            "flowReferenceId": flow_reference,
            "entryPoint": entry_point,
            "userId": user,
        });
        let req = session_request(session, "context/reset", &body);
        self.connection.json("reset the context", req).await
    }

    /// Sets the state of a session, and returns it (O?).
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn inject_state(
        &self,
        session: &str,
        user: &str,
        state: &str,
    ) -> Result<String, ApiError> {
        #[derive(Deserialize)]
        struct State {
            state: String,
        }
        let body = json!({"state": state, "userId": user});
        let req = session_request(session, "state/inject", &body);
        let State { state } = self.connection.json("inject the state", req).await?;
        Ok(state)
    }

    /// Sets the state of a session back (O).
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn reset_state(&self, session: &str, user: &str) -> Result<(), ApiError> {
        let req = session_request(session, "state/reset", &json!({"userId": user}));
        self.done("reset the state", req).await
    }

    /// Lists tasks.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn tasks(
        &self,
        query: ListQuery,
    ) -> impl Stream<Item = Result<Task, ApiError>> + Send + use<> {
        self.pages("list tasks", "tasks", query)
    }

    /// Reads a task.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn task(&self, id: &MongoId) -> Result<Task, ApiError> {
        let path = format!("{PREFIX}/tasks/{id}");
        self.get("read the task", path).await
    }

    /// Asks for the end of a task.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn cancel_task(&self, id: &MongoId) -> Result<(), ApiError> {
        let path = format!("{PREFIX}/tasks/{id}/cancel");
        let req = request(Method::POST, &path);
        self.done("cancel the task", req).await
    }

    /// Reads a task again and again until it has [ended](super::TaskStatus::is_final), after 1 s, 2 s, 4 s and so on, up to
    /// 15 s, the last time one second before the end. After `at_most` the task is returned as it was last seen, also if a
    /// read is not answered: ask its status.
    ///
    /// # Errors
    ///
    /// [`ApiError`] of the first read that fails, after its retries;
    /// [`Transport`](crate::ApiErrorKind::Transport), if no read is answered within `at_most`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the reading. The task goes on.
    pub async fn wait_for_task(&self, id: &MongoId, at_most: Duration) -> Result<Task, ApiError> {
        let began = Instant::now();
        let left = || at_most.saturating_sub(began.elapsed());
        let mut wait = FIRST_LOOK;
        let mut last = None;
        while let Ok(task) = timeout(left(), self.task(id)).await {
            let task = task?;
            if task.status.is_final() {
                return Ok(task);
            }
            if left() <= LAST_LOOK {
                sleep(left()).await;
                return Ok(task);
            }
            last = Some(task);
            sleep(wait.min(left().saturating_sub(LAST_LOOK))).await;
            wait = (wait * 2).min(LONGEST_LOOK);
        }
        last.ok_or_else(|| {
            let why = format!("no answer within {at_most:?}");
            let error = TransportError::new(Outcome::transient(), why);
            ApiError::of_call("read the task", error.into())
        })
    }

    /// Lists audit events. They are kept for [30 days](limits::AUDIT_EVENTS).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn audit_events(
        &self,
        query: ListQuery,
    ) -> impl Stream<Item = Result<AuditEvent, ApiError>> + Send + use<> {
        self.pages("list audit events", "auditevents", query)
    }

    /// Reads an audit event.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn audit_event(&self, id: &MongoId) -> Result<AuditEvent, ApiError> {
        let path = format!("{PREFIX}/auditevents/{id}");
        self.get("read the audit event", path).await
    }

    /// Lists the conversations of a project, which are on one page; of these contacts, if there are any.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn conversations(
        &self,
        project: &MongoId,
        contacts: &[&str],
    ) -> Result<Vec<Conversation>, ApiError> {
        let mut query = vec![("projectId", project.as_str())];
        query.extend(contacts.iter().map(|contact| ("contactIds", *contact)));
        let path = with_query(&format!("{PREFIX}/conversations"), &query);
        let All { items } = self.get("list conversations", path).await?;
        Ok(items)
    }

    /// Reads the inputs and outputs of a conversation.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn conversation(
        &self,
        project: &MongoId,
        session: &str,
    ) -> Result<Vec<ConversationEntry>, ApiError> {
        let path = conversation_path(project, session);
        let req = path.and_then(|path| request(Method::GET, &path));
        let All { items } = self.connection.json("read the conversation", req).await?;
        Ok(items)
    }

    /// Deletes a conversation.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn delete_conversation(
        &self,
        project: &MongoId,
        session: &str,
    ) -> Result<(), ApiError> {
        let path = conversation_path(project, session);
        let req = path.and_then(|path| request(Method::DELETE, &path));
        self.done("delete the conversation", req).await
    }

    /// Lists the profiles of contacts; the query needs a [project](ListQuery::project).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn profiles(
        &self,
        query: ListQuery,
    ) -> impl Stream<Item = Result<Profile, ApiError>> + Send + use<> {
        self.pages("list profiles", "profiles", query)
    }

    /// Reads a profile.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn profile(&self, id: &MongoId) -> Result<Profile, ApiError> {
        let path = format!("{PREFIX}/profiles/{id}");
        self.get("read the profile", path).await
    }

    /// Lists the log of a project. Its entries are kept for [a day](limits::LOGS).
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn logs(
        &self,
        project: &MongoId,
        query: ListQuery,
    ) -> impl Stream<Item = Result<LogEntry, ApiError>> + Send + use<> {
        self.pages("list the log", &format!("projects/{project}/logs"), query)
    }

    /// Lists handover providers.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn handover_providers(
        &self,
        query: ListQuery,
    ) -> impl Stream<Item = Result<HandoverProvider, ApiError>> + Send + use<> {
        self.pages("list handover providers", "handover/provider", query)
    }

    /// Reads a handover provider.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn handover_provider(&self, id: &MongoId) -> Result<HandoverProvider, ApiError> {
        let path = format!("{PREFIX}/handover/provider/{id}");
        self.get("read the handover provider", path).await
    }

    /// Makes a handover provider.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn create_handover_provider(
        &self,
        provider: &HandoverProvider,
    ) -> Result<HandoverProvider, ApiError> {
        let path = format!("{PREFIX}/handover/provider");
        let req = request_json(Method::POST, &path, provider);
        self.connection
            .json("create the handover provider", req)
            .await
    }

    /// Deletes a handover provider.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn delete_handover_provider(&self, id: &MongoId) -> Result<(), ApiError> {
        let path = format!("{PREFIX}/handover/provider/{id}");
        let req = request(Method::DELETE, &path);
        self.done("delete the handover provider", req).await
    }

    /// Injects a message by the old route of the management API, and returns what the server says.
    ///
    /// **Legacy**: deprecated in 2026.6, its removal was planned for September 2026. Use
    /// [`EndpointClient::inject`](super::EndpointClient::inject). A server that has removed it answers 404 or 410
    /// ([`NotFound`](crate::ApiErrorKind::NotFound)), and the error says so.
    ///
    /// # Errors
    ///
    /// [`ApiError`]; nothing is sent if the message has neither text nor data.
    pub async fn legacy_inject(
        &self,
        token: &UrlToken,
        message: &Message,
    ) -> Result<String, ApiError> {
        const OPERATION: &str = "inject by the old route, whose removal was planned for September 2026 \
            (use EndpointClient::inject)";
        self.legacy(OPERATION, "inject", token, message).await
    }

    /// Notifies the user by the old route of the management API, and returns what the server says.
    ///
    /// **Legacy**: as [`legacy_inject`](Self::legacy_inject). Use
    /// [`EndpointClient::notify`](super::EndpointClient::notify).
    ///
    /// # Errors
    ///
    /// [`ApiError`]; nothing is sent if the message has neither text nor data.
    pub async fn legacy_notify(
        &self,
        token: &UrlToken,
        message: &Message,
    ) -> Result<String, ApiError> {
        const OPERATION: &str = "notify by the old route, whose removal was planned for September 2026 \
            (use EndpointClient::notify)";
        self.legacy(OPERATION, "notify", token, message).await
    }

    async fn legacy(
        &self,
        operation: &'static str,
        verb: &str,
        token: &UrlToken,
        message: &Message,
    ) -> Result<String, ApiError> {
        let path = format!("{PREFIX}/endpoint/{verb}");
        let body = message.legacy_body(token);
        let req = body.and_then(|body| request_json(Method::POST, &path, &body));
        self.connection.json(operation, req).await
    }

    fn pages<T: DeserializeOwned + Send + 'static>(
        &self,
        operation: &'static str,
        resources: &str,
        query: ListQuery,
    ) -> impl Stream<Item = Result<T, ApiError>> + Send + use<T> {
        let path = match below(resources) {
            Ok(path) => path,
            Err(error) => {
                let error = ApiError::invalid(operation, error);
                return stream::once(ready(Err(error))).right_stream();
            }
        };
        pages(&self.connection, operation, path, query).left_stream()
    }

    async fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: String,
    ) -> Result<T, ApiError> {
        let req = request(Method::GET, &path);
        self.connection.json(operation, req).await
    }

    /// Sends a request whose response says nothing more than that it was done.
    async fn done(
        &self,
        operation: &'static str,
        req: Result<http::Request<tower_webhook::body::BufferedBody>, Unsendable>,
    ) -> Result<(), ApiError> {
        self.connection.call(operation, req).await.map(drop)
    }
}

/// The path of resources. Nothing in it leads out of [`PREFIX`], also not for a server that decodes it first.
fn below(resources: &str) -> Result<String, Unsendable> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\".contains(&byte);
    let lower = resources.to_ascii_lowercase();
    let hides = ["%2e", "%2f", "%5c"]
        .iter()
        .any(|code| lower.contains(code));
    let mut segments = resources.split('/');
    if hides
        || !resources.bytes().all(is_plain)
        || segments.any(|segment| matches!(segment, "" | "." | ".."))
    {
        let why = format!("`{}` is no path of resources", resources.escape_debug());
        return Err(Unsendable::because(why));
    }
    Ok(format!("{PREFIX}/{resources}"))
}

/// A request about a session. Its id may have any characters.
fn session_request(
    session: &str,
    verb: &str,
    body: &Value,
) -> Result<http::Request<tower_webhook::body::BufferedBody>, Unsendable> {
    let session = segment("the session", session)?;
    let path = format!("{PREFIX}/sessions/{session}/{verb}");
    request_json(Method::POST, &path, body)
}

fn conversation_path(project: &MongoId, session: &str) -> Result<String, Unsendable> {
    let session = segment("the session", session)?;
    let path = format!("{PREFIX}/conversations/{session}");
    Ok(with_query(&path, &[("projectId", project.as_str())]))
}
