//! Credentials: over sockets what is sent where, under a paused clock when tokens are asked for.

mod server;
mod settings;
mod time;
mod wire;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use server::Server;
use tower::{Layer, ServiceExt};
use tower_webhook::{BoxError, body::BufferedBody, body::collect, target::TargetRules, transport};
use tower_webhook_cognigy::credential::{
    ClientCredentials, Credential, CredentialLayer, TokenSource, WithCredential,
};

type Http = transport::Hyper<Client<HttpConnector, BufferedBody>>;

fn client() -> Http {
    transport::hyper(Client::builder(TokioExecutor::new()).build_http())
}

/// Servers of tests listen without TLS on a private address.
fn local() -> TargetRules {
    TargetRules::new().allow_http(true).allow_private(true)
}

/// Tokens of this server.
fn tokens(grant: ClientCredentials, at: &Server) -> TokenSource {
    TokenSource::builder(grant, at.url(""))
        .rules(local())
        .build(client())
        .unwrap()
}

fn with(credential: Credential, at: &Server) -> WithCredential<Http> {
    CredentialLayer::with_rules(credential, &at.url(""), local())
        .unwrap()
        .layer(client())
}

fn get(url: &str) -> Request<BufferedBody> {
    Request::get(url).body(BufferedBody::default()).unwrap()
}

async fn send(
    api: &WithCredential<Http>,
    request: Request<BufferedBody>,
) -> Result<Response<String>, BoxError> {
    let response: Response<Incoming> = api.clone().oneshot(request).await?;
    let (head, body) = response.into_parts();
    let body = collect(body, 1 << 20).await?.into_bytes();
    Ok(Response::from_parts(head, String::from_utf8(body.into())?))
}
