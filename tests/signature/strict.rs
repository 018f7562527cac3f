//! Everything that is refused, with the reason that must be given for it.

use crate::support::{
    ALL_COGNIGY, Both, NOW, WHSEC, at, covering_schemes, credential_schemes, refused, request,
    signed, verify, verify_at,
};
use http::{HeaderName, HeaderValue, Request};
use tower_webhook::{
    body::BufferedBody,
    clock::WallClock,
    signature::{
        Defect, Encoding, Head, Message, MessageId, Outgoing, Scheme, Secret, SignError,
        SignScheme, SignatureError, TimestampFormat, Tolerance,
        scheme::{
            AnyOf, BasicAuth, Cognigy, CognigyFormat, Generic, GitHub, Piece, SecretEncoding,
            SharedToken, Shopify, Slack, StandardWebhooks, Stripe,
        },
    },
};

fn set(request: &mut Request<BufferedBody>, name: &str, value: &[u8]) {
    let name = HeaderName::try_from(name).unwrap();
    request
        .headers_mut()
        .insert(name, HeaderValue::from_bytes(value).unwrap());
}

fn all_schemes() -> impl Iterator<Item = Box<dyn Both>> {
    covering_schemes().into_iter().chain(credential_schemes())
}

#[test]
fn a_header_that_is_missing_doubled_empty_long_or_not_ascii_is_refused() {
    for scheme in all_schemes() {
        let good = signed(&scheme, "body");
        verify(&scheme, &good).unwrap();
        let names = good.headers().keys().cloned().collect::<Vec<_>>();
        for name in &names {
            let changed = |change: &dyn Fn(&mut Request<BufferedBody>)| {
                let mut request = good.clone();
                change(&mut request);
                refused(&scheme, &request)
            };
            let value = &good.headers()[name];
            assert_eq!(
                changed(&|request| {
                    request.headers_mut().remove(name);
                }),
                "missing"
            );
            for second in [value, &HeaderValue::from_static("x")] {
                assert_eq!(
                    changed(&|request| {
                        request.headers_mut().append(name, second.clone());
                    }),
                    "malformed",
                    "{name} twice"
                );
            }
            let odd: &[&[u8]] = &[b"", b"\xff\xfe\x80", "é".as_bytes(), b"\x01"[..0].as_ref()];
            for text in odd {
                let reason = changed(&|request| set(request, name.as_str(), text));
                assert!(
                    matches!(reason, "malformed" | "mismatch"),
                    "{name}: {reason}"
                );
            }
            let long = [value.as_bytes(), &b"x".repeat(1 << 20)].concat();
            assert_eq!(
                changed(&|request| set(request, name.as_str(), &long)),
                "malformed"
            );
            let zeros = b"0".repeat(1 << 20);
            assert_eq!(
                changed(&|request| set(request, name.as_str(), &zeros)),
                "malformed"
            );
        }
    }
}

/// Also where a request has more headers than are looked through one by one.
#[test]
fn headers_are_found_among_many() {
    for scheme in all_schemes() {
        let mut good = signed(&scheme, "body");
        for number in 0..100 {
            set(&mut good, &format!("x-other-{number}"), b"x");
        }
        verify(&scheme, &good).unwrap();
        let name = good.headers().keys().next().unwrap().clone();
        good.headers_mut()
            .append(name, HeaderValue::from_static("x"));
        assert_eq!(refused(&scheme, &good), "malformed");
    }
}

#[test]
fn text_around_a_signature_is_refused() {
    for scheme in covering_schemes() {
        let good = signed(&scheme, "body");
        for (name, value) in good.headers() {
            let value = value.as_bytes();
            let spoilt: [Vec<u8>; 9] = [
                [value, b" "].concat(),
                [b" ", value].concat(),
                [value, b"="].concat(),
                [value, b"\n"].concat()[..value.len()].to_ascii_uppercase(),
                [value, b"A"].concat(),
                [value, b","].concat(),
                [value, b"\t"].concat(),
                [b"x", value].concat(),
                value[..value.len() - 1].to_vec(),
            ];
            for text in spoilt {
                if text == value {
                    continue;
                }
                let mut request = good.clone();
                set(&mut request, name.as_str(), &text);
                // An empty item of a list is no signature.
                let is_separator = |byte: &u8| matches!(byte, b' ' | b',');
                let is_list = |text: &[u8]| text.split(is_separator).any(<[u8]>::is_empty);
                if is_list(&text) && verify(&scheme, &request).is_ok() {
                    let items = |text: &[u8]| {
                        let items = text.split(is_separator).filter(|item| !item.is_empty());
                        items.map(<[u8]>::to_vec).collect::<Vec<_>>()
                    };
                    assert_eq!(items(&text), items(value), "{}", scheme.name());
                    continue;
                }
                let reason = refused(&scheme, &request);
                let shown = String::from_utf8_lossy(&text);
                // An id may be any text, and a timestamp any number: then the MAC does not match.
                assert!(
                    matches!(reason, "malformed" | "mismatch" | "stale"),
                    "{name}: {shown}: {reason}"
                );
            }
        }
    }
}

#[test]
fn timestamps_are_digits_inside_the_tolerance() {
    let with = |text: &str| {
        request(
            &[
                ("x-slack-request-timestamp", text),
                ("x-slack-signature", &format!("v0={}", "0".repeat(64))),
            ],
            "body",
        )
    };
    let slack = Slack::new("secret").unwrap();
    for text in [
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551616",
        "123456789012345678901234567890",
        "-1",
        "+1700000000",
        "1700000000 ",
        "1700000000.0",
        "1700000000abc",
        "1e9",
        "0x6553f100",
    ] {
        assert_eq!(
            verify(&slack, &with(text)).unwrap_err(),
            SignatureError::Malformed {
                header: HeaderName::from_static("x-slack-request-timestamp"),
                what: Defect::Timestamp,
            },
            "{text}"
        );
    }
    assert_eq!(refused(&slack, &with("0")), "stale");
    assert_eq!(refused(&slack, &with("999999999999999")), "early");
    // Fresh, and then the MAC counts.
    assert_eq!(refused(&slack, &with("1700000000")), "mismatch");
}

#[test]
fn the_tolerance_is_inclusive_and_can_differ_both_ways() {
    let seconds = std::time::Duration::from_secs;
    let mut timed = 0;
    for scheme in covering_schemes() {
        let good = signed(&scheme, "body");
        let verified = verify(&scheme, &good).unwrap();
        // The one that is only claimed as well: what says of itself that it is old is not taken.
        let timestamp = verified.timestamp().or(verified.claimed_timestamp());
        if timestamp.is_none() {
            continue;
        }
        timed += 1;
        for (now, reason) in [
            (NOW - 301, Some("early")),
            (NOW - 300, None),
            (NOW + 300, None),
            (NOW + 301, Some("stale")),
            (0, Some("early")),
        ] {
            let result = verify_at(&scheme, &good, now);
            assert_eq!(result.err().map(|error| error.as_str()), reason);
            let clock = at(now);
            let result = scheme.verify_head(&Head::of(&good, &clock));
            assert_eq!(result.err().map(|error| error.as_str()), reason);
        }
    }
    assert!(timed >= 8, "{timed}");
    // To the fraction of a second.
    let slack = Slack::new("secret").unwrap();
    let good = signed(&slack, "body");
    for (millis, passes) in [(300_000, true), (300_001, false), (300_900, false)] {
        let now = std::time::UNIX_EPOCH + seconds(NOW) + std::time::Duration::from_millis(millis);
        let clock = WallClock::fixed(now);
        let result = slack.verify(&Message::of(&good, &clock));
        assert_eq!(result.is_ok(), passes, "{millis}");
    }
    let stripe = Stripe::new("secret")
        .unwrap()
        .tolerance(Tolerance::new(seconds(10), seconds(0)));
    let good = signed(&stripe, "body");
    assert!(verify_at(&stripe, &good, NOW + 10).is_ok());
    assert!(verify_at(&stripe, &good, NOW + 11).is_err());
    assert!(verify_at(&stripe, &good, NOW - 1).is_err());
}

#[test]
fn stripe_fields() {
    let stripe = Stripe::new("secret").unwrap();
    let good = signed(&stripe, "body");
    let text = good.headers()["stripe-signature"].to_str().unwrap();
    let tag = text.split("v1=").nth(1).unwrap();
    let zeros = "0".repeat(64);
    let check = |text: &str| verify(&stripe, &request(&[("stripe-signature", text)], "body"));
    let defect = |text: &str| match check(text) {
        Err(SignatureError::Malformed { what, .. }) => what,
        other => panic!("{text}: {other:?}"),
    };
    for passes in [
        text.to_owned(),
        format!("v1={tag},t={NOW}"),
        format!("t={NOW},v1={zeros},v1={tag}"),
        format!("t={NOW},v0={zeros},v1={tag},v2=?"),
        format!("t={NOW}{},v1={tag}", format!(",v1={zeros}").repeat(15)),
        // Each is tried, and what is none is passed over.
        format!("t={NOW},v1={tag},v1="),
        format!("t={NOW},v1={tag}0,v1={tag}"),
        format!("t={NOW},v1={},v1={tag}", tag.to_uppercase()),
        format!("t={NOW},,v1,=,{tag},v1={tag},"),
        format!("t={NOW}, v1={zeros},v1={tag}"),
    ] {
        check(&passes).expect(&passes);
    }
    for (text, what) in [
        (format!("t={NOW},t={NOW},v1={tag}"), Defect::Repeated),
        (format!("t={NOW},t=1,v1={tag}"), Defect::Repeated),
        (format!("v1={tag}"), Defect::Timestamp),
        (format!("t={NOW}"), Defect::NoCandidate),
        (format!("t={NOW},v0={tag}"), Defect::NoCandidate),
        (format!("t={NOW},v1="), Defect::Encoding),
        (format!("t={NOW},v1={tag}0"), Defect::Encoding),
        (format!("t={NOW},v1={}", &tag[..63]), Defect::Encoding),
        (
            format!("t={NOW},v1={}", tag.to_uppercase()),
            Defect::Encoding,
        ),
        (format!("t={NOW}, v1={tag}"), Defect::NoCandidate),
        (format!("t={NOW};v1={tag}"), Defect::Timestamp),
    ] {
        assert_eq!(defect(&text), what, "{text}");
    }
    // Sixteen are tried.
    let seventeenth = format!("t={NOW}{},v1={tag}", format!(",v1={zeros}").repeat(16));
    assert_eq!(check(&seventeenth).unwrap_err(), SignatureError::Mismatch);
}

#[test]
fn standard_webhooks_signatures_and_ids() {
    let scheme = StandardWebhooks::new(WHSEC).unwrap();
    let good = signed(&scheme, "body");
    let text = good.headers()["webhook-signature"].to_str().unwrap();
    let zeros = format!("v1,{}=", "A".repeat(43));
    let check = |name: &str, text: &str| {
        let mut request = good.clone();
        set(&mut request, name, text.as_bytes());
        verify(&scheme, &request)
    };
    for passes in [
        text.to_owned(),
        format!("{zeros} {text}"),
        format!("v2,? v1a,? {text} v0,"),
        format!("{}{text}", format!("{zeros} ").repeat(15)),
        format!("{}{text}", "v9,x ".repeat(100)),
        // Each is tried, and what is none is passed over.
        format!("{text} v1,"),
        format!("v1,AAAA {text}= , x ,x {text}"),
        format!("{text}  {text}"),
        format!("{text} "),
        format!(" {text}"),
        format!("v1a,{} {text}", &text[3..]),
    ] {
        check("webhook-signature", &passes).expect(&passes);
    }
    for (spoilt, what) in [
        ("v1,".to_owned(), Defect::Encoding),
        (text[..text.len() - 1].to_owned(), Defect::Encoding),
        (format!("{text}="), Defect::Encoding),
        (format!("{text}garbage"), Defect::Encoding),
        (text[3..].to_owned(), Defect::NoCandidate),
        (format!(",{}", &text[3..]), Defect::NoCandidate),
        (text.replace("v1,", "v2,"), Defect::NoCandidate),
        (text.replace("v1,", "v1a,"), Defect::NoCandidate),
        (text.replace("v1,", "V1,"), Defect::NoCandidate),
    ] {
        match check("webhook-signature", &spoilt) {
            Err(SignatureError::Malformed { what: found, .. }) => {
                assert_eq!(found, what, "{spoilt}");
            }
            other => panic!("{spoilt}: {other:?}"),
        }
    }
    let seventeenth = format!("{}{text}", format!("{zeros} ").repeat(16));
    assert_eq!(
        check("webhook-signature", &seventeenth).unwrap_err(),
        SignatureError::Mismatch
    );
    for id in ["a.b", "a b", "é"] {
        match check("webhook-id", id) {
            Err(SignatureError::Malformed {
                what: Defect::Id, ..
            }) => {}
            other => panic!("{id}: {other:?}"),
        }
    }
    for id in ["msg_2", &"x".repeat(4096)] {
        assert_eq!(
            check("webhook-id", id).unwrap_err(),
            SignatureError::Mismatch
        );
    }
}

/// A message `A`, `T`, `N.x` has the MAC of `A.T`, `N`, `x`: a new id for the same event.
#[test]
fn fields_cannot_be_shifted() {
    let scheme = StandardWebhooks::new(WHSEC).unwrap();
    let good = signed(&scheme, format!("{NOW}.x"));
    let signature = good.headers()["webhook-signature"].as_bytes();
    let shifted = request(
        &[
            ("webhook-id", format!("msg_1.{NOW}").as_bytes()),
            ("webhook-timestamp", NOW.to_string().as_bytes()),
            ("webhook-signature", signature),
        ],
        "x",
    );
    assert!(matches!(
        verify(&scheme, &shifted),
        Err(SignatureError::Malformed {
            what: Defect::Id,
            ..
        })
    ));
    // Nor through the literal of a template.
    let generic = Generic::builder(HeaderName::from_static("x-signature"))
        .id_header(HeaderName::from_static("x-id"))
        .timestamp_header(HeaderName::from_static("x-time"))
        .content([
            Piece::Id,
            "--".into(),
            Piece::Timestamp,
            "--".into(),
            Piece::Body,
        ])
        .build("secret")
        .unwrap();
    let good = signed(&generic, format!("{NOW}--x"));
    let shifted = request(
        &[
            ("x-id", format!("msg_1--{NOW}").as_bytes()),
            ("x-time", NOW.to_string().as_bytes()),
            ("x-signature", good.headers()["x-signature"].as_bytes()),
        ],
        "x",
    );
    assert_eq!(refused(&generic, &shifted), "malformed");
}

/// `ts.body` in one format is a body in another, under the same key.
#[test]
fn a_timestamped_message_is_not_a_body_in_another_format() {
    let sender = Cognigy::new("secret", ALL_COGNIGY).unwrap();
    let header = |request: &Request<BufferedBody>| {
        let text = request.headers()["x-cognigy-signature"].to_str().unwrap();
        text.split("v1=").nth(1).unwrap().to_owned()
    };
    let tag = header(&signed(&sender, "body"));
    let disguised = request(&[("x-cognigy-signature", &tag)], format!("{NOW}.body"));
    assert_eq!(refused(&sender, &disguised), "mismatch");
    // A body that merely begins with a digit is nobody's disguise.
    let number = signed(&sender.clone().sign_as(CognigyFormat::Hex), "17");
    verify(&sender, &number).unwrap();
}

/// The migration that the specification describes: a sender writes its own names and the standard ones.
#[test]
fn svix_takes_both_sets_of_headers_if_they_agree() {
    let svix = StandardWebhooks::svix([WHSEC, "b2xk"].map(Secret::new)).unwrap();
    let standard = StandardWebhooks::new(WHSEC).unwrap();
    let old = StandardWebhooks::svix("b2xk").unwrap();
    let other = StandardWebhooks::svix("b3RoZXI").unwrap();
    let good = signed(&standard, "body");
    verify(&svix, &good).unwrap();
    assert_eq!(refused(&standard, &signed(&svix, "body")), "missing");

    let both = |svix: &StandardWebhooks| {
        let mut both = good.clone();
        both.headers_mut()
            .extend(signed(svix, "body").headers().clone());
        both
    };
    assert_eq!(verify(&svix, &both(&svix)).unwrap().id(), Some("msg_1"));
    // Each set with a key of its own: one that we know is enough.
    verify(&svix, &both(&old)).unwrap();
    verify(&svix, &both(&other)).unwrap();
    verify(&old, &both(&old)).unwrap();
    assert_eq!(refused(&other, &both(&old)), "mismatch");

    // What an inner layer would read is what was verified.
    for name in [
        "svix-id",
        "svix-timestamp",
        "webhook-id",
        "webhook-timestamp",
    ] {
        for value in ["msg_2", "1700000001", ""] {
            let mut apart = both(&svix);
            set(&mut apart, name, value.as_bytes());
            assert_eq!(refused(&svix, &apart), "malformed", "{name}: {value}");
        }
        let mut twice = both(&svix);
        let again = twice.headers()[name].clone();
        let name = HeaderName::from_static(name);
        twice.headers_mut().append(name, again);
        assert_eq!(refused(&svix, &twice), "malformed");
    }
    // A set of which something is missing is none.
    for name in ["svix-id", "svix-timestamp", "svix-signature"] {
        let mut part = both(&svix);
        part.headers_mut().remove(name);
        assert_eq!(refused(&svix, &part), "missing", "{name}");
        let mut trace = good.clone();
        set(&mut trace, name, b"x");
        assert_eq!(refused(&svix, &trace), "missing", "{name}");
    }
    // Of the other set, what is there must agree.
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut part = both(&svix);
        part.headers_mut().remove(name);
        verify(&svix, &part).unwrap();
    }
}

#[test]
fn shopify_takes_either_name_of_its_header() {
    let shopify = Shopify::new("secret").unwrap();
    let good = signed(&shopify, "body");
    let tag = good.headers()["x-shopify-hmac-sha256"].as_bytes();
    let wrong = [b"A".repeat(43), b"=".to_vec()].concat();
    let with = |headers: &[(&str, &[u8])]| request(headers, "body");
    let (old, new) = ("x-shopify-hmac-sha256", "shopify-hmac-sha256");
    for passes in [
        &[(new, tag)][..],
        &[(old, tag), (new, tag)],
        &[(old, tag), (new, &wrong)],
        &[(old, &wrong), (new, tag)],
    ] {
        verify(&shopify, &with(passes)).unwrap();
    }
    for (fails, reason) in [
        (&[(new, &*wrong)][..], "mismatch"),
        (&[(old, &wrong), (new, &wrong)], "mismatch"),
        (&[(new, tag), (new, tag)], "malformed"),
        (&[(old, tag), (new, tag), (new, tag)], "malformed"),
        (&[(old, tag), (new, b"")], "malformed"),
        (&[], "missing"),
    ] {
        assert_eq!(refused(&shopify, &with(fails)), reason);
    }
    let renamed = shopify.header(HeaderName::from_static("x-hmac"));
    assert_eq!(refused(&renamed, &with(&[(new, tag)])), "missing");
}

#[cfg(feature = "ed25519")]
#[test]
fn one_good_signature_of_either_version_is_enough() {
    let (private, public) = crate::support::ed25519_keys();
    let sender = StandardWebhooks::new([Secret::new(private), Secret::new(WHSEC)]).unwrap();
    let receiver = StandardWebhooks::new([Secret::new(&*public), Secret::new(WHSEC)]).unwrap();
    let reversed = StandardWebhooks::new([Secret::new(WHSEC), Secret::new(&*public)]).unwrap();
    let only_v1 = StandardWebhooks::new(WHSEC).unwrap();
    let only_v1a = StandardWebhooks::new(&*public).unwrap();

    let good = signed(&sender, "body");
    for scheme in [&receiver, &reversed, &only_v1, &only_v1a] {
        verify(scheme, &good).unwrap();
    }
    let text = good.headers()["webhook-signature"]
        .to_str()
        .unwrap()
        .to_owned();
    let (v1a, v1) = text.split_once(' ').unwrap();
    let with = |text: &str| {
        let mut request = good.clone();
        set(&mut request, "webhook-signature", text.as_bytes());
        request
    };
    // The `v1a` of another message, with the right `v1`.
    let other = signed(&sender, "other");
    let other = other.headers()["webhook-signature"].to_str().unwrap();
    let wrong_v1a = other.split(' ').next().unwrap();
    for text in [format!("{wrong_v1a} {v1}"), format!("{v1} {wrong_v1a}")] {
        for scheme in [&receiver, &reversed, &only_v1] {
            verify(scheme, &with(&text)).unwrap();
        }
        assert_eq!(refused(&only_v1a, &with(&text)), "mismatch");
    }
    let wrong_v1 = other.split(' ').nth(1).unwrap();
    for scheme in [&receiver, &reversed] {
        verify(scheme, &with(&format!("{wrong_v1} {v1a}"))).unwrap();
        let wrong = with(&format!("{wrong_v1} {wrong_v1a}"));
        assert_eq!(refused(scheme, &wrong), "mismatch");
    }
    // None at all, and we hold both kinds: the `v1` counts.
    verify(&receiver, &with(v1)).unwrap();
    assert_eq!(refused(&only_v1a, &with(v1)), "malformed");
    // Four are tried, and spelling counts.
    let after = |wrong: usize| {
        let others = [&*format!("{v1a}="), "v1a,", "x"];
        with(
            &[&vec![wrong_v1a; wrong][..], &others, &[v1a]]
                .concat()
                .join(" "),
        )
    };
    verify(&receiver, &after(3)).unwrap();
    assert_eq!(refused(&receiver, &after(4)), "mismatch");
    for spoilt in [
        "v1a,",
        "v1a,AAAA",
        &v1a[..v1a.len() - 1],
        &format!("{v1a}="),
    ] {
        assert_eq!(refused(&receiver, &with(spoilt)), "malformed", "{spoilt}");
    }
}

/// Whoever has the last of the keys verifies what all of them sign.
#[cfg(feature = "ed25519")]
#[test]
fn no_more_keys_sign_than_signatures_are_tried() {
    let keys = (1..=5_u8)
        .map(|seed| {
            let base64 = data_encoding::BASE64.encode(&[seed; 32]);
            Secret::new(format!("whsk_{base64}"))
        })
        .collect::<Vec<_>>();
    let sender = StandardWebhooks::new(keys[..4].to_vec()).unwrap();
    let good = signed(&sender, "body");
    for key in &keys[..4] {
        verify(&StandardWebhooks::new(key.clone()).unwrap(), &good).unwrap();
    }
    let error = StandardWebhooks::new(keys.clone()).unwrap_err();
    assert_eq!(error.setting(), "secrets");
    sender.signing_keys().replace(keys).unwrap_err();

    let macs = (0..16).map(|n| Secret::new(data_encoding::BASE64.encode(&[n; 24])));
    let macs = macs.collect::<Vec<_>>();
    let good = signed(&StandardWebhooks::new(macs.clone()).unwrap(), "body");
    for key in macs {
        verify(&StandardWebhooks::new(key).unwrap(), &good).unwrap();
    }
}

#[test]
fn the_first_scheme_that_is_there_decides() {
    let any = AnyOf::first(StandardWebhooks::new(WHSEC).unwrap())
        .or(GitHub::new("github").unwrap())
        .or(SharedToken::gitlab("token").unwrap());
    let standard = signed(&StandardWebhooks::new(WHSEC).unwrap(), "body");
    let github = signed(&GitHub::new("github").unwrap(), "body");
    assert_eq!(
        verify(&any, &standard).unwrap().scheme(),
        "standard_webhooks"
    );
    assert_eq!(verify(&any, &github).unwrap().scheme(), "github");

    // A good weaker signature beside any trace of a stronger one that is wrong.
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut downgrade = github.clone();
        set(&mut downgrade, name, b"x");
        verify(&any, &downgrade).unwrap_err();
    }
    assert_eq!(
        verify(&any, &request::<&str>(&[], "body")).unwrap_err(),
        SignatureError::missing(&HeaderName::from_static("webhook-id"))
    );
}

#[test]
fn credentials() {
    let basic = BasicAuth::new("user", "pass:word").unwrap();
    let encode = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let check = |text: String| verify(&basic, &request(&[("authorization", &text)], "body"));
    for passes in ["Basic", "basic", "BASIC", "Basic "] {
        check(format!("{passes} {}", encode("user:pass:word"))).unwrap();
    }
    for wrong in [
        "user:",
        "user:pass",
        "user:pass:word ",
        "User:pass:word",
        ":pass:word",
        "",
    ] {
        assert!(
            check(format!("Basic {}", encode(wrong))).is_err(),
            "{wrong}"
        );
    }
    for malformed in [
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic ???".to_owned(),
        format!("Bearer {}", encode("user:pass:word")),
        format!("Basic {}", encode("user:pass:word").trim_end_matches('=')),
        format!("Basic{}", encode("user:pass:word")),
        format!("Basic {}", encode(&"x".repeat(2000))),
    ] {
        let error = check(malformed.clone()).unwrap_err();
        assert_eq!(error.as_str(), "malformed", "{malformed}");
    }

    let bearer = SharedToken::bearer("token").unwrap();
    let check = |text: &str| verify(&bearer, &request(&[("authorization", text)], "body"));
    check("Bearer token").unwrap();
    check("bearer token").unwrap();
    for wrong in [
        "token",
        "Bearer",
        "Bearer tok",
        "Bearer token2",
        "Basic token",
        "Bearer \u{e9}",
    ] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
    let gitlab = SharedToken::gitlab("token").unwrap();
    assert_eq!(
        refused(&gitlab, &request(&[("x-gitlab-token", "Token")], "body")),
        "mismatch"
    );
}

#[test]
fn secrets_that_cannot_be_are_refused_when_built() {
    let setting =
        |result: Result<(), tower_webhook::InvalidConfig>| result.unwrap_err().to_string();
    macro_rules! refuses {
        ($($built:expr),+ $(,)?) => {$(
            let text = setting($built.map(|_| ()));
            assert!(text.starts_with("`secrets` ") || text.starts_with("`label` "), "{text}");
        )+};
    }
    let many = |count: usize| {
        (0..count)
            .map(|n| Secret::new(format!("s{n}")))
            .collect::<Vec<_>>()
    };
    refuses![
        GitHub::new(""),
        GitHub::new(Vec::<Secret>::new()),
        GitHub::new(["good".into(), Secret::new("")]),
        GitHub::new(many(17)),
        GitHub::new([Secret::new("a").label("x"), Secret::new("b").label("x")]),
        GitHub::new(Secret::new("a").label("")),
        GitHub::new(Secret::new("a").label("line\nbreak")),
        GitHub::new(Secret::new("a").label("x".repeat(48))),
        Shopify::new(""),
        Slack::new(""),
        Stripe::new(""),
        Cognigy::new("", [CognigyFormat::Hex]),
        StandardWebhooks::new(""),
        StandardWebhooks::new("whsec_"),
        StandardWebhooks::new("whsec_="),
        StandardWebhooks::new("whsec_not base64"),
        StandardWebhooks::new("whsec_é"),
        StandardWebhooks::new("whpk_AAAA"),
        StandardWebhooks::new("whpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        StandardWebhooks::new("whsk_AAAA"),
        StandardWebhooks::new(format!("whsk_{}", data_encoding::BASE64.encode(&[7; 64]))),
        BasicAuth::new("user", ""),
        BasicAuth::new("user", "x".repeat(2000)),
        SharedToken::gitlab(""),
        SharedToken::gitlab("line\nbreak"),
        Generic::builder(HeaderName::from_static("x"))
            .secret_encoding(SecretEncoding::Hex)
            .build("zz"),
        Generic::builder(HeaderName::from_static("x"))
            .secret_encoding(SecretEncoding::Base64)
            .build("?"),
    ];
    assert!(GitHub::new(many(16)).is_ok());
    // Unpadded, as some consoles print it.
    assert!(
        StandardWebhooks::new("whsec_YQ").is_ok() && StandardWebhooks::new("whsec_YQ==").is_ok()
    );
    assert!(setting(Cognigy::new("s", []).map(|_| ())).starts_with("`accepted` "));
    assert!(setting(BasicAuth::new("a:b", "s").map(|_| ())).starts_with("`user` "));
    assert!(
        setting(BasicAuth::new("a", "s").unwrap().realm("\"").map(|_| ())).starts_with("`realm` ")
    );
    assert!(
        setting(
            StandardWebhooks::new(WHSEC)
                .unwrap()
                .header_prefix("a b")
                .map(|_| ())
        )
        .starts_with("`header_prefix` ")
    );
}

#[test]
fn templates_that_protect_less_than_they_seem_to_are_refused() {
    let name = HeaderName::from_static;
    let builder = || Generic::builder(name("x-signature")).encoding(Encoding::Base64);
    let timed = || builder().timestamp_header(name("x-time"));
    let dot = || Piece::from(".");
    for (builder, setting) in [
        (builder().content([]), "content"),
        (
            builder().content([Piece::Body, dot(), Piece::Body]),
            "content",
        ),
        (
            builder().content([Piece::Timestamp, dot(), Piece::Body]),
            "content",
        ),
        (
            builder().content([Piece::Id, dot(), Piece::Body]),
            "content",
        ),
        (builder().id_header(name("x-id")), "content"),
        (timed(), "content"),
        (
            timed().content([Piece::Timestamp, "".into(), Piece::Body]),
            "content",
        ),
        (
            timed().content([Piece::Timestamp, "0".into(), Piece::Body]),
            "content",
        ),
        (
            builder()
                .id_header(name("x-id"))
                .content([Piece::Body, dot(), Piece::Id]),
            "content",
        ),
        (
            builder().content([
                dot(),
                dot(),
                dot(),
                dot(),
                dot(),
                dot(),
                dot(),
                dot(),
                Piece::Body,
            ]),
            "content",
        ),
        (
            timed()
                .fields(",", "t", "v1")
                .content([Piece::Timestamp, dot(), Piece::Body]),
            "timestamp_header",
        ),
        (
            builder()
                .fields(",", "t", "t")
                .content([Piece::Timestamp, dot(), Piece::Body]),
            "fields",
        ),
        (
            builder()
                .fields(",", "", "v1")
                .content([Piece::Timestamp, dot(), Piece::Body]),
            "fields",
        ),
        (
            builder()
                .fields("=", "t", "v1")
                .content([Piece::Timestamp, dot(), Piece::Body]),
            "separator",
        ),
        (builder().separator("a"), "separator"),
        (builder().separator("é"), "separator"),
    ] {
        assert_eq!(builder.build("secret").unwrap_err().setting(), setting);
    }
}

#[test]
fn templates_without_boundaries_or_without_a_request_that_fits_are_refused() {
    let name = HeaderName::from_static;
    let builder = || Generic::builder(name("x-signature")).encoding(Encoding::Base64);
    let timed = || builder().timestamp_header(name("x-time"));
    let dot = || Piece::from(".");
    for (builder, setting) in [
        (builder().separator(""), "separator"),
        (builder().separator("\n"), "separator"),
        (builder().separator("-"), "separator"),
        (
            builder()
                .fields(":", "t", "v1")
                .timestamp_format(TimestampFormat::Rfc3339)
                .content([Piece::Timestamp, dot(), Piece::Body]),
            "separator",
        ),
        // Where one piece could go on with the next one.
        (
            builder()
                .id_header(name("x-id"))
                .content([Piece::Id, Piece::Body]),
            "content",
        ),
        (
            timed()
                .id_header(name("x-id"))
                .content([Piece::Id, Piece::Timestamp, Piece::Body]),
            "content",
        ),
        (builder().content([Piece::Method, Piece::Body]), "content"),
        (
            builder().content([Piece::Method, ".".into(), Piece::Body]),
            "content",
        ),
        (
            builder().content([Piece::Target, ".".into(), Piece::Body]),
            "content",
        ),
        (
            timed().content([Piece::Target, Piece::Timestamp, Piece::Body]),
            "content",
        ),
        (builder().content([Piece::Body, Piece::Target]), "content"),
        (
            builder().content([Piece::Target, Piece::Target, Piece::Body]),
            "content",
        ),
        // What no request can satisfy.
        (builder().or_header(name("x-signature")), "header"),
        (
            builder()
                .timestamp_header(name("x-signature"))
                .content([Piece::Timestamp, Piece::Body]),
            "header",
        ),
        (
            timed().id_header(name("x-time")).content([
                Piece::Id,
                ".".into(),
                Piece::Timestamp,
                Piece::Body,
            ]),
            "header",
        ),
        (builder().prefix(" v1="), "prefix"),
        (builder().prefix("v1\n"), "prefix"),
        (builder().prefix("vé="), "prefix"),
        (builder().prefix("v".repeat(5000)), "prefix"),
        (
            builder()
                .or_header(name("x-other"))
                .fields(",", "t", "v1")
                .content([Piece::Timestamp, dot(), Piece::Body]),
            "or_header",
        ),
    ] {
        assert_eq!(builder.build("secret").unwrap_err().setting(), setting);
    }
    for builder in [
        timed().content([Piece::Timestamp, dot(), Piece::Body]),
        timed().content([Piece::Timestamp, Piece::Body]),
        timed().content([Piece::Body, Piece::Timestamp]),
        builder().content([Piece::Method, Piece::Target, Piece::Body]),
        builder().content([
            Piece::Method,
            " ".into(),
            Piece::Target,
            "\n".into(),
            Piece::Body,
        ]),
        builder().separator("; "),
    ] {
        builder.build("secret").unwrap();
    }
}

/// What one MAC covers is one message, although nothing stands between its pieces.
#[test]
fn pieces_side_by_side_cannot_be_shifted() {
    let name = HeaderName::from_static;
    let timed = |content: [Piece; 2]| {
        Generic::builder(name("x-signature"))
            .timestamp_header(name("x-time"))
            .tolerance(std::time::Duration::MAX)
            .content(content)
            .build("secret")
            .unwrap()
    };
    for (scheme, shifts) in [
        (
            timed([Piece::Timestamp, Piece::Body]),
            [("17000000001", "2"), ("170000000", "012")],
        ),
        (
            timed([Piece::Body, Piece::Timestamp]),
            [("21700000000", "1"), ("700000000", "121")],
        ),
    ] {
        let good = signed(&scheme, "12");
        assert_eq!(good.headers()["x-time"], "1700000000");
        verify(&scheme, &good).unwrap();
        for (time, body) in shifts {
            let signature = good.headers()["x-signature"].to_str().unwrap();
            let shifted = request(&[("x-signature", signature), ("x-time", time)], body);
            assert_eq!(refused(&scheme, &shifted), "malformed", "{time}");
        }
    }

    let hook = Generic::builder(name("x-signature"))
        .content([Piece::Method, Piece::Target, Piece::Body])
        .build("secret")
        .unwrap();
    let to = |method: &str, uri: &str, body: &'static str| {
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(BufferedBody::from(body))
            .unwrap();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut headers = http::HeaderMap::new();
        let message = Outgoing::new(body.as_bytes(), NOW).with_target(&method, &uri);
        let signed = hook.sign(&message, &mut headers);
        *request.headers_mut() = headers;
        signed.map(|()| request)
    };
    let good = to("POST", "https://example.com/hook?a=b", r#"{"a":1}"#).unwrap();
    verify(&hook, &good).unwrap();
    for (method, uri, body) in [
        ("PUT", "/hook?a=b", r#"{"a":1}"#),
        ("POST", "/hook?a=c", r#"{"a":1}"#),
        ("POST", "/hook?a=b{", r#""a":1}"#),
        ("POST", "/hook?a=b{%22a%22:1}", ""),
        ("POST", "/hook?a", r#"=b{"a":1}"#),
    ] {
        let mut shifted = Request::builder()
            .method(method)
            .uri(uri)
            .body(BufferedBody::from(body))
            .unwrap();
        *shifted.headers_mut() = good.headers().clone();
        assert_eq!(refused(&hook, &shifted), "mismatch", "{uri}");
    }
    // What no receiver would take is not sent.
    for (uri, body) in [("/hook", "a=b"), ("/hook{", "{}"), ("*", "{}")] {
        assert_eq!(
            to("POST", uri, body).unwrap_err(),
            SignError::InvalidTarget,
            "{uri}"
        );
    }
    let without = hook.sign(&Outgoing::new(b"{}", NOW), &mut http::HeaderMap::new());
    assert_eq!(without, Err(SignError::InvalidTarget));
    verify(&hook, &to("POST", "/hook", "").unwrap()).unwrap();

    // An id that ends like the text after it.
    let generic = Generic::builder(name("x-signature"))
        .id_header(name("x-id"))
        .content([Piece::Id, "--".into(), Piece::Body])
        .build("secret")
        .unwrap();
    let mut headers = http::HeaderMap::new();
    let id = MessageId::new("a-").unwrap();
    let message = Outgoing::new(b"body", NOW).with_id(&id);
    assert_eq!(
        generic.sign(&message, &mut headers),
        Err(SignError::InvalidId)
    );
    let id = MessageId::new("-a").unwrap();
    generic
        .sign(&Outgoing::new(b"body", NOW).with_id(&id), &mut headers)
        .unwrap();
}

#[test]
fn no_secret_is_shown() {
    const SECRET: &str = "dG9wc2VjcmV0dG9wc2VjcmV0";
    let shown = |value: &dyn std::fmt::Debug| {
        let text = format!("{value:?} {value:#?}");
        for part in [
            SECRET,
            "topsecret",
            &data_encoding::HEXLOWER.encode(b"topsecret"),
            "116, 111, 112",
        ] {
            assert!(!text.contains(part), "{text}");
        }
    };
    let github = GitHub::new(SECRET).unwrap();
    shown(&Secret::new(SECRET));
    shown(&Secret::new(SECRET).label("label"));
    shown(&tower_webhook::signature::Secrets::from(SECRET));
    shown(&github);
    shown(&github.signing_keys());
    shown(&StandardWebhooks::new(SECRET).unwrap());
    shown(&Cognigy::new(SECRET, ALL_COGNIGY).unwrap());
    shown(&BasicAuth::new("user", SECRET).unwrap());
    shown(&SharedToken::bearer(SECRET).unwrap());
    shown(&AnyOf::first(github.clone()));
    shown(&tower_webhook::SignatureVerifyLayer::new(github.clone()));
    shown(&tower_webhook::SignLayer::new(github.clone()));
    shown(&signed(&BasicAuth::new("user", SECRET).unwrap(), "body"));
    shown(&signed(&SharedToken::bearer(SECRET).unwrap(), "body"));
    shown(&StandardWebhooks::new(format!("whsec_{SECRET}!")));
    shown(&SharedToken::new(
        HeaderName::from_static("x"),
        format!("{SECRET}\n"),
    ));
    // Nor is a signature, in a log of requests.
    assert!(format!("{:?}", signed(&github, "body")).contains("Sensitive"));
}
