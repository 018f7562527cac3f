//! The requests with which providers ask whether an address is yours, before they sign anything: Meta and Dropbox
//! send a challenge in a GET, Slack `ssl_check`, and Zoom a text that the receiver signs. They are answered beside the
//! layer that verifies signatures, and reveal nothing.
//!
//! ```sh
//! cargo run --example handshakes --features axum
//! ```

use axum::{
    Router,
    body::Bytes,
    http::Uri,
    response::{IntoResponse, Response},
    routing::post,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_webhook::{
    BoxError, BufferBodyLayer, InvalidConfig, SignatureVerifyLayer,
    body::BufferedBody,
    signature::{
        Encoding,
        scheme::{Generic, GitHub, Piece, Slack},
    },
};

/// What you typed into Meta's form: letters and digits.
const VERIFY_TOKEN: &str = "a-long-random-text";
const ZOOM_SECRET: &str = "the secret token of your Zoom app";

/// The value of a field of a query, if it is text that is safe to send back.
fn field<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let fields = query.split('&').filter_map(|field| field.split_once('='));
    let (_, value) = fields.into_iter().find(|(found, _)| *found == name)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (value.len() <= 256 && value.bytes().all(is_plain)).then_some(value)
}

/// The challenge as plain text: as HTML it could carry a script.
fn echo(challenge: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, challenge.to_owned()).into_response()
}

/// Dropbox: `?challenge=..`
async fn dropbox(uri: Uri) -> Response {
    match field(uri.query().unwrap_or_default(), "challenge") {
        Some(challenge) => echo(challenge),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Meta: `?hub.mode=subscribe&hub.challenge=..&hub.verify_token=..`
async fn meta(uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let token = field(query, "hub.verify_token").unwrap_or_default();
    let is_ours: bool = token.as_bytes().ct_eq(VERIFY_TOKEN.as_bytes()).into();
    match field(query, "hub.challenge") {
        Some(challenge) if is_ours => echo(challenge),
        _ => StatusCode::FORBIDDEN.into_response(),
    }
}

/// Zoom signs its validation like any event. The answer is an HMAC of a text that Zoom chose, so only text that
/// cannot be what Zoom signs elsewhere (`v0:time:body`) gets one.
fn zoom_answer(plain: &str) -> Option<serde_json::Value> {
    let is_token = plain.len() <= 64 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut mac = Hmac::<Sha256>::new_from_slice(ZOOM_SECRET.as_bytes()).ok()?;
    mac.update(plain.as_bytes());
    let tag = Encoding::Hex.encode(mac.finalize().into_bytes());
    is_token.then(|| json!({ "plainToken": plain, "encryptedToken": tag }))
}

async fn zoom(body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Event {
        event: String,
        payload: Payload,
    }
    #[derive(Deserialize)]
    struct Payload {
        #[serde(rename = "plainToken", default)]
        plain: String,
    }
    match serde_json::from_slice::<Event>(&body) {
        Ok(event) if event.event == "endpoint.url_validation" => {
            match zoom_answer(&event.payload.plain) {
                Some(answer) => axum::Json(answer).into_response(),
                None => StatusCode::BAD_REQUEST.into_response(),
            }
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Zoom signs as Slack does, in headers of its own.
fn zoom_scheme() -> Result<Generic, InvalidConfig> {
    Generic::builder(HeaderName::from_static("x-zm-signature"))
        .name("zoom")
        .prefix("v0=")
        .timestamp_header(HeaderName::from_static("x-zm-request-timestamp"))
        .content(["v0:".into(), Piece::Timestamp, ":".into(), Piece::Body])
        .build(ZOOM_SECRET)
}

/// Slack checks the certificate of a slash command's address with `GET ?ssl_check=1`: an empty 200, whoever asks.
async fn slack(uri: Uri) -> StatusCode {
    match field(uri.query().unwrap_or_default(), "ssl_check") {
        Some("1") => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    }
}

fn app() -> Result<Router, InvalidConfig> {
    macro_rules! signed {
        ($scheme:expr) => {
            ServiceBuilder::new()
                .layer(BufferBodyLayer::new(1 << 20))
                .layer(SignatureVerifyLayer::new($scheme))
        };
    }
    let accepted = || async { StatusCode::NO_CONTENT };
    // A layer is for the methods that were added before it: `get` after it is not verified.
    let hub = || GitHub::new("the app's secret");
    let dropbox_scheme = || {
        Generic::builder(HeaderName::from_static("x-dropbox-signature"))
            .name("dropbox")
            .build("the app's secret")
    };
    Ok(Router::new()
        .route("/meta", post(accepted).layer(signed!(hub()?)).get(meta))
        .route(
            "/dropbox",
            post(accepted)
                .layer(signed!(dropbox_scheme()?))
                .get(dropbox),
        )
        .route("/zoom", post(zoom).layer(signed!(zoom_scheme()?)))
        .route(
            "/slack",
            post(accepted)
                .layer(signed!(Slack::new("the signing secret")?))
                .get(slack),
        ))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let app = app()?;
    let ask = |request: Request<axum::body::Body>| {
        let app = app.clone();
        async move {
            let response = app.oneshot(request).await?;
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), 1 << 16).await?;
            let text = String::from_utf8(body.to_vec())?;
            println!("{status}: {text}");
            Ok::<_, BoxError>((status.as_u16(), text))
        }
    };
    let get = |uri: &str| {
        ask(Request::get(uri)
            .body(axum::body::Body::empty())
            .unwrap_or_default())
    };
    let uri = format!(
        "/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={VERIFY_TOKEN}"
    );
    assert_eq!(get(&uri).await?, (200, "1158201444".to_owned()));
    assert_eq!(get(&format!("{uri}x")).await?.0, 403);
    assert_eq!(
        get("/dropbox?challenge=abc-1").await?,
        (200, "abc-1".to_owned())
    );
    assert_eq!(get("/dropbox?challenge=%3Cscript%3E").await?.0, 400);
    assert_eq!(get("/slack?ssl_check=1").await?.0, 200);
    let post = |uri| ask(Request::post(uri).body("{}".into()).unwrap_or_default());
    for uri in ["/meta", "/dropbox", "/zoom", "/slack"] {
        assert_eq!(post(uri).await?.0, 401, "{uri} takes nothing unsigned");
    }

    let validation = json!({ "event": "endpoint.url_validation", "payload": { "plainToken": "qgg8vlvZRS6UYooatFL8Aw" } });
    let request = Request::post("/zoom").body(BufferedBody::from(validation.to_string()))?;
    let signed =
        tower_webhook::SignLayer::new(zoom_scheme()?).layer(tower::service_fn(|request| async {
            Ok::<_, BoxError>(request)
        }));
    let request: Request<BufferedBody> = signed.oneshot(request).await?;
    let (status, answer) = ask(request.map(axum::body::Body::new)).await?;
    assert!(
        status == 200 && answer.contains("encryptedToken"),
        "{answer}"
    );
    Ok(())
}
