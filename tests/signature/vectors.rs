//! Signatures that others computed, with the place where they published them.

use crate::support::{ALL_COGNIGY, NOW, WHSEC, request, signed, verify, verify_at};
use http::HeaderName;
use std::cell::Cell;
use tower_webhook::signature::{
    Algorithm, Backend, Encoding, Secret, Secrets, SignatureError, TimestampFormat,
    scheme::{
        Cognigy, CognigyFormat, Generic, GenericBuilder, GitHub, Piece, SecretEncoding, Shopify,
        Slack, StandardWebhooks, Stripe,
    },
};

thread_local! {
    static BACKEND: Cell<Backend> = const { Cell::new(Backend::RustCrypto) };
}

/// Runs a test once with each of the libraries that compute MACs.
fn with_each_backend(test: impl Fn()) {
    let backends = [
        #[cfg(feature = "aws-lc-rs")]
        Backend::AwsLc,
        Backend::RustCrypto,
    ];
    for backend in backends {
        BACKEND.set(backend);
        test();
    }
}

/// Secrets for the library whose turn it is.
fn key(secrets: impl Into<Secrets>) -> Secrets {
    secrets.into().backend(BACKEND.get())
}

const EVENT: &str = r#"{"eventId":"evt_1","type":"DIALOG_STARTED"}"#;
/// HMAC-SHA256 of [`EVENT`] under `test-secret`, from the crate's Cognigy contract.
const EVENT_HEX: &str = "3ed850e10f98e2977a8a8bc704966138973b5affe957229ecabc660d46523362";
const EVENT_BASE64: &str = "PthQ4Q+Y4pd6iovHBJZhOJc7Wv/pVyKeyrxmDUZSM2I=";
/// The same of `1700000000.` and [`EVENT`].
const EVENT_TIMESTAMPED: &str = "faa65b37f92646b8144b3cf4c33104e703ada2eaa0d20001df66532c6ec1620a";

#[test]
fn cognigy_formats() {
    with_each_backend(|| {
        let unsigned = format!("{NOW},{EVENT_BASE64}");
        let safe = format!("t={NOW},v1={EVENT_TIMESTAMPED}");
        let vectors = [
            (CognigyFormat::Hex, EVENT_HEX),
            (CognigyFormat::Base64, EVENT_BASE64),
            (CognigyFormat::UnsignedTimestamp, &unsigned),
            (CognigyFormat::SignedTimestamp, &safe),
        ];
        for (format, header) in vectors {
            let message = request(&[("x-cognigy-signature", header)], EVENT);
            for accepted in [&[format][..], &ALL_COGNIGY] {
                let scheme = Cognigy::new(key("test-secret"), accepted.iter().copied()).unwrap();
                let verified = verify(&scheme, &message).unwrap();
                assert_eq!(verified.scheme(), "cognigy");
                let times = (verified.timestamp(), verified.claimed_timestamp());
                assert_eq!(
                    times,
                    match format {
                        CognigyFormat::SignedTimestamp => (Some(NOW), None),
                        CognigyFormat::UnsignedTimestamp => (None, Some(NOW)),
                        _ => (None, None),
                    }
                );
                assert_eq!(verified.id(), None);
            }
            // Not listed: refused, though the MAC is right.
            let others = ALL_COGNIGY.into_iter().filter(|other| *other != format);
            let scheme = Cognigy::new(key("test-secret"), others).unwrap();
            assert_eq!(verify(&scheme, &message).unwrap_err().as_str(), "malformed");
            // And we write what we read.
            let ours = signed(&scheme.sign_as(format), EVENT);
            assert_eq!(ours.headers()["x-cognigy-signature"], header);
        }
    });
}

/// What the two tutorials that have the timestamp outside the MAC let pass: we do too, and say so.
#[test]
fn an_unsigned_timestamp_is_only_claimed() {
    let scheme = Cognigy::new(key("test-secret"), [CognigyFormat::UnsignedTimestamp]).unwrap();
    let later = NOW + 1_000_000;
    let header = format!("{later},{EVENT_BASE64}");
    let copy = request(&[("x-cognigy-signature", header)], EVENT);
    let verified = verify_at(&scheme, &copy, later).unwrap();
    assert_eq!(verified.timestamp(), None);
    assert_eq!(verified.claimed_timestamp(), Some(later));
}

/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation>
#[test]
fn github_documentation() {
    with_each_backend(|| {
        let scheme = GitHub::new(key("It's a Secret to Everybody")).unwrap();
        let header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let message = request(&[("x-hub-signature-256", header)], "Hello, World!");
        verify(&scheme, &message).unwrap();
        assert_eq!(
            signed(&scheme, "Hello, World!").headers()["x-hub-signature-256"],
            header
        );
    });
}

/// <https://api.slack.com/authentication/verifying-requests-from-slack>
#[test]
fn slack_documentation() {
    with_each_backend(|| {
        let scheme = Slack::new(key("8f742231b10e8888abcd99yyyzzz85a5")).unwrap();
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
        &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
        &command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands\
        %2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let message = request(
            &[
                ("x-slack-request-timestamp", "1531420618"),
                (
                    "x-slack-signature",
                    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                ),
            ],
            body,
        );
        let verified = verify_at(&scheme, &message, 1_531_420_618).unwrap();
        assert_eq!(verified.timestamp(), Some(1_531_420_618));
        assert!(matches!(
            verify(&scheme, &message),
            Err(SignatureError::Stale { .. })
        ));
    });
}

/// The vector of the reference libraries
/// (<https://github.com/standard-webhooks/standard-webhooks>, `libraries/*/`).
#[test]
fn standard_webhooks_libraries() {
    with_each_backend(|| {
        for (scheme, prefix) in [
            (StandardWebhooks::new(key(WHSEC)).unwrap(), "webhook"),
            (StandardWebhooks::svix(key(WHSEC)).unwrap(), "svix"),
            // Svix's libraries read both.
            (StandardWebhooks::svix(key(WHSEC)).unwrap(), "webhook"),
            // Without the prefix.
            (StandardWebhooks::new(key(&WHSEC[6..])).unwrap(), "webhook"),
        ] {
            let message = request(
                &[
                    (&*format!("{prefix}-id"), "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                    (&format!("{prefix}-timestamp"), "1614265330"),
                    (
                        &format!("{prefix}-signature"),
                        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
                    ),
                ],
                r#"{"test": 2432232314}"#,
            );
            let verified = verify_at(&scheme, &message, 1_614_265_330).unwrap();
            assert_eq!(verified.id(), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
            assert_eq!(verified.timestamp(), Some(1_614_265_330));
        }
    });
}

#[test]
fn standard_webhooks_with_the_bytes_of_a_key() {
    let bytes = data_encoding::BASE64
        .decode(&WHSEC.as_bytes()[6..])
        .unwrap();
    let raw = StandardWebhooks::raw(bytes).unwrap();
    let message = signed(&raw, EVENT);
    verify(&StandardWebhooks::new(WHSEC).unwrap(), &message).unwrap();
    // Text is not decoded.
    let text = StandardWebhooks::raw(WHSEC).unwrap();
    assert_eq!(verify(&text, &message).unwrap_err().as_str(), "mismatch");
    verify(&text, &signed(&text, EVENT)).unwrap();
    StandardWebhooks::raw("").unwrap_err();
}

/// No published vector: the rule is of <https://docs.stripe.com/webhooks#verify-manually>, and
/// `ts.body` under the text of the secret is the rule of the Cognigy vector above, which was
/// computed elsewhere.
#[test]
fn stripe_rule() {
    with_each_backend(|| {
        let scheme = Stripe::new(key("test-secret")).unwrap();
        let header = format!("t={NOW},v1={EVENT_TIMESTAMPED},v0=6ffbb59b2300aae63f272406069a9788");
        verify(&scheme, &request(&[("stripe-signature", &header)], EVENT)).unwrap();
        // The text of the secret, `whsec_` included: not what it decodes to.
        let with_prefix = Stripe::new(key(WHSEC)).unwrap();
        let without = Stripe::new(key(&WHSEC[6..])).unwrap();
        let message = signed(&with_prefix, EVENT);
        verify(&with_prefix, &message).unwrap();
        assert_eq!(verify(&without, &message).unwrap_err().as_str(), "mismatch");
    });
}

/// No published vector: the rule is of
/// <https://shopify.dev/docs/apps/build/webhooks/subscribe/https>, base64 of the MAC of the body.
#[test]
fn shopify_rule() {
    with_each_backend(|| {
        let scheme = Shopify::new(key("test-secret")).unwrap();
        let message = request(&[("x-shopify-hmac-sha256", EVENT_BASE64)], EVENT);
        verify(&scheme, &message).unwrap();
    });
}

/// What the table of providers in the research notes says, in the words of [`Generic`].
#[test]
fn generic_speaks_for_others() {
    with_each_backend(|| {
        let name = HeaderName::from_static;
        let timestamped = [Piece::Timestamp, ".".into(), Piece::Body];

        let chatwoot = Generic::builder(name("x-chatwoot-signature"))
            .prefix("sha256=")
            .timestamp_header(name("x-chatwoot-timestamp"))
            .content(timestamped.clone())
            .build(key("test-secret"))
            .unwrap();
        let header = format!("sha256={EVENT_TIMESTAMPED}");
        let now = NOW.to_string();
        let message = request(
            &[
                ("x-chatwoot-signature", &header),
                ("x-chatwoot-timestamp", &now),
            ],
            EVENT,
        );
        assert_eq!(verify(&chatwoot, &message).unwrap().timestamp(), Some(NOW));

        let nice_expert = Generic::builder(name("x-nexus-signature-256"))
            .prefix("sha256=")
            .timestamp_header(name("x-nexus-timestamp"))
            .content(timestamped)
            .build(key("test-secret"))
            .unwrap();
        let message = request(
            &[
                ("x-nexus-signature-256", &header),
                ("x-nexus-timestamp", &now),
            ],
            EVENT,
        );
        verify(&nice_expert, &message).unwrap();

        let linear = Generic::builder(name("linear-signature"))
            .build(key("test-secret"))
            .unwrap();
        let message = request(&[("linear-signature", EVENT_HEX)], EVENT);
        verify(&linear, &message).unwrap();
        let upper = EVENT_HEX.to_uppercase();
        let message = request(&[("linear-signature", &upper)], EVENT);
        assert_eq!(verify(&linear, &message).unwrap_err().as_str(), "malformed");
        let any_case = Generic::builder(name("linear-signature"))
            .encoding(Encoding::HexAnyCase)
            .build(key("test-secret"))
            .unwrap();
        verify(&any_case, &message).unwrap();

        // Outpost: `v0=<hex>[,<hex>]`, the current key first.
        let outpost = |secrets: Vec<Secret>| {
            Generic::builder(name("x-outpost-signature"))
                .prefix("v0=")
                .separator(",")
                .build(key(secrets))
                .unwrap()
        };
        let sender = outpost(vec!["new".into(), "test-secret".into()]);
        let message = signed(&sender, EVENT);
        let text = message.headers()["x-outpost-signature"].to_str().unwrap();
        assert!(
            text.starts_with("v0=") && text.ends_with(&format!(",{EVENT_HEX}")),
            "{text}"
        );
        verify(&outpost(vec!["test-secret".into()]), &message).unwrap();

        // GitHub, in other words; and keys in other spellings.
        let hex_key = Generic::builder(name("x-hub-signature-256"))
            .prefix("sha256=")
            .secret_encoding(SecretEncoding::Hex)
            .build(key("746573742D736563726574"))
            .unwrap();
        let base64_key = Generic::builder(name("x-hub-signature-256"))
            .prefix("sha256=")
            .secret_encoding(SecretEncoding::Base64)
            .build(key("dGVzdC1zZWNyZXQ"))
            .unwrap();
        let message = request(
            &[("x-hub-signature-256", format!("sha256={EVENT_HEX}"))],
            EVENT,
        );
        verify(&hex_key, &message).unwrap();
        verify(&base64_key, &message).unwrap();
        verify(&GitHub::new(key("test-secret")).unwrap(), &message).unwrap();
    });
}

/// RFC 7617 §2.1, the example with a password outside ASCII.
#[test]
fn basic_rfc_7617() {
    use tower_webhook::signature::scheme::BasicAuth;
    let scheme = BasicAuth::new("test", "123\u{a3}").unwrap();
    let message = request(&[("authorization", "Basic dGVzdDoxMjPCow==")], EVENT);
    verify(&scheme, &message).unwrap();
}

#[cfg(feature = "ed25519")]
#[test]
fn standard_webhooks_v1a_signs_and_verifies() {
    let (private, public) = crate::support::ed25519_keys();
    let sender = StandardWebhooks::new(private).unwrap();
    let receiver = StandardWebhooks::new(&*public).unwrap();
    let message = signed(&sender, EVENT);
    let text = message.headers()["webhook-signature"].to_str().unwrap();
    assert!(text.starts_with("v1a,") && text.len() == 92, "{text}");
    assert_eq!(verify(&receiver, &message).unwrap().id(), Some("msg_1"));
}

/// The vector of Svix's server
/// (<https://github.com/svix/svix-webhooks>, `server/svix-server/src/worker.rs`, `test_asymmetric_key_signing`).
/// Ed25519 is deterministic, so the signature that we make is the same to the byte.
#[cfg(feature = "ed25519")]
#[test]
fn standard_webhooks_v1a_as_svix_signs_it() {
    use http::HeaderMap;
    use tower_webhook::signature::{MessageId, Outgoing, SignScheme as _};
    let private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    let signature = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    let (id, time, body) = (
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
    );
    let message = request(
        &[
            ("webhook-id", id),
            ("webhook-timestamp", &time.to_string()),
            ("webhook-signature", signature),
        ],
        body,
    );
    for key in [public, private] {
        let scheme = StandardWebhooks::new(key).unwrap();
        assert_eq!(verify_at(&scheme, &message, time).unwrap().id(), Some(id));
    }
    let mut headers = HeaderMap::new();
    let id = MessageId::new(id).unwrap();
    let outgoing = Outgoing::new(body.as_bytes(), time).with_id(&id);
    let sender = StandardWebhooks::new(private).unwrap();
    sender.sign(&outgoing, &mut headers).unwrap();
    assert_eq!(headers["webhook-signature"], signature);
}

/// HMAC-SHA512 of [`EVENT`] under `test-secret`, by Python's `hmac`.
const SHA512: &str = "529350798d9355bbfbdc311cd89fa60ef1700b0476050d34327c1a90d4257e22\
    7fa8188a17d4ebf23213d96b5933ffb1cf5c638c9f571123d76e79642771ef32";

/// HMACs of [`EVENT`] by Python's `hmac`, with other hashes, encodings and times.
#[test]
fn generic_with_other_hashes_encodings_and_times() {
    with_each_backend(|| {
        let name = HeaderName::from_static;
        let builder = || Generic::builder(name("x-signature"));
        let accepts = |builder: GenericBuilder, text: &str| {
            let scheme = builder.build(key("test-secret")).unwrap();
            verify(&scheme, &request(&[("x-signature", text)], EVENT)).is_ok()
        };
        let sha512 = || builder().algorithm(Algorithm::Sha512);
        assert!(accepts(sha512(), SHA512));
        assert!(!accepts(sha512(), &SHA512[..64]));
        assert!(!accepts(sha512(), EVENT_HEX));
        assert!(!accepts(builder(), SHA512));
        #[cfg(feature = "sha1")]
        {
            let sha1 = || builder().algorithm(Algorithm::LegacySha1);
            assert!(accepts(sha1(), "5020d7d5575bc7907b5d0de463e2e0b7f06478e6"));
            assert!(!accepts(sha1(), EVENT_HEX));
            let base64 = sha1().encoding(Encoding::Base64);
            assert!(accepts(base64, "UCDX1Vdbx5B7XQ3kY+Lgt/BkeOY="));
        }
        let url = || builder().encoding(Encoding::Base64Url);
        let unpadded = "PthQ4Q-Y4pd6iovHBJZhOJc7Wv_pVyKeyrxmDUZSM2I";
        assert!(accepts(url(), unpadded) && accepts(url(), &format!("{unpadded}=")));
        assert!(!accepts(url(), EVENT_BASE64) && !accepts(url(), &format!("{unpadded}==")));
        let list = url().prefix("v1=").separator("; ");
        assert!(accepts(list, &format!("v1=AAAA; {unpadded}; x")));

        let workos = builder()
            .fields(", ", "t", "v1")
            .timestamp_format(TimestampFormat::Milliseconds)
            .content([Piece::Timestamp, ".".into(), Piece::Body]);
        let signature = "d3365129dedcca34eee2fae3028406eeef6ed73e9beed9256fffbe47bbbc797b";
        assert!(accepts(workos, &format!("t=1700000000000, v1={signature}")));

        // Zendesk.
        let zendesk = builder()
            .encoding(Encoding::Base64)
            .timestamp_header(name("x-time"))
            .timestamp_format(TimestampFormat::Rfc3339)
            .content([Piece::Timestamp, Piece::Body])
            .build(key("test-secret"))
            .unwrap();
        let message = request(
            &[
                (
                    "x-signature",
                    "LjG2Dtje1YDG2L0gLFOCooNCuJ/7KD2QxlYd1Oilk58=",
                ),
                ("x-time", "2023-11-14T22:13:20Z"),
            ],
            EVENT,
        );
        assert_eq!(verify(&zendesk, &message).unwrap().timestamp(), Some(NOW));
        assert_eq!(signed(&zendesk, EVENT).headers(), message.headers());
    });
}
