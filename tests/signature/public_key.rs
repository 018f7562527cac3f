//! Schemes that have only a public key.
#![cfg(all(feature = "ed25519", feature = "p256"))]

use crate::support::{request, verify_at};
use http::{HeaderName, HeaderValue, Request};
use tower_webhook::{
    body::BufferedBody,
    signature::{
        Scheme, Secret,
        scheme::{Discord, SendGrid},
    },
};

/// A signed request, its time, and the names of its headers.
struct Signed {
    scheme: Box<dyn Scheme>,
    request: Request<BufferedBody>,
    time: u64,
    signature: &'static str,
    timestamp: &'static str,
}

/// Signed by `PyNaCl` with the key of RFC 8032 §7.1 test 1; `discord_interactions.verify_key` accepts it.
fn discord() -> Signed {
    let (signature, timestamp) = ("x-signature-ed25519", "x-signature-timestamp");
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    Signed {
        scheme: Box::new(Discord::new(key).unwrap()),
        request: request(
            &[
                (
                    signature,
                    "1695961a47c91a1ec033b819b7e87e3dbc583dd0cee6d1fd0216f58ac87b6228\
                     ae531ddbf91fb7bc28d7edf7f08604da16f54624f38a6bc0614e4dc13cd47f0f",
                ),
                (timestamp, "1700000000"),
            ],
            r#"{"type":1}"#,
        ),
        time: 1_700_000_000,
        signature,
        timestamp,
    }
}

/// The vector of `SendGrid`'s library for Python (<https://github.com/sendgrid/sendgrid-python>,
/// `test/unit/test_eventwebhook.py`).
fn sendgrid() -> Signed {
    let signature = "x-twilio-email-event-webhook-signature";
    let timestamp = "x-twilio-email-event-webhook-timestamp";
    let body = concat!(
        r#"[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","#,
        r#""sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","#,
        r#""sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","#,
        r#""smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","#,
        r#""timestamp":1600112492}]"#,
        "\r\n"
    );
    Signed {
        scheme: Box::new(
            SendGrid::new([Secret::new(OTHER).label("other"), Secret::new(SENDGRID)]).unwrap(),
        ),
        request: request(
            &[
                (
                    signature,
                    "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
                ),
                (timestamp, "1600112502"),
            ],
            body,
        ),
        time: 1_600_112_502,
        signature,
        timestamp,
    }
}

const SENDGRID: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
const OTHER: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqTxd43gyp8IOEto2LdIfjRQrIbsd4SXZkLW6jDutdhXSJCWHw8REntlo7aNDthvj+y7GjUuFDb/R1NGe1OPzpA==";

#[test]
fn what_the_sender_signed_is_taken_and_nothing_else() {
    for Signed {
        scheme,
        request: good,
        time,
        signature,
        timestamp,
    } in [discord(), sendgrid()]
    {
        let name = scheme.name();
        let verified = verify_at(&scheme, &good, time).unwrap();
        assert_eq!(
            (verified.scheme(), verified.timestamp()),
            (name, Some(time))
        );
        for (now, reason) in [(time + 301, "stale"), (time - 301, "early"), (0, "early")] {
            assert_eq!(verify_at(&scheme, &good, now).unwrap_err().as_str(), reason);
        }
        let with = |name: &'static str, value: &str| {
            let mut request = good.clone();
            let value = HeaderValue::from_str(value).unwrap();
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
            verify_at(&scheme, &request, time).unwrap_err()
        };
        let text = good.headers()[signature].to_str().unwrap();
        for bad in [
            "",
            "00",
            &text[1..],
            &format!("{text}="),
            &format!(" {text}"),
            &text.repeat(2),
            &"A".repeat(4000),
        ] {
            assert_eq!(with(signature, bad).as_str(), "malformed", "{name}: {bad}");
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes[20] = if bytes[20] == b'1' { b'2' } else { b'1' };
        let flipped = with(signature, str::from_utf8(&bytes).unwrap());
        assert_eq!(flipped.as_str(), "mismatch", "{name}");

        // A second later, and with a digit that belongs to the body.
        let time_text = time.to_string();
        assert_eq!(
            with(timestamp, &(time + 1).to_string()).as_str(),
            "mismatch"
        );
        for bad in [&time_text[..9], &format!("{time_text}0"), "160011250x", ""] {
            assert_eq!(with(timestamp, bad).as_str(), "malformed", "{name}: {bad}");
        }
        for header in [signature, timestamp] {
            let mut without = good.clone();
            without.headers_mut().remove(header);
            assert!(scheme.recognizes(without.headers()));
            let error = verify_at(&scheme, &without, time).unwrap_err();
            assert_eq!(error.as_str(), "missing");
        }
        let mut changed = good.clone();
        *changed.body_mut() = BufferedBody::from("{}");
        let error = verify_at(&scheme, &changed, time).unwrap_err();
        assert_eq!(error.as_str(), "mismatch");
    }
}

#[test]
fn keys_that_cannot_be_are_refused_when_built() {
    for bad in [
        "",
        "00",
        "zz",
        // Of small order.
        "0100000000000000000000000000000000000000000000000000000000000000",
    ] {
        assert_eq!(Discord::new(bad).unwrap_err().setting(), "secrets", "{bad}");
    }
    // A point that is not on the curve, and another curve.
    for bad in [
        "",
        "00",
        &SENDGRID.replace("83T4", "83T5"),
        &SENDGRID.replace("AQcDQg", "AQYDQg"),
    ] {
        assert_eq!(
            SendGrid::new(bad).unwrap_err().setting(),
            "secrets",
            "{bad}"
        );
    }
    let scheme = SendGrid::new([Secret::new(OTHER), Secret::new(SENDGRID)]).unwrap();
    assert_eq!(scheme.signing_keys().usage().len(), 2);
    scheme.signing_keys().replace("00").unwrap_err();
}
