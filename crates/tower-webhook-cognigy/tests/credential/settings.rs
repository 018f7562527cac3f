//! What is refused when it is built, what is never shown, and what a call costs.

use http::{Request, Response};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll, Waker},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_webhook::{BoxError, InvalidConfig, body::BufferedBody, target::TargetRules};
use tower_webhook_cognigy::credential::{
    ClientCredentials, Credential, CredentialLayer, Credentials, TokenSource, TokenSourceBuilder,
};
use tower_webhook_cognigy::rate_limit::RateLimitLayer;

/// Answers at once, without an allocation.
#[derive(Clone)]
struct Peer;

impl Service<Request<BufferedBody>> for Peer {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<BufferedBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let (head, _) = req.into_parts();
        drop(head);
        ready(Ok(Response::new(BufferedBody::default())))
    }
}

fn problem<T>(built: Result<T, InvalidConfig>) -> String {
    built.err().map(|error| error.to_string()).unwrap()
}

#[test]
fn a_credential_that_no_header_carries_is_refused() {
    for (built, expected) in [
        (Credential::api_key(""), "`api_key` must not be empty"),
        (
            Credential::api_key("key\n"),
            "`api_key` must not have a line break or another control character",
        ),
        (
            Credential::api_key("key "),
            "`api_key` must not begin or end with a space, which a header loses",
        ),
        (
            Credential::header("X-Key", ""),
            "`secret` must not be empty",
        ),
        (
            Credential::header("X-Key", "a\r\nX-Admin: yes"),
            "`secret` must not have a line break or another control character",
        ),
        (
            Credential::header("X Key", "a"),
            "`header` is no name of a header",
        ),
        (
            Credential::header("Content-Length", "5"),
            "`header` has a meaning of its own for the connection",
        ),
        (Credential::basic("", "p"), "`user` must not be empty"),
        (
            Credential::basic("a:b", "p"),
            "`user` must not have a `:`, which ends it",
        ),
        (Credential::basic("a", ""), "`password` must not be empty"),
        (
            Credential::basic("a", "p\n"),
            "`password` must not have control characters",
        ),
        (Credential::bearer(""), "`token` must not be empty"),
        (
            Credential::bearer("a b"),
            "`token` must be printable ASCII without spaces",
        ),
        (
            Credential::bearer("tökén"),
            "`token` must be printable ASCII without spaces",
        ),
    ] {
        assert_eq!(problem(built), expected);
    }
}

fn source(address: &str) -> TokenSourceBuilder {
    TokenSource::builder(ClientCredentials::form("client", "s3cret"), address)
}

#[test]
fn a7_6_only_https_and_public_addresses_are_taken_unless_more_is_allowed() {
    let all = TargetRules::new().allow_http(true).allow_private(true);
    for (address, allowed) in [
        ("http://api.example.com", true),
        ("https://127.0.0.1", true),
        ("https://169.254.169.254/token", true),
        ("https://user:s3cret@api.example.com", false),
        ("ftp://api.example.com", false),
        ("api.example.com", false),
        ("/token", false),
        ("not an address", false),
        ("", false),
    ] {
        let refused = problem(source(address).build(Peer));
        assert!(
            refused.starts_with("`address` ") && !refused.contains("s3cret"),
            "{refused}"
        );
        assert_eq!(
            source(address).rules(all).build(Peer).is_ok(),
            allowed,
            "{address}"
        );

        let layer = |rules| CredentialLayer::with_rules(Credential::none(), address, rules);
        let refused = problem(layer(TargetRules::new()));
        assert!(
            refused.starts_with("`origin` ") && !refused.contains("s3cret"),
            "{refused}"
        );
        assert_eq!(layer(all).is_ok(), allowed, "{address}");
    }
    let zero = source("https://api.example.com").timeout(std::time::Duration::ZERO);
    assert_eq!(
        problem(zero.build(Peer)),
        "`timeout` must be longer than zero"
    );
}

#[test]
fn a7_9_nothing_shows_a_secret() {
    let tokens = source("https://api.example.com/token?key=s3cret")
        .build(Peer)
        .unwrap();
    let builder = source("https://api.example.com");
    let grant = ClientCredentials::basic_json("client", "s3cret");
    let mut shown = vec![format!("{tokens:?} {builder:?} {grant:?}")];
    for credential in [
        Credential::api_key("s3cret").unwrap(),
        Credential::basic("user", "s3cret").unwrap(),
        Credential::bearer("s3cret").unwrap(),
        Credential::token(tokens),
    ] {
        let layer = CredentialLayer::new(credential, "https://api.example.com").unwrap();
        shown.push(format!("{layer:?}"));
    }
    let shown = shown.concat();
    assert!(
        !shown.contains("s3cret") && !shown.contains("czNjcmV0"),
        "{shown}"
    );
    assert!(
        shown.contains("TokenSource(api.example.com/token)"),
        "{shown}"
    );
}

/// In an `async` block that owns the closure, the compiler asks for `From` of every lifetime
/// ([rust#64552](https://github.com/rust-lang/rust/issues/64552)): no bound of a layer changes that. The call itself can be
/// spawned, and a boxed service can be in a block.
#[tokio::test]
async fn a_call_over_a_closure_whose_error_is_boxed_can_be_spawned_as_it_is_or_with_the_service_boxed()
 {
    type Boxed = BoxCloneSyncService<Request<BufferedBody>, Response<BufferedBody>, BoxError>;

    let peer = service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    });
    let req = || {
        let url = "https://api.example.com/";
        Request::get(url).body(BufferedBody::default()).unwrap()
    };
    let credential = Credential::bearer("t").unwrap();
    let layer = CredentialLayer::new(credential, "https://api.example.com").unwrap();
    let named = Credentials::new();
    let limit = RateLimitLayer::documents();
    for call in [
        tokio::spawn(layer.layer(peer).oneshot(req())),
        tokio::spawn(named.layer(peer).oneshot(req())),
        tokio::spawn(limit.layer(peer).oneshot(req())),
    ] {
        assert!(call.await.unwrap().is_ok());
    }
    let boxed = Boxed::new(limit.layer(named.layer(layer.layer(peer))));
    let call = tokio::spawn(async move { boxed.oneshot(req()).await.is_ok() });
    assert!(call.await.unwrap());
}

#[tokio::test]
async fn an_origin_is_scheme_host_and_port() {
    let layer = CredentialLayer::new(
        Credential::api_key("k").unwrap(),
        "https://api.example.com/api/v2",
    );
    let service = service_fn(|req: Request<BufferedBody>| async move {
        Ok::<_, Infallible>(Response::new(req.headers().contains_key("x-api-key")))
    });
    let mut api = layer.unwrap().layer(service);
    for (url, is_ours) in [
        ("https://api.example.com/", true),
        ("https://API.example.COM:443/api/v2?x=1", true),
        ("http://api.example.com/", false),
        ("https://api.example.com:8443/", false),
        ("https://example.com/", false),
        ("https://api.example.com.evil.com/", false),
        ("https://api.example.com@evil.com/", false),
        ("https://evil.com/api.example.com", false),
        ("/api/v2", false),
    ] {
        let req = Request::get(url).body(BufferedBody::default()).unwrap();
        let attached = api.call(req).await.unwrap().into_body();
        assert_eq!(attached, is_ours, "{url}");
    }
}

#[test]
fn a_fixed_credential_costs_no_allocation() {
    let layer = CredentialLayer::new(Credential::bearer("t").unwrap(), "https://api.example.com");
    let mut api = layer.unwrap().layer(Peer);
    for url in ["https://api.example.com/", "https://other.example.com/"] {
        let mut req = Request::get(url).body(BufferedBody::default()).unwrap();
        req.headers_mut().reserve(4);
        let mut cx = Context::from_waker(Waker::noop());
        let mut req = Some(req);
        let counted = allocation_counter::measure(|| {
            let call = std::pin::pin!(api.call(req.take().unwrap()));
            assert!(call.poll(&mut cx).is_ready());
        });
        assert_eq!(counted.count_total, 0, "{url}");
    }
}

/// A file of this one credential.
fn read(entry: &str) -> Result<Credentials, InvalidConfig> {
    let file = format!(r#"{{"crm": {entry}}}"#);
    Credentials::from_json(file.as_bytes(), TargetRules::new(), &Peer)
}

#[test]
fn a_file_of_credentials_is_refused_with_the_place_and_without_the_secret() {
    for (entry, said) in [
        (r#"{"bearer": "5ecret"}"#, "crm: is missing, unknown"),
        (
            r#"{"origin": "https://crm.example", "bearer": "5ecret", "colour": 1}"#,
            "crm.colour: is missing, unknown or of another type (line 1",
        ),
        (
            r#"{"origin": "https://crm.example", "basic": "5ecret"}"#,
            "crm.basic: is missing",
        ),
        (
            r#"{"origin": "https://crm.example", "bearer": "5ecret", "header": {"name": "X", "value": "5ecret"}}"#,
            "crm: `bearer` or `basic`, `header` or `token` must be there, and only one of them",
        ),
        (r#"{"origin": "https://crm.example"}"#, "only one of them"),
        (
            r#"{"origin": "http://crm.example", "bearer": "5ecret"}"#,
            "crm: `origin` is not permitted",
        ),
        (
            r#"{"origin": "https://crm.example", "bearer": "5ecret\n"}"#,
            "crm: `token` must",
        ),
        (
            r#"{"origin": "https://crm.example", "token": {"url": "https://10.0.0.1/token", "client_id": "i", "client_secret": "5ecret"}}"#,
            "crm: `address`",
        ),
        (
            r#"{"origin": "https://crm.example", "token": {"url": "https://a.example/t", "client_id": "i", "client_secret": "5ecret", "grant": "5ecret"}}"#,
            "crm.token.grant: is missing, unknown",
        ),
        (r#""5ecret"} {"#, "crm: is missing"),
        (
            r#"{"origin": "https://crm.example", "bearer": "5ecret"}, "crm": {"origin": "https://crm.example", "bearer": "5ecret"}"#,
            "crm: there are two of this name",
        ),
    ] {
        let error = read(entry).unwrap_err().to_string();
        assert!(error.starts_with("`credentials` "), "{error}");
        assert!(error.contains(said), "{entry}: {error}");
        assert!(!error.contains("5ecret"), "{error}");
    }
    let fine = r#"{"origin": "https://crm.example", "bearer": "5ecret"}"#;
    let shown = format!("{:?}", read(fine).unwrap());
    assert!(
        shown.contains("crm") && !shown.contains("5ecret"),
        "{shown}"
    );
}
