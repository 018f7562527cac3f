//! axum's `from_fn` outside of a receiver, between its layers and inside of them, over a socket.

use super::receive::signed;
use crate::SECRET;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
    routing::post,
};
use http::HeaderMap;
use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tower::{ServiceBuilder, layer::layer_fn};
use tower_webhook::{
    BufferBodyLayer, IdempotencyLayer, SignatureVerifyLayer,
    idempotency::{KeySource, MemoryStore},
    signature::{Verified, scheme::StandardWebhooks},
    stack::{self, BetweenLayer},
};

const LIMIT: usize = 1 << 10;

/// What the middleware saw: calls, and those of a verified request.
#[derive(Clone, Default)]
struct Seen(Arc<[AtomicUsize; 2]>);

impl Seen {
    fn note(&self, req: &Request) {
        self.0[0].fetch_add(1, Ordering::SeqCst);
        if req.extensions().get::<Verified>().is_some() {
            self.0[1].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counts(&self) -> (usize, usize) {
        (
            self.0[0].load(Ordering::SeqCst),
            self.0[1].load(Ordering::SeqCst),
        )
    }
}

fn scheme() -> StandardWebhooks {
    StandardWebhooks::new(SECRET).unwrap()
}

fn once() -> IdempotencyLayer<MemoryStore> {
    IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id())
}

/// Posts a signed request twice and a forged one to the application, over a socket: the statuses, and the last
/// answer that was not refused.
async fn ask(app: Router) -> (Vec<u16>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let client = reqwest::Client::new();
    let (mut statuses, mut text) = (Vec::new(), String::new());
    for body in ["hello", "hello", "forged"] {
        let headers: HeaderMap = signed("msg_1", "hello").await;
        let res = client
            .post(&url)
            .headers(headers)
            .body(body)
            .send()
            .await
            .unwrap();
        statuses.push(res.status().as_u16());
        if res.status().is_success() {
            text = res.text().await.unwrap();
        }
    }
    server.abort();
    (statuses, text)
}

async fn echo(body: Bytes) -> Bytes {
    body
}

fn routes() -> Router {
    Router::new().route("/hooks", post(echo))
}

/// A middleware as an axum user writes it.
fn watch(
    seen: &Seen,
) -> impl Fn(Request, Next) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>>
+ Clone
+ Send
+ Sync
+ 'static
+ use<> {
    let seen = seen.clone();
    move |req, next| {
        seen.note(&req);
        Box::pin(next.run(req))
    }
}

#[tokio::test]
async fn outside_of_the_receiver_it_needs_nothing() {
    let seen = Seen::default();
    let receive = stack::receive(scheme())
        .once(MemoryStore::default())
        .build();
    let layers = ServiceBuilder::new()
        .layer(from_fn(watch(&seen)))
        .layer(receive);
    let (statuses, text) = ask(routes().layer(layers)).await;
    assert_eq!((statuses, text.as_str()), (vec![200, 200, 401], "hello"));
    assert_eq!(seen.counts(), (3, 0));
}

#[tokio::test]
async fn between_buffer_and_verify_it_sees_what_is_not_verified_yet() {
    let seen = Seen::default();
    let layers = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(LIMIT))
        .layer(BetweenLayer::new(from_fn(watch(&seen)), LIMIT))
        .layer(SignatureVerifyLayer::new(scheme()))
        .layer(once());
    let (statuses, text) = ask(routes().layer(layers)).await;
    assert_eq!((statuses, text.as_str()), (vec![200, 200, 401], "hello"));
    assert_eq!(seen.counts(), (3, 0));
}

#[tokio::test]
async fn between_verify_and_idempotency_it_sees_what_is_verified() {
    let seen = Seen::default();
    let layers = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(LIMIT))
        .layer(SignatureVerifyLayer::new(scheme()))
        .layer(BetweenLayer::new(from_fn(watch(&seen)), LIMIT))
        .layer(once());
    let (statuses, text) = ask(routes().layer(layers)).await;
    assert_eq!((statuses, text.as_str()), (vec![200, 200, 401], "hello"));
    assert_eq!(seen.counts(), (2, 2));
}

#[tokio::test]
async fn inside_of_the_receiver_it_sees_what_is_handled() {
    let receive = || {
        stack::receive(scheme())
            .once(MemoryStore::default())
            .build()
    };
    // On the router, and in one builder with the receiver.
    let seen = Seen::default();
    let app = routes().layer(from_fn(watch(&seen))).layer(receive());
    let (statuses, text) = ask(app).await;
    assert_eq!((statuses, text.as_str()), (vec![200, 200, 401], "hello"));
    assert_eq!(seen.counts(), (1, 1));

    let seen = Seen::default();
    let inside = BetweenLayer::new(from_fn(watch(&seen)), LIMIT);
    let layers = ServiceBuilder::new().layer(receive()).layer(inside);
    let (statuses, text) = ask(routes().layer(layers)).await;
    assert_eq!((statuses, text.as_str()), (vec![200, 200, 401], "hello"));
    assert_eq!(seen.counts(), (1, 1));
}

#[tokio::test]
async fn what_a_middleware_makes_of_a_body_is_handled_and_limited() {
    let doubled = async |req: Request, next: Next| {
        let (mut head, body) = req.into_parts();
        let body = axum::body::to_bytes(body, LIMIT).await.unwrap();
        head.headers.remove("content-length");
        next.run(Request::from_parts(
            head,
            Body::from([&*body, &*body].concat()),
        ))
        .await
    };
    for (limit, expected) in [
        (LIMIT, (vec![200, 200, 401], "hellohello")),
        (9, (vec![413, 413, 401], "")),
    ] {
        let layers = ServiceBuilder::new()
            .layer(BufferBodyLayer::new(LIMIT))
            .layer(SignatureVerifyLayer::new(scheme()))
            .layer(BetweenLayer::new(from_fn(doubled), limit));
        let (statuses, text) = ask(routes().layer(layers)).await;
        assert_eq!((statuses, text.as_str()), expected);
    }
}

/// Reading a body again takes no copy: the bytes are those that were verified.
#[tokio::test]
async fn a_body_that_is_passed_on_is_not_copied() {
    let same = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&same);
    let pointers = tower::service_fn(
        move |req: http::Request<tower_webhook::body::BufferedBody>| {
            let verified = req
                .extensions()
                .get::<Verified>()
                .unwrap()
                .body()
                .unwrap()
                .as_ptr();
            count.fetch_add(
                usize::from(verified == req.body().as_bytes().as_ptr()),
                Ordering::SeqCst,
            );
            ready(Ok::<_, Infallible>(http::Response::new(req.into_body())))
        },
    );
    let layers = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(LIMIT))
        .layer(SignatureVerifyLayer::new(scheme()))
        .layer(BetweenLayer::new(from_fn(watch(&Seen::default())), LIMIT))
        .layer(layer_fn(move |_: axum::routing::Route| pointers.clone()));
    let (statuses, _) = ask(routes().layer(layers)).await;
    assert_eq!(
        (statuses, same.load(Ordering::SeqCst)),
        (vec![200, 200, 401], 2)
    );
}
