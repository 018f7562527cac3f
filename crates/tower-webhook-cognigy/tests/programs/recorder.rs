//! A server that keeps what it is sent.

use axum::{Json, Router, body::to_bytes, extract::Request, response::IntoResponse};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct Seen {
    /// Method and target.
    pub line: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str());
        value.expect("a header").expect("text")
    }
}

/// Answers with a script, and `200 {}` after its end.
#[derive(Clone, Default)]
pub struct Recorder {
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<(u16, Value)>>>,
}

impl Recorder {
    pub fn answering<const N: usize>(script: [(u16, Value); N]) -> Self {
        let recorder = Self::default();
        recorder.script.lock().unwrap().extend(script);
        recorder
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn app(&self) -> Router {
        let recorder = self.clone();
        Router::new().fallback(async move |req: Request| {
            let (head, body) = req.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            recorder.seen.lock().unwrap().push(Seen {
                line: format!("{} {}", head.method, head.uri),
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            });
            let next = recorder.script.lock().unwrap().pop_front();
            let (status, body) = next.unwrap_or((200, json!({})));
            (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
        })
    }

    /// Serves it on loopback.
    pub async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = self.app();
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }
}
