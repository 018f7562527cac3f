//! Where keys come from, what they are worth within which scope, and what shares a fingerprint.

use crate::{Runs, call, counting, delivery, disposition, refusal, text, webhook};
use http::{HeaderValue, Method, Request};
use tower::Layer;
use tower_webhook::{
    body::BufferedBody,
    idempotency::{
        Disposition, IdempotencyError, IdempotencyKey, IdempotencyLayer, KeyError, KeySource,
        MAX_ID_LEN, MAX_SCOPE_LEN, MemoryStore,
    },
};

fn malformed(error: KeyError, expected: &str) -> IdempotencyError {
    let expected = expected.to_owned();
    IdempotencyError::Key { error, expected }
}

fn with_ids(ids: &[&[u8]]) -> Request<BufferedBody> {
    let mut req = Request::post("/hooks")
        .body(BufferedBody::default())
        .unwrap();
    for id in ids {
        let id = HeaderValue::from_bytes(id).unwrap();
        req.headers_mut().append(crate::ID, id);
    }
    req
}

#[tokio::test]
async fn quoted_and_bare_are_the_same_key() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(counting(&runs));
    for id in [&b"abc"[..], b"\"abc\"", b" abc ", b"\t\"abc\" "] {
        assert_eq!(text(call(&service, with_ids(&[id])).await).await, "run 1");
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn an_unusable_key_is_a_bad_request() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default()).key_optional();
    let service = layer.layer(counting(&runs));
    let long = [b'x'; MAX_ID_LEN + 1];
    for (ids, expected) in [
        (&[&b"a"[..], b"b"][..], KeyError::Repeated),
        (&[b"a", b"a"], KeyError::Repeated),
        (&[b"caf\xc3\xa9"], KeyError::Malformed),
        (&[b"\xff"], KeyError::Malformed),
        (&[b"a\tb"], KeyError::Malformed),
        (&[b"\"a"], KeyError::Malformed),
        (&[b"a\""], KeyError::Malformed),
        (&[b"\"a\"b"], KeyError::Malformed),
        (&[b""], KeyError::Empty),
        (&[b"  "], KeyError::Empty),
        (&[b"\"\""], KeyError::Empty),
        (&[&long], KeyError::TooLong { len: 256 }),
    ] {
        let refused = call(&service, with_ids(ids)).await;
        assert_eq!(refused.status(), 400, "{ids:?}");
        assert_eq!(
            refusal(&refused),
            Some(malformed(expected, "the header `x-id`"))
        );
    }
    assert_eq!(runs.count(), 0);
    let longest = with_ids(&[&long[1..]]);
    assert_eq!(call(&service, longest).await.status(), 200);
}

#[tokio::test]
async fn an_optional_key_may_be_missing_and_then_nothing_is_guarded() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default()).key_optional();
    let service = layer.layer(counting(&runs));
    for run in ["run 1", "run 2"] {
        let answer = call(&service, with_ids(&[])).await;
        assert_eq!(disposition(&answer), None);
        assert_eq!(text(answer).await, run);
    }
}

#[tokio::test]
async fn the_api_preset_guards_post_and_patch_alone() {
    let layer = IdempotencyLayer::api(MemoryStore::default());
    for (method, guarded) in [
        (Method::POST, true),
        (Method::PATCH, true),
        (Method::GET, false),
        (Method::PUT, false),
        (Method::DELETE, false),
    ] {
        let runs = Runs::default();
        let service = layer.layer(counting(&runs));
        let req = |key: &'static str| {
            Request::builder()
                .method(&method)
                .uri(format!("/{method}"))
                .header("idempotency-key", key)
                .body(BufferedBody::default())
                .unwrap()
        };
        call(&service, req("k")).await;
        call(&service, req("k")).await;
        assert_eq!(runs.count(), if guarded { 1 } else { 2 }, "{method}");
        let bad = call(&service, req("")).await.status();
        assert_eq!(bad == 400, guarded, "{method}");
    }
}

#[tokio::test]
async fn a_key_in_the_body_is_found_and_a_header_stands_in_for_it() {
    let runs = Runs::default();
    let source = KeySource::json_pointer("/data/eventId")
        .unwrap()
        .or(KeySource::header(crate::ID));
    let layer = webhook(MemoryStore::default()).key(source);
    let service = layer.layer(counting(&runs));
    let req = |body: &'static str| delivery("from-header").map(|_| BufferedBody::from(body));
    for (body, run) in [
        (r#"{"data":{"eventId":"e"}}"#, "run 1"),
        (r#"{"data":{"eventId":"e"},"sentAt":7}"#, "run 1"),
        (r#"{"data":{"eventId":17}}"#, "run 2"),
        (r#"{"data":{}}"#, "run 3"),
        ("no json", "run 3"),
    ] {
        assert_eq!(text(call(&service, req(body)).await).await, run, "{body}");
    }
    // A body whose id depends on the parser has none that a header could stand in for.
    let twice = call(&service, req(r#"{"data":{"eventId":"e"},"data":{}}"#)).await;
    let place = "a string or an integer at `/data/eventId` in a JSON body, or the header `x-id`";
    assert_eq!(refusal(&twice), Some(malformed(KeyError::Repeated, place)));
    assert_eq!(
        text(twice).await,
        format!(
            r#"{{"type":"about:blank","title":"The idempotency key is malformed","status":400,"detail":"the request has more than one idempotency key: the key is read from {place}"}}"#
        )
    );
}

#[tokio::test]
async fn a_closure_finds_the_key_or_says_why_not() {
    let source = KeySource::from_fn(|req| match req.uri().query() {
        Some("bad") => Err(KeyError::Malformed),
        query => Ok(query.map(str::to_owned)),
    });
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default()).key(source);
    let service = layer.layer(counting(&runs));
    let req = |uri: &str| Request::post(uri).body(BufferedBody::default()).unwrap();
    assert_eq!(call(&service, req("/?id")).await.status(), 200);
    assert_eq!(call(&service, req("/?id")).await.status(), 200);
    assert_eq!(runs.count(), 1);
    assert_eq!(call(&service, req("/?bad")).await.status(), 400);
    assert_eq!(call(&service, req("/")).await.status(), 400);
}

// Scope

#[tokio::test]
async fn the_same_id_on_two_paths_is_two_keys() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(counting(&runs));
    for (path, run) in [("/a", "run 1"), ("/b", "run 2"), ("/a?q", "run 1")] {
        let mut req = delivery("id");
        *req.uri_mut() = path.parse().unwrap();
        assert_eq!(text(call(&service, req).await).await, run, "{path}");
    }
}

#[tokio::test]
async fn the_same_id_of_two_tenants_is_two_keys() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default())
        .scope_with(|req| req.extensions().get::<&str>().unwrap().to_string());
    let service = layer.layer(counting(&runs));
    for (tenant, run) in [("one", "run 1"), ("two", "run 2"), ("one", "run 1")] {
        let mut req = delivery("id");
        req.extensions_mut().insert(tenant);
        assert_eq!(text(call(&service, req).await).await, run);
    }
}

#[tokio::test]
async fn a_fixed_scope_spans_paths() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default()).scope("stripe");
    let service = layer.layer(counting(&runs));
    for path in ["/a", "/b"] {
        let mut req = delivery("id");
        *req.uri_mut() = path.parse().unwrap();
        assert_eq!(text(call(&service, req).await).await, "run 1");
    }
}

/// Two tenants of one server may use the same ids, or one of them may use up those of the other.
#[cfg(feature = "signature")]
#[tokio::test]
async fn the_ids_of_two_tenants_are_not_the_same() {
    use tower_webhook::signature::Verified;
    let runs = Runs::default();
    let from = |tenant: Option<&str>| {
        let mut req = delivery("1");
        let verified = Verified::new("test");
        req.extensions_mut().insert(match tenant {
            Some(tenant) => verified.with_tenant(tenant),
            None => verified,
        });
        req
    };
    let store = MemoryStore::default();
    let by_path = webhook(store.clone());
    let fixed = webhook(store).scope("stripe");
    for (at, layer) in [by_path, fixed].into_iter().enumerate() {
        let service = layer.layer(counting(&runs));
        let tenants = [None, Some("a"), Some("b"), Some("a:/hooks"), Some("")];
        for (run, tenant) in (at * tenants.len() + 1..).zip(tenants) {
            for _ in 0..2 {
                let response = call(&service, from(tenant)).await;
                assert_eq!(text(response).await, format!("run {run}"), "{tenant:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_scope_that_is_too_long_is_refused_not_cut() {
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(counting(&Runs::default()));
    let mut req = delivery("id");
    *req.uri_mut() = format!("/{}", "x".repeat(MAX_SCOPE_LEN)).parse().unwrap();
    let refused = call(&service, req).await;
    let reason = KeyError::ScopeTooLong { len: 1025 };
    assert_eq!(
        refusal(&refused),
        Some(malformed(reason, "the header `x-id`"))
    );
}

#[test]
fn scope_and_id_never_run_into_each_other() {
    let splits: Vec<_> = (0..4)
        .map(|at| "abcd".split_at(at))
        .map(|(scope, id)| IdempotencyKey::new(scope, id).unwrap())
        .collect();
    for (index, key) in splits.iter().enumerate() {
        assert_eq!((key.scope(), key.id()), "abcd".split_at(index));
        assert!(!splits[..index].contains(key));
    }
    let wide = "é".repeat(MAX_SCOPE_LEN / 2);
    let long = IdempotencyKey::new(&wide, &"ü".repeat(127)).unwrap();
    assert_eq!((long.scope(), long.id().chars().count()), (&*wide, 127));
}

// Fingerprint

#[tokio::test]
async fn the_api_preset_compares_method_path_query_and_body() {
    let req = |method: Method, uri: &str, body: &'static str| {
        Request::builder()
            .method(method)
            .uri(uri)
            .header("idempotency-key", "k")
            .body(BufferedBody::from(body))
            .unwrap()
    };
    let layer = IdempotencyLayer::api(MemoryStore::default()).scope("account");
    let service = layer.layer(counting(&Runs::default()));
    call(&service, req(Method::POST, "/a", "{}")).await;
    for (status, other) in [
        (200, req(Method::POST, "/a", "{}")),
        (422, req(Method::PATCH, "/a", "{}")),
        (422, req(Method::POST, "/b", "{}")),
        (422, req(Method::POST, "/a?q", "{}")),
        (422, req(Method::POST, "/a", "{ }")),
    ] {
        let line = format!("{} {}", other.method(), other.uri());
        assert_eq!(call(&service, other).await.status(), status, "{line}");
    }
}

#[tokio::test]
async fn the_webhook_preset_compares_nothing() {
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(counting(&Runs::default()));
    call(&service, delivery("a")).await;
    let changed = delivery("a").map(|_| BufferedBody::from(r#"{"sentAt":2}"#));
    let repeat = call(&service, changed).await;
    assert_eq!(disposition(&repeat), Some(Disposition::Replayed));
}

#[cfg(feature = "canonical-json")]
#[tokio::test]
async fn canonical_json_is_the_same_request_in_another_spelling() {
    let layer = IdempotencyLayer::api(MemoryStore::default())
        .fingerprint(tower_webhook::idempotency::FingerprintOf::CanonicalJson);
    let service = layer.layer(counting(&Runs::default()));
    let req = |body: &'static str| {
        Request::post("/")
            .header("idempotency-key", "k")
            .body(BufferedBody::from(body))
            .unwrap()
    };
    call(&service, req(r#"{"a":1,"b":[1.0,"\u0078"]}"#)).await;
    for (status, body) in [
        (200, r#"{ "b": [1, "x"], "a": 1 }"#),
        (422, r#"{"a":1,"b":["x",1]}"#),
        (422, r#"{"a":2,"b":[1.0,"x"]}"#),
        (422, r#"{"a":9,"a":1,"b":[1.0,"x"]}"#),
    ] {
        assert_eq!(call(&service, req(body)).await.status(), status, "{body}");
    }
}

#[cfg(feature = "axum")]
mod in_axum {
    use super::*;
    use axum::{Router, body::Body, http::Response, routing::post};
    use std::convert::Infallible;
    use tower::{ServiceBuilder, ServiceExt};
    use tower_webhook::BufferBodyLayer;

    fn app(inner_only: bool) -> Router {
        let guard = ServiceBuilder::new()
            .layer(BufferBodyLayer::new(1024))
            .layer(webhook(MemoryStore::default()));
        let charge = |at: &'static str| Router::new().route("/charge", post(async move || at));
        if inner_only {
            // One layer, one store, on two routers with the same inner path.
            Router::new()
                .nest("/v1", charge("v1").layer(guard.clone()))
                .nest("/v2", charge("v2").layer(guard))
        } else {
            let nested = Router::new().nest("/v1", charge("v1"));
            nested.nest("/v2", charge("v2")).layer(guard)
        }
    }

    /// The error type says it: a refusal in a stack is a response.
    async fn send(app: &Router, path: &str, id: &str) -> Response<Body> {
        let req = Request::post(path).header(crate::ID, id);
        let req = req.body(Body::from("{}")).unwrap();
        let answer: Result<_, Infallible> = app.clone().oneshot(req).await;
        answer.unwrap()
    }

    #[tokio::test]
    async fn nested_routers_with_the_same_inner_path_are_two_routes() {
        for app in [app(true), app(false)] {
            for (path, at) in [("/v1/charge", "v1"), ("/v2/charge", "v2")] {
                assert_eq!(text(send(&app, path, "id").await).await, at);
                let repeat = send(&app, path, "id").await;
                assert_eq!(repeat.headers()["idempotent-replayed"], "true");
                assert_eq!(text(repeat).await, at);
            }
            assert_eq!(send(&app, "/v1/charge", "").await.status(), 400);
        }
    }
}
