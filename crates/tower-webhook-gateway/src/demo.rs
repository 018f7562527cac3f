//! `--demo`: the gateway sends itself the requests of a sender, a repeating sender and an attacker, and
//! prints the results on stderr.

use crate::{args::Args, deliver::Client, hints::signed};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tower::ServiceExt;
use tower_webhook::{BoxError, body::BufferedBody, clock::WallClock, signature::MessageId};

/// The number of requests for the status of the first event, and the time between two.
const ASKS: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

pub async fn run(args: &Args, address: SocketAddr) {
    if let Err(error) = (Demo { args, address }).tell().await {
        say!("the demo failed: {error}");
    }
}

struct Demo<'a> {
    args: &'a Args,
    address: SocketAddr,
}

impl Demo<'_> {
    async fn tell(&self) -> Result<(), BoxError> {
        let id = MessageId::generate();
        let now = WallClock::system().unix_seconds();
        let event = format!(
            r#"{{"eventId":"{id}","timestamp":{now},"type":"USER_INPUT_RECEIVED","payload":{{"input":"hello"}},"userId":"u-1"}}"#
        );
        let dialog = format!(
            r#"{{"conversationId":"{id}","currentNode":"lookup","variables":{{"customerId":"c-1"}}}}"#
        );

        let first = self.post("a signed event", &event, &event).await?;
        self.post("the same event again", &event, &event).await?;
        self.post("a signed dialog event", &dialog, &dialog).await?;
        let forged = event.replace("hello", "transfer everything");
        self.post("the event, changed on its way", &forged, &event)
            .await?;
        self.post("a signed body that is no event", "[]", "[]")
            .await?;

        let Some(task) = first.get("taskId").and_then(Value::as_str) else {
            return Err("the first event was not accepted".into());
        };
        let path = format!("/webhooks/cognigy/status/{task}");
        let mut answer = (StatusCode::ACCEPTED, Value::Null);
        for _ in 0..ASKS {
            answer = self.send(Method::GET, &path, HeaderMap::new(), "").await?;
            if answer.0 != StatusCode::ACCEPTED {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tell("what became of the first event", &answer);
        let health = self
            .send(Method::GET, "/health", HeaderMap::new(), "")
            .await?;
        tell("how the gateway is", &health);
        Ok(())
    }

    /// Posts `body` with the signature of `signed_body`.
    async fn post(&self, what: &str, body: &str, signed_body: &str) -> Result<Value, BoxError> {
        let headers = signed(self.args, signed_body)?;
        let answer = self
            .send(Method::POST, "/webhooks/cognigy", headers, body)
            .await?;
        tell(what, &answer);
        Ok(answer.1)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: &str,
    ) -> Result<(StatusCode, Value), BoxError> {
        let mut req = Request::new(BufferedBody::new(body.to_owned()));
        *req.method_mut() = method;
        *req.uri_mut() = format!("http://{}{path}", self.address).parse()?;
        *req.headers_mut() = headers;
        req.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let answer = Client::new(true).oneshot(req).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body)?))
    }
}

fn tell(what: &str, (status, body): &(StatusCode, Value)) {
    say!("{what:<32} {status}  {body}");
}
