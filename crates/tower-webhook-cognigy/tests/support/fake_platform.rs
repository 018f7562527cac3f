//! The official platform, written from its documentation: the management API under `/new/v2.0`, and the endpoint service.
//! It refuses what the documentation does not say: an unknown field, another casing, a missing header.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

/// The API key that it takes.
pub const KEY: &str = "the-api-key-of-the-test";
/// The token that it gives to a client.
pub const TOKEN: &str = "a-token";
const BEARER: &str = "Bearer a-token";
/// The key of the endpoints, for `X-Webhook-Key`.
pub const ENDPOINT_KEY: &str = "8a4fcd9b2e5f17b03f9c4a6d7c2e5f17b03f9c4a6d7c2e5f17b03f9c4a6d7c2e";
/// The URL token of its REST Endpoint.
pub const REST: &str = "f65b289912c929c2a09523dd48eedb1249bb74384f6561f84b4ffc5e84d2f15f";
/// The URL token of its Webhook Endpoint.
pub const WEBHOOK: &str = "4e5e2f01110c935fff81ec54bbce12c175b831d8105dc69face36a8983feec17";

/// The fields of an endpoint that can be set.
const FIELDS: [&str; 24] = [
    "name",
    "channel",
    "flowId",
    "localeId",
    "overrideSnapshotConnections",
    "entrypoint",
    "active",
    "nluConnectorId",
    "useConversations",
    "maskIPAddress",
    "maskAnalytics",
    "maskLogging",
    "useContactProfiles",
    "useAnalytics",
    "useDashbotAnalytics",
    "dashbotApikey",
    "dashbotPlatform",
    "disableInputSanitization",
    "settings",
    "transformer",
    "handoverSettings",
    "translationSettings",
    "fileStorageSettings",
    "foreignId",
];

#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Seen>>);

#[derive(Default)]
pub struct Seen {
    /// Every request: method and target, headers, body.
    pub requests: Vec<(String, HeaderMap, Bytes)>,
    /// Answers that are given before anything is looked at.
    pub script: VecDeque<Response>,
    pub endpoints: BTreeMap<String, Value>,
    /// The names of the keys of endpoints, by id.
    pub keys: BTreeMap<String, String>,
    /// The statuses of tasks, one for each read.
    pub tasks: BTreeMap<String, VecDeque<&'static str>>,
    /// What lists have, by path after the prefix.
    pub lists: BTreeMap<&'static str, Vec<Value>>,
    /// Lists without cursors, as of old.
    pub without_cursors: bool,
    /// Whether the old routes are gone, and with which status.
    pub legacy_gone: Option<u16>,
    /// Whether endpoints ask for [`ENDPOINT_KEY`].
    pub endpoints_need_key: bool,
    made: u32,
}

impl Fake {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no test panics with it")
    }

    pub fn app(&self) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }

    /// The last request: method and target, headers, body as JSON.
    pub fn last(&self) -> (String, HeaderMap, Value) {
        let seen = self.seen();
        let (line, headers, body) = seen.requests.last().expect("a request").clone();
        (
            line,
            headers,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    pub fn count(&self) -> usize {
        self.seen().requests.len()
    }
}

/// A problem in the form of RFC 7807.
pub fn problem(status: u16, code: impl Into<Value>, detail: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let body = json!({
        "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail,
        "instance": "/", "code": code.into(), "traceId": "trace-1", "details": {},
    });
    (status, Json(body)).into_response()
}

/// A problem as the answer.
struct Refused(Box<Response>);

type Answer = Result<Response, Refused>;

fn refused(status: u16, code: u16, detail: &str) -> Refused {
    Refused(Box::new(problem(status, code, detail)))
}

fn missing(name: &str) -> Refused {
    refused(400, 1000, &format!("{name} is missing"))
}

fn invalid(what: &str) -> Refused {
    refused(400, 1005, &format!("{what} is invalid"))
}

fn not_found() -> Refused {
    refused(404, 1002, "no such resource")
}

#[allow(clippy::unnecessary_wraps, reason = "each arm of a route is an answer")]
fn ok(body: impl serde::Serialize) -> Answer {
    Ok(Json(body).into_response())
}

fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

async fn serve(
    State(fake): State<Fake>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut seen = fake.seen();
    let line = format!("{method} {uri}");
    seen.requests.push((line, headers.clone(), body.clone()));
    if let Some(answer) = seen.script.pop_front() {
        return answer;
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if header("accept") != Some("application/json") {
        return (
            StatusCode::OK,
            [("content-type", "application/hal+json")],
            "<hal>",
        )
            .into_response();
    }
    if method == Method::GET && !body.is_empty() {
        return problem(403, 403, "a GET with a body");
    }
    if uri.path() == "/auth/oauth2/token" {
        let form = "grant_type=client_credentials&client_id=client-7&client_secret=its-secret";
        let is_form = header("content-type") == Some("application/x-www-form-urlencoded");
        return if is_form && body == form {
            Json(json!({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}))
                .into_response()
        } else {
            (
                StatusCode::BAD_REQUEST,
                Json(json!({"error": "invalid_request"})),
            )
                .into_response()
        };
    }
    let body = match serde_json::from_slice::<Map<String, Value>>(&body) {
        _ if body.is_empty() => None,
        _ if header("content-type") != Some("application/json") => {
            return problem(400, 1005, "Content-Type");
        }
        _ if body.len() > 60_000 => return problem(413, 413, "more than 60 kB"),
        Ok(body) => Some(body),
        Err(_) => return problem(400, 1005, "the body"),
    };
    let answer = match uri.path().strip_prefix("/new/v2.0/") {
        Some(_) if header("x-api-key") != Some(KEY) && header("authorization") != Some(BEARER) => {
            Err(refused(401, 401, "no such key"))
        }
        Some(path) => api(&mut seen, &method, path, uri.query().unwrap_or(""), body),
        None if seen.endpoints_need_key && header("x-webhook-key") != Some(ENDPOINT_KEY) => {
            Err(refused(401, 401, "no such key"))
        }
        None => endpoint(&method, uri.path(), body),
    };
    answer.unwrap_or_else(|Refused(problem)| *problem)
}

/// The body, if it has these fields and may have those, and no others.
fn fields(
    body: Option<Map<String, Value>>,
    required: &[&str],
    optional: &[&str],
) -> Result<Map<String, Value>, Refused> {
    let body = body.ok_or_else(|| missing("the body"))?;
    if let Some(name) = required.iter().find(|name| !body.contains_key(**name)) {
        return Err(missing(name));
    }
    let known =
        |name: &&String| !required.contains(&name.as_str()) && !optional.contains(&name.as_str());
    match body.keys().find(known) {
        Some(name) => Err(invalid(name)),
        None => Ok(body),
    }
}

/// The parameters of a query, decoded, all of these names.
fn parameters(query: &str, names: &[&str]) -> Result<Vec<(String, String)>, Refused> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or_else(|| invalid(pair))?;
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| invalid(name))?;
            if names.contains(&name) {
                Ok((name.to_owned(), value.into_owned()))
            } else {
                Err(invalid(name))
            }
        })
        .collect()
}

/// One page of a list.
fn page(seen: &Seen, items: &[Value], query: &str, more: &[&str]) -> Answer {
    let mut names = vec![
        "projectId",
        "filter",
        "limit",
        "skip",
        "sort",
        "next",
        "previous",
    ];
    names.extend(more);
    let query = parameters(query, &names)?;
    let find = |name: &str| {
        query
            .iter()
            .find(|(at, _)| at == name)
            .map(|(_, value)| value.as_str())
    };
    let number = |name, default: usize| match find(name) {
        Some(text) => text.parse().map_err(|_| invalid(name)),
        None => Ok(default),
    };
    let limit = number("limit", 25)?;
    if !(1..=100).contains(&limit) {
        return Err(invalid("limit"));
    }
    let from = match find("next") {
        Some(cursor) if cursor.len() == 24 => cursor.parse().map_err(|_| invalid("next"))?,
        Some(_) => return Err(invalid("next")),
        None => number("skip", 0)?,
    };
    let to = (from + limit).min(items.len());
    let next = (to < items.len()).then(|| format!("{to:024}"));
    let mut page = json!({"items": items.get(from..to).unwrap_or_default(), "total": items.len()});
    if !seen.without_cursors {
        page["nextCursor"] = json!(next);
        page["previousCursor"] = Value::Null;
    }
    ok(page)
}

fn api(
    seen: &mut Seen,
    method: &Method,
    path: &str,
    query: &str,
    body: Option<Map<String, Value>>,
) -> Answer {
    let segments = path.split('/').collect::<Vec<_>>();
    let asked = (method.as_str(), &*segments);
    match segments[0] {
        "endpoints" => endpoints(seen, asked, query, body),
        "sessions" | "tasks" | "endpoint" => running(seen, asked, body),
        _ => others(seen, asked, query, body),
    }
}

type Asked<'a> = (&'a str, &'a [&'a str]);

fn no_route() -> Answer {
    Err(refused(405, 1013, "no such route"))
}

fn endpoints(
    seen: &mut Seen,
    asked: Asked<'_>,
    query: &str,
    body: Option<Map<String, Value>>,
) -> Answer {
    match asked {
        ("GET", ["endpoints"]) => {
            let items = seen.endpoints.values().cloned().collect::<Vec<_>>();
            page(seen, &items, query, &[])
        }
        ("POST", ["endpoints"]) => {
            let mut endpoint = fields(body, &["projectId", "channel", "name"], &FIELDS)?;
            endpoint.remove("projectId");
            if endpoint["channel"] == "webhook" {
                let settings = endpoint.get("settings").and_then(Value::as_object).cloned();
                fields(
                    settings,
                    &["webhookUrl", "basicAuthUser", "basicAuthPassword"],
                    &[],
                )?;
            }
            if seen
                .endpoints
                .values()
                .any(|other| other["name"] == endpoint["name"])
            {
                return Err(refused(409, 1004, "the name is taken"));
            }
            seen.made += 1;
            let id = format!("{:024}", seen.made);
            endpoint.insert("_id".to_owned(), json!(id));
            endpoint.insert("URLToken".to_owned(), json!(WEBHOOK));
            endpoint.insert("createdAt".to_owned(), json!(1_694_518_620));
            seen.endpoints.insert(id, Value::Object(endpoint.clone()));
            Ok((StatusCode::CREATED, Json(endpoint)).into_response())
        }
        ("PATCH", ["endpoints"]) => {
            parameters(query, &["projectId"])?;
            let body = fields(body, &["operations"], &[])?;
            let operations = body["operations"]
                .as_array()
                .ok_or_else(|| invalid("operations"))?;
            if operations.len() > 100 {
                return Err(invalid("operations"));
            }
            for operation in operations {
                let operation = operation.as_object().cloned();
                let kind = operation
                    .as_ref()
                    .and_then(|at| at.get("op"))
                    .and_then(Value::as_str);
                match kind {
                    Some("create") => fields(operation, &["op", "value"], &[])?,
                    Some("update") => fields(operation, &["op", "id", "value"], &[])?,
                    Some("delete") => fields(operation, &["op", "id"], &[])?,
                    _ => return Err(invalid("op")),
                };
            }
            ok(json!({}))
        }
        ("GET", ["endpoints", id]) => match seen.endpoints.get(*id) {
            Some(endpoint) => ok(endpoint.clone()),
            None => Err(not_found()),
        },
        ("PATCH", ["endpoints", id]) => {
            let change = fields(body, &[], &FIELDS)?;
            let endpoint = seen.endpoints.get_mut(*id).ok_or_else(not_found)?;
            for (name, value) in change {
                endpoint[name] = value;
            }
            Ok(nothing())
        }
        ("DELETE", ["endpoints", id]) => {
            seen.endpoints.remove(*id).ok_or_else(not_found)?;
            Ok(nothing())
        }
        ("POST", ["endpoints", _, "apikeys"]) => {
            let body = fields(body, &["name"], &[])?;
            let name = body["name"].as_str().ok_or_else(|| invalid("name"))?;
            seen.made += 1;
            let id = format!("{:024}", seen.made);
            seen.keys.insert(id.clone(), name.to_owned());
            let key = json!({"key": ENDPOINT_KEY, "_id": id, "name": name, "keyPreview": "8a4f••••••••7c2e",
                "createdAt": 1_694_518_620});
            Ok((StatusCode::CREATED, Json(key)).into_response())
        }
        ("GET", ["endpoints", _, "apikeys"]) => ok(seen
            .keys
            .iter()
            .map(|(id, name)| json!({"_id": id, "name": name, "keyPreview": "8a4f••••••••7c2e"}))
            .collect::<Vec<_>>()),
        ("DELETE", ["endpoints", _, "apikeys", id]) => {
            seen.keys.remove(*id).ok_or_else(not_found)?;
            Ok(nothing())
        }
        _ => no_route(),
    }
}

/// Sessions, tasks and the old routes of inject and notify.
fn running(seen: &mut Seen, asked: Asked<'_>, body: Option<Map<String, Value>>) -> Answer {
    match asked {
        ("POST", ["sessions", _, "context", "inject"]) => {
            let body = fields(body, &["userId", "context"], &[])?;
            ok(body["context"].clone())
        }
        ("POST", ["sessions", _, "context", "reset"]) => {
            fields(body, &["flowReferenceId", "entryPoint", "userId"], &[])?;
            ok(json!({"key": "value"}))
        }
        ("POST", ["sessions", _, "state", "inject"]) => {
            let body = fields(body, &["state", "userId"], &[])?;
            ok(json!({"state": body["state"]}))
        }
        ("POST", ["sessions", _, "state", "reset"]) => {
            fields(body, &["userId"], &[])?;
            Ok(nothing())
        }
        ("GET", ["tasks", id]) => {
            let statuses = seen.tasks.get_mut(*id).ok_or_else(not_found)?;
            let status = match statuses.len() {
                1 => statuses[0],
                _ => statuses.pop_front().ok_or_else(not_found)?,
            };
            ok(
                json!({"_id": id, "name": "trainIntents", "data": {}, "status": status, "currentStep": 1, "totalStep": 2,
                "failReason": null, "lastRunAt": "2023-11-07T05:31:56Z", "lastFinishedAt": null, "createdAt": 1_694_518_620,
                "lastChanged": 1_694_518_620, "createdBy": "a", "lastChangedBy": "a"}),
            )
        }
        ("POST", ["tasks", id, "cancel"]) => {
            let statuses = seen.tasks.get_mut(*id).ok_or_else(not_found)?;
            *statuses = VecDeque::from(["cancelling", "cancelled"]);
            ok(json!({}))
        }
        ("POST", ["endpoint", verb @ ("inject" | "notify")]) => {
            if let Some(status) = seen.legacy_gone {
                let status = StatusCode::from_u16(status).expect("a status");
                return Ok(status.into_response());
            }
            let (required, optional, said): (&[_], &[_], _) = match *verb {
                "inject" => (
                    &["userId", "sessionId", "text", "data", "URLToken"],
                    &[],
                    "Message was sent to AI for Flow processing",
                ),
                _ => (
                    &["userId", "text", "data", "URLToken"],
                    &["sessionId", "attachments"],
                    "Sucessfully sent message to user",
                ),
            };
            fields(body, required, optional)?;
            ok(json!(said))
        }
        _ => no_route(),
    }
}

fn others(
    seen: &mut Seen,
    asked: Asked<'_>,
    query: &str,
    body: Option<Map<String, Value>>,
) -> Answer {
    match asked {
        ("GET", ["conversations"]) => {
            let query = parameters(query, &["projectId", "contactIds"])?;
            let wanted = |contact: &Value| {
                let mut contacts = query
                    .iter()
                    .filter(|(name, _)| name == "contactIds")
                    .peekable();
                contacts.peek().is_none() || contacts.any(|(_, id)| contact == id)
            };
            let items = seen.lists.get("conversations").cloned().unwrap_or_default();
            ok(
                json!({"items": items.iter().filter(|item| wanted(&item["contactId"])).collect::<Vec<_>>()}),
            )
        }
        ("GET", ["conversations", _]) => {
            parameters(query, &["projectId"])?;
            let items = seen.lists.get("conversation").cloned().unwrap_or_default();
            ok(json!({"items": items, "total": items.len()}))
        }
        ("DELETE", ["conversations", _]) => {
            parameters(query, &["projectId"])?;
            Ok(nothing())
        }
        ("POST", ["handover", "provider"]) => {
            let provider = fields(
                body,
                &["name"],
                &["projectId", "service", "serviceId", "localeId", "settings"],
            )?;
            Ok((StatusCode::CREATED, Json(provider)).into_response())
        }
        ("DELETE", ["handover", "provider", _]) => Ok(nothing()),
        ("GET", segments) => {
            if let Some(items) = seen.lists.get(&*segments.join("/")) {
                return page(seen, items, query, &["type"]);
            }
            let by_id = match segments {
                [parent @ .., id] if id.len() == 24 => {
                    seen.lists.get(&*parent.join("/")).zip(Some(id))
                }
                _ => None,
            };
            let (items, id) = by_id.ok_or_else(not_found)?;
            let found = items
                .iter()
                .find(|item| item["_id"] == *id || item["id"] == *id);
            ok(found.ok_or_else(not_found)?)
        }
        _ => no_route(),
    }
}

fn endpoint(method: &Method, path: &str, body: Option<Map<String, Value>>) -> Answer {
    if method != Method::POST {
        return Err(refused(405, 1013, "no such route"));
    }
    let segments = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
    if let ["handover", "genesysCloudOM"] = *segments {
        fields(body, &["userId", "topic"], &["disconnectType"])?;
        return Ok(StatusCode::OK.into_response());
    }
    let (verb, token) = match *segments {
        [token] => ("send", token),
        [verb @ ("inject" | "notify"), token] => (verb, token),
        _ => return Err(not_found()),
    };
    if token != REST && token != WEBHOOK {
        return Err(not_found());
    }
    let optional: &[_] = match verb {
        "notify" => &["text", "data", "attachments"],
        _ => &["text", "data"],
    };
    let body = fields(body, &["userId", "sessionId"], optional)?;
    if !body.contains_key("text") && !body.contains_key("data") {
        return Err(missing("text or data"));
    }
    match (verb, token) {
        ("send", REST) => ok(json!({
            "text": "Hello, this is the Cognigy.AI Agent. How can I help you?",
            "data": {},
            "outputStack": [
                {"text": "Hello, this is the Cognigy.AI Agent.", "data": {}, "traceId": "t-1",
                 "disableSensitiveLogging": false, "source": "bot"},
                {"text": "How can I help you?", "data": {}, "traceId": "t-1",
                 "disableSensitiveLogging": false, "source": "bot"}],
            "userId": body["userId"], "sessionId": body["sessionId"],
        })),
        // A REST Endpoint has nobody to inject to.
        (_, REST) => Err(invalid("the endpoint")),
        _ => Ok(StatusCode::OK.into_response()),
    }
}
