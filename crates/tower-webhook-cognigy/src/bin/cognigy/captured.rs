//! Verifying a captured request.

use crate::output::{self, Failure, Output};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Request};
use serde_json::json;
use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{
    InvalidConfig,
    body::BufferedBody,
    clock::WallClock,
    signature::{
        Message, Scheme, Secret, Secrets,
        scheme::{Cognigy, CognigyFormat, StandardWebhooks},
    },
};

/// The most headers of a request.
const MAX_HEADERS: usize = 128;

/// The form of a signature.
#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// Hex, base64 or `time,base64`.
    Any,
    /// S3: hex of the MAC.
    Hex,
    /// S4: base64 of the MAC.
    Base64,
    /// S2: `time,base64`. The time is not under the MAC.
    Timestamped,
    /// The same with the time under the MAC, as the gateway signs deliveries.
    SignedTimestamp,
    /// Standard Webhooks.
    Standard,
}

#[derive(Args)]
pub struct Verify {
    /// File with the request as it was sent: request line, headers, an empty line, body. `-` is stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Secret. Repeat the flag for several.
    #[arg(
        long,
        env = "COGNIGY_WEBHOOK_SECRET",
        hide_env_values = true,
        allow_hyphen_values = true,
        required = true,
        value_delimiter = ',',
        value_name = "S"
    )]
    secret: Vec<String>,

    /// Form of the signature.
    #[arg(long, default_value = "any")]
    form: Form,

    /// The time at which it was received, in seconds since 1970. Default: now.
    #[arg(long, value_name = "SECONDS")]
    at: Option<u32>,
}

impl Verify {
    fn scheme(&self) -> Result<Box<dyn Scheme>, InvalidConfig> {
        let secrets: Secrets = self
            .secret
            .iter()
            .map(|secret| Secret::new(secret.as_str()))
            .collect();
        let cognigy = |formats: &[CognigyFormat]| -> Result<Box<dyn Scheme>, InvalidConfig> {
            Ok(Box::new(Cognigy::new(
                secrets.clone(),
                formats.iter().copied(),
            )?))
        };
        match self.form {
            Form::Any => cognigy(&[
                CognigyFormat::Hex,
                CognigyFormat::Base64,
                CognigyFormat::UnsignedTimestamp,
            ]),
            Form::Hex => cognigy(&[CognigyFormat::Hex]),
            Form::Base64 => cognigy(&[CognigyFormat::Base64]),
            Form::Timestamped => cognigy(&[CognigyFormat::UnsignedTimestamp]),
            Form::SignedTimestamp => cognigy(&[CognigyFormat::SignedTimestamp]),
            Form::Standard => Ok(Box::new(StandardWebhooks::new(secrets)?)),
        }
    }

    pub fn run(self, output: &Output) -> Result<(), Failure> {
        let scheme = self.scheme()?;
        let name = self.file.display();
        let request = request(&output::read(&self.file)?)
            .map_err(|why| Failure::usage(format!("{name}: {why}")))?;
        let clock = match self.at {
            Some(at) => WallClock::fixed(UNIX_EPOCH + Duration::from_secs(at.into())),
            None => WallClock::system(),
        };
        match scheme.verify(&Message::of(&request, &clock)) {
            Ok(verified) => {
                let label = verified.secret_label().unwrap_or_default();
                let id = verified.id();
                let json =
                    json!({"valid": true, "scheme": verified.scheme(), "secret": label, "id": id});
                output.result(&json, || format!("valid\t{}\t{label}", verified.scheme()))
            }
            Err(error) => Err(Failure::Refused(format!(
                "the signature is not valid: {error}"
            ))),
        }
    }
}

/// Reads a request in the form of HTTP/1.1. The body is all that follows, or as much as `Content-Length` says: an editor
/// may have added the end of a line.
fn request(bytes: &[u8]) -> Result<Request<BufferedBody>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return Err("the empty line after the headers is missing".to_owned());
        }
        Err(error) => return Err(format!("is no HTTP request: {error}")),
    };
    let mut body = &bytes[length..];
    let mut request = Request::builder()
        .method(head.method.unwrap_or_default())
        .uri(head.path.unwrap_or_default());
    for header in head.headers {
        let name =
            HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(header.value).map_err(|error| error.to_string())?;
        if name == http::header::TRANSFER_ENCODING {
            return Err("has a `Transfer-Encoding`: give the body as it was decoded".to_owned());
        }
        if name == http::header::CONTENT_LENGTH {
            let said: Option<usize> = value.to_str().ok().and_then(|text| text.parse().ok());
            let said = said.ok_or("has a `Content-Length` that is no number")?;
            let there = body.len();
            body = body
                .get(..said)
                .ok_or_else(|| format!("is cut: {there} of {said} bytes of the body are there"))?;
        }
        request = request.header(name, value);
    }
    let body = Bytes::copy_from_slice(body);
    request
        .body(BufferedBody::new(body))
        .map_err(|error| error.to_string())
}
