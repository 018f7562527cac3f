//! The hints at start: the generated secrets, and a signed `curl` command.

use crate::{
    args::{Args, Kind, Place},
    events,
};
use http::HeaderMap;
use std::{fmt::Write as _, net::SocketAddr};
use tower_webhook::{
    BoxError,
    clock::WallClock,
    signature::{
        MessageId, Outgoing, Secrets, SignScheme,
        scheme::{Cognigy, CognigyFormat, StandardWebhooks},
    },
};

/// The headers with which a sender signs this body.
pub fn signed(args: &Args, body: &str) -> Result<HeaderMap, BoxError> {
    let secrets = Secrets::from(args.secrets[0].as_str());
    let id = MessageId::generate();
    let message = Outgoing::new(body.as_bytes(), WallClock::system().unix_seconds()).with_id(&id);
    let mut headers = HeaderMap::new();
    let format = match args.signature {
        Kind::Any | Kind::Hex => CognigyFormat::Hex,
        Kind::Base64 => CognigyFormat::Base64,
        Kind::Timestamped => CognigyFormat::UnsignedTimestamp,
        Kind::Standard => {
            StandardWebhooks::new(secrets)?.sign(&message, &mut headers)?;
            return Ok(headers);
        }
    };
    Cognigy::new(secrets, [format])?
        .sign_as(format)
        .sign(&message, &mut headers)?;
    Ok(headers)
}

pub fn print(args: &Args, address: SocketAddr) {
    if args.secret_is_generated {
        say!("webhook secret (--secret): {}", args.secrets[0]);
    }
    if args.endpoint_auth_is_generated {
        say!(
            "endpoint credentials (--endpoint-auth): {}:{}",
            args.endpoint_user,
            args.endpoint_password
        );
    }
    if args.operator_token_is_generated {
        say!("operator token (--operator-token): {}", args.operator_token);
    }
    let now = WallClock::system().unix_seconds();
    let event = format!(
        r#"{{"eventId":"{}","timestamp":{now},"type":"DIALOG_STARTED","payload":{{"channel":"webchat"}}}}"#,
        MessageId::generate()
    );
    // What is signed with a timestamp is refused after minutes, whatever its form.
    let dialogs = match args.signature {
        Kind::Standard => "",
        _ => "signed dialog events and ",
    };
    if matches!(args.store, Place::Memory) {
        say!(
            "note: --store memory: forgets at its end which events it had: a captured one is accepted again after a restart"
        );
    }
    say!(
        "note: {dialogs}deliveries of the platform's Webhook Endpoint have no signed timestamp: a captured one is accepted again after {} days",
        events::KEPT.as_secs() / 86_400
    );
    match curl(args, address, &event) {
        Ok(command) => say!("\ntry it; the second time it is a duplicate:\n\n{command}\n"),
        Err(error) => tracing::warn!(error, "no sample command"),
    }
}

fn curl(args: &Args, address: SocketAddr, body: &str) -> Result<String, BoxError> {
    let mut command =
        format!("curl -i http://{address}/webhooks/cognigy -H 'Content-Type: application/json'");
    for (name, value) in &signed(args, body)? {
        // Header names and base64 have no quotes that a shell would read.
        let _ = write!(command, " -H '{name}: {}'", value.to_str()?);
    }
    let _ = write!(command, " -d '{body}'");
    Ok(command)
}
