//! Over sockets: what is sent, and to whom.

use crate::{
    client, get, local, send,
    server::{Seen, Server, answer, token},
    tokens, with,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tower::{Layer, ServiceExt};
use tower_webhook::outcome::{Outcome, OutcomeKind};
use tower_webhook_cognigy::credential::{
    ClientCredentials, Credential, CredentialName, Credentials, TokenError, TokenErrorKind,
    TokenSource,
};

/// What the endpoint and then the API got of a call with a token of this grant.
async fn exchange(grant: ClientCredentials) -> [Seen; 2] {
    let server = Server::start(|seen| match seen.method() {
        "POST" => token("t-1", 3600),
        _ => answer(200, "", "ok"),
    })
    .await;
    let api = with(Credential::token(tokens(grant, &server)), &server);
    let response = send(&api, get(&server.url("/api"))).await.unwrap();
    assert_eq!(response.body(), "ok");
    server.seen().try_into().unwrap()
}

fn request(line: &str, headers: &[&str], body: &str) -> Seen {
    Seen {
        line: line.to_owned(),
        headers: headers.iter().map(|&line| line.to_owned()).collect(),
        body: body.to_owned(),
    }
}

const FORM: &str = "content-type: application/x-www-form-urlencoded";

#[tokio::test]
async fn a0_the_token_of_s0_is_asked_for_with_a_basic_header_and_a_form() {
    let grant = ClientCredentials::basic_form("client-7", "s3cr:et");
    let [asked, called] = exchange(grant.clone().scopes(["bot:webhooks:manage"])).await;
    let basic = "authorization: Basic Y2xpZW50LTc6czNjcjpldA==";
    let expected = request(
        "POST /api/v2/auth/token",
        &["accept: application/json", basic, FORM],
        "grant_type=client_credentials&scope=bot%3Awebhooks%3Amanage",
    );
    assert_eq!(asked, expected);
    assert_eq!(called.header("authorization"), Some("Bearer t-1"));

    let [asked, _] = exchange(grant).await;
    let both = "grant_type=client_credentials&scope=bot%3Awebhooks%3Amanage+bot%3Awebhooks%3Aread";
    assert_eq!(asked.body, both);
}

#[tokio::test]
async fn a1_the_token_of_s1_is_asked_for_with_a_basic_header_and_json_without_a_scope() {
    let [asked, called] = exchange(ClientCredentials::basic_json("key", "secret")).await;
    let expected = request(
        "POST /api/v2/auth/token",
        &[
            "accept: application/json",
            "authorization: Basic a2V5OnNlY3JldA==",
            "content-type: application/json",
        ],
        r#"{"grant_type":"client_credentials"}"#,
    );
    assert_eq!(asked, expected);
    assert_eq!(called.header("authorization"), Some("Bearer t-1"));

    let documented = ["webhooks:write", "integrations:manage", "flows:read"];
    let grant = ClientCredentials::basic_json("key", "secret").scopes(documented);
    let [asked, _] = exchange(grant).await;
    let scoped = r#"{"grant_type":"client_credentials","scope":"webhooks:write integrations:manage flows:read"}"#;
    assert_eq!(asked.body, scoped);
}

#[tokio::test]
async fn a4_the_token_of_s4_is_asked_for_with_everything_in_a_form() {
    let [asked, called] = exchange(ClientCredentials::form("client 7", "a&b=c+ü/~")).await;
    let expected = request(
        "POST /api/v1/auth/oauth/token",
        &["accept: application/json", FORM],
        "grant_type=client_credentials&client_id=client+7&client_secret=a%26b%3Dc%2B%C3%BC%2F~\
         &scope=webhook%3Aread+webhook%3Awrite+dialog%3Aread",
    );
    assert_eq!(asked, expected);
    assert_eq!(called.header("authorization"), Some("Bearer t-1"));
}

#[tokio::test]
async fn b3_the_token_of_the_platform_is_asked_for_with_everything_in_a_form_and_no_scope() {
    let [asked, _] = exchange(ClientCredentials::platform("client", "secret")).await;
    let expected = request(
        "POST /auth/oauth2/token",
        &["accept: application/json", FORM],
        "grant_type=client_credentials&client_id=client&client_secret=secret",
    );
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn an_address_with_a_path_is_the_endpoint() {
    let server = Server::start(|_| token("t-1", 3600)).await;
    let grant = ClientCredentials::form("client", "secret");
    let source = TokenSource::builder(grant, server.url("/tenants/7/token?v=2"));
    let source = source.rules(local()).build(client()).unwrap();
    let api = with(Credential::token(source), &server);
    send(&api, get(&server.url("/api"))).await.unwrap();
    assert_eq!(server.seen()[0].line, "POST /tenants/7/token?v=2");
}

#[tokio::test]
async fn fixed_credentials_are_one_header_each() {
    let server = Server::start(|_| answer(200, "", "")).await;
    for (credential, name, value) in [
        (Credential::api_key("k-1"), "x-api-key", "k-1"),
        (
            Credential::header("X-Webhook-Key", "8a4f"),
            "x-webhook-key",
            "8a4f",
        ),
        (
            Credential::header("api_access_token", "la-1"),
            "api_access_token",
            "la-1",
        ),
        (
            Credential::basic("bot", "pass:word"),
            "authorization",
            "Basic Ym90OnBhc3M6d29yZA==",
        ),
        (
            Credential::bearer("fixed.token"),
            "authorization",
            "Bearer fixed.token",
        ),
    ] {
        let api = with(credential.unwrap(), &server);
        send(&api, get(&server.url("/api?q=1"))).await.unwrap();
        let seen = server.seen().pop().unwrap();
        assert_eq!(
            seen,
            request("GET /api?q=1", &[&format!("{name}: {value}")], "")
        );
    }
    let none = with(Credential::none(), &server);
    send(&none, get(&server.url("/"))).await.unwrap();
    assert_eq!(server.seen().pop().unwrap(), request("GET /", &[], ""));
}

#[tokio::test]
async fn a7_5_another_host_never_gets_a_credential() {
    let other = Server::start(|_| answer(200, "", "elsewhere")).await;
    let location = format!("location: {}\r\n", other.url("/landing"));
    let server = Server::start(move |seen| match seen.method() {
        "POST" => token("t-1", 3600),
        _ => answer(307, &location, ""),
    })
    .await;
    let source = tokens(ClientCredentials::platform("client", "secret"), &server);
    for (credential, name, value) in [
        (Credential::api_key("k-1").unwrap(), "x-api-key", "k-1"),
        (
            Credential::bearer("fixed").unwrap(),
            "authorization",
            "Bearer fixed",
        ),
        (Credential::token(source), "authorization", "Bearer t-1"),
    ] {
        let api = with(credential, &server);
        // The caller set the header, the server redirects, and the caller follows with the same headers.
        let mut first = get(&server.url("/api"));
        first.headers_mut().insert(name, value.parse().unwrap());
        let mut second = first.clone();
        let redirect = send(&api, first).await.unwrap();
        assert_eq!(redirect.status(), 307);
        assert_eq!(server.seen().pop().unwrap().header(name), Some(value));
        *second.uri_mut() = redirect.headers()["location"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let landed = send(&api, second).await.unwrap();
        assert_eq!(landed.body(), "elsewhere");
        assert_eq!(
            other.seen().pop().unwrap(),
            request("GET /landing", &[], "")
        );
    }
}

#[tokio::test]
async fn what_the_caller_set_is_replaced_at_home_and_kept_elsewhere() {
    let (server, other) = tokio::join!(
        Server::start(|_| answer(200, "", "")),
        Server::start(|_| answer(200, "", ""))
    );
    let api = with(Credential::bearer("ours").unwrap(), &server);
    for (target, expected) in [(&server, "Bearer ours"), (&other, "Bearer theirs")] {
        let mut request = get(&target.url("/"));
        request
            .headers_mut()
            .insert("authorization", "Bearer theirs".parse().unwrap());
        send(&api, request).await.unwrap();
        assert_eq!(
            target.seen()[0].headers,
            [format!("authorization: {expected}")]
        );
    }
}

/// Each kind of the file, the origin of each the server's own.
#[tokio::test]
async fn a_request_gets_the_credential_that_it_names_and_only_at_home() {
    let (server, other) = tokio::join!(
        Server::start(|seen| match seen.method() {
            "POST" => token("t-1", 3600),
            _ => answer(200, "", ""),
        }),
        Server::start(|_| answer(200, "", ""))
    );
    let origin = server.url("");
    let file = json!({
        "bearer": {"origin": origin, "bearer": "fixed"},
        "basic": {"origin": origin, "basic": {"user": "bot", "password": "pw"}},
        "header": {"origin": origin, "header": {"name": "X-API-Key", "value": "k-1"}},
        "token": {"origin": origin, "token": {
            "url": server.url("/token"), "client_id": "gateway-7", "client_secret": "s", "scopes": ["a", "b"]
        }},
    });
    let credentials = Credentials::from_json(file.to_string().as_bytes(), local(), &client());
    let api = credentials.unwrap().layer(client());
    let ask = async |to: &Server, name: Option<&str>| {
        let mut request = get(&to.url("/"));
        if let Some(name) = name {
            let name = CredentialName::new(name).unwrap();
            request.extensions_mut().insert(name);
        }
        let answer = api.clone().oneshot(request).await;
        answer.map(|_| to.seen().pop().unwrap().headers)
    };
    for (name, header) in [
        ("bearer", "authorization: Bearer fixed"),
        ("basic", "authorization: Basic Ym90OnB3"),
        ("header", "x-api-key: k-1"),
        ("token", "authorization: Bearer t-1"),
    ] {
        assert_eq!(ask(&server, Some(name)).await.unwrap(), [header]);
        assert_eq!(ask(&other, Some(name)).await.unwrap(), [""; 0]);
    }
    let form = "grant_type=client_credentials&client_id=gateway-7&client_secret=s&scope=a+b";
    assert!(server.seen().iter().any(|seen| seen.body == form));

    let before = server.seen().len();
    assert_eq!(ask(&server, None).await.unwrap(), [""; 0]);
    let error = ask(&server, Some("nobody")).await.unwrap_err();
    let outcome = Outcome::of_error(&*error);
    assert!(!outcome.may_retry() && outcome.peer_is_healthy().is_none());
    assert!(error.source().unwrap().to_string().contains("`nobody`"));
    assert_eq!(server.seen().len(), before + 1, "it is not sent");
}

#[tokio::test]
async fn a_thousand_callers_without_a_token_make_one_token_request() {
    let server = Server::start(|seen| match seen.method() {
        "POST" => token("t-1", 3600),
        _ => answer(200, "", seen.header("authorization").unwrap_or_default()),
    })
    .await;
    let api = with(
        Credential::token(tokens(ClientCredentials::form("client", "secret"), &server)),
        &server,
    );
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let (api, request) = (api.clone(), get(&server.url("/api")));
            tokio::spawn(async move { send(&api, request).await.unwrap().into_body() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), "Bearer t-1");
    }
    let asked = server.seen();
    let asked = asked.iter().filter(|seen| seen.line.starts_with("POST"));
    assert_eq!(asked.count(), 1);
}

#[tokio::test]
async fn a_thousand_answers_of_401_force_one_refresh_and_each_call_is_made_once_more() {
    let issued = Arc::new(AtomicU32::new(0));
    let server = Server::start(move |seen| match seen.method() {
        "POST" => {
            let number = issued.fetch_add(1, Ordering::Relaxed) + 1;
            token(&format!("t-{number}"), 3600)
        }
        _ if seen.header("authorization") == Some("Bearer t-2") => answer(200, "", "ok"),
        _ => answer(401, "", "revoked"),
    })
    .await;
    let api = with(
        Credential::token(tokens(ClientCredentials::form("client", "secret"), &server)),
        &server,
    );
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let (api, request) = (api.clone(), get(&server.url("/api")));
            tokio::spawn(async move { send(&api, request).await.unwrap().into_body() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), "ok");
    }
    let seen = server.seen();
    let count = |of: &str| seen.iter().filter(|seen| seen.line.starts_with(of)).count();
    assert_eq!(count("POST"), 2);
    assert!(count("GET") <= 2000);
}

#[tokio::test]
async fn a_second_401_is_returned() {
    let server = Server::start(|seen| match seen.method() {
        "POST" => token("t", 3600),
        _ => answer(401, "", "no"),
    })
    .await;
    let api = with(
        Credential::token(tokens(ClientCredentials::form("client", "secret"), &server)),
        &server,
    );
    let refused = send(&api, get(&server.url("/api"))).await.unwrap();
    assert_eq!((refused.status().as_u16(), &**refused.body()), (401, "no"));
    let lines: Vec<_> = server.seen().into_iter().map(|seen| seen.line).collect();
    let token = "POST /api/v1/auth/oauth/token";
    assert_eq!(lines, [token, "GET /api", token, "GET /api"]);

    // A fixed credential cannot change.
    let api = with(Credential::bearer("fixed").unwrap(), &server);
    assert_eq!(
        send(&api, get(&server.url("/api"))).await.unwrap().status(),
        401
    );
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_redirect_of_the_token_endpoint_is_an_error_and_not_followed() {
    let other = Server::start(|_| token("stolen", 3600)).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", other.url("/"));
        let server = Server::start(move |_| answer(status, &location, "")).await;
        let api = with(
            Credential::token(tokens(ClientCredentials::form("client", "secret"), &server)),
            &server,
        );
        let error = send(&api, get(&server.url("/api"))).await.unwrap_err();
        let text = "the token endpoint redirected, which is not followed";
        assert_eq!(error.to_string(), format!("{text}: status {status}"));
    }
    assert_eq!(other.seen(), []);
}

#[tokio::test]
async fn the_service_is_polled_before_each_of_both_calls() {
    let server = Server::start(|seen| match seen.method() {
        "POST" => token("t", 3600),
        _ => answer(401, "", "no"),
    })
    .await;
    let source = tokens(ClientCredentials::form("client", "secret"), &server);
    let layer = tower_webhook_cognigy::credential::CredentialLayer::with_rules(
        Credential::token(source),
        &server.url(""),
        local(),
    )
    .unwrap();
    // One permit: a call without it panics in tower's limit.
    let limited = tower::limit::ConcurrencyLimit::new(client(), 1);
    let api = tower::Layer::layer(&layer, limited);
    let refused = api.oneshot(get(&server.url("/api"))).await.unwrap();
    assert_eq!(refused.status(), 401);
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_or_too_much_or_html_is_a_failure_and_the_api_is_not_called()
{
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(1 << 20));
    let endless = format!(
        "HTTP/1.1 200 x\r\nconnection: close\r\n\r\n{}",
        " ".repeat(1 << 20)
    );
    for (said, expected) in [
        (String::new(), TokenErrorKind::Timeout),
        // It begins, and goes on never.
        (
            "HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{".to_owned(),
            TokenErrorKind::Timeout,
        ),
        (answer(200, "", &long), TokenErrorKind::InvalidAnswer),
        (endless, TokenErrorKind::InvalidAnswer),
        (
            answer(200, "content-type: text/html\r\n", "<html>Log in</html>"),
            TokenErrorKind::InvalidAnswer,
        ),
        (answer(500, "", &long), TokenErrorKind::Unavailable),
        (
            "no http at all\r\n\r\n".to_owned(),
            TokenErrorKind::Transport,
        ),
    ] {
        let server = Server::start(move |_| said.clone()).await;
        let source =
            TokenSource::builder(ClientCredentials::form("client", "secret"), server.url(""))
                .rules(local())
                .timeout(Duration::from_millis(300))
                .build(client())
                .unwrap();
        let api = with(Credential::token(source), &server);
        let error = send(&api, get(&server.url("/api"))).await.unwrap_err();
        let error = error.downcast::<TokenError>().unwrap();
        assert_eq!(error.kind(), expected, "{error}");
        assert!(server.seen().iter().all(|seen| seen.method() == "POST"));
    }
    // Nobody listens.
    let server = Server::start(|_| answer(200, "", "")).await;
    let source = TokenSource::builder(
        ClientCredentials::form("client", "secret"),
        "http://127.0.0.1:1",
    );
    let source = source.rules(local()).build(client()).unwrap();
    let api = with(Credential::token(source), &server);
    let error = send(&api, get(&server.url("/api"))).await.unwrap_err();
    assert_eq!(Outcome::of_error(&*error).kind(), OutcomeKind::Unreached);
    assert!(error.to_string().contains("refused"), "{error}");
}
