//! HTTP Message Signatures: the vectors of the RFC, what is refused, and what is signed.
#![cfg(feature = "http-message-signatures")]

use crate::support::{NOW, at, refused, verify, verify_at};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use proptest::prelude::*;
use tower_webhook::{
    SignatureVerifyLayer,
    body::BufferedBody,
    signature::{
        Defect, Encoding, MessageId, Outgoing, ReplayCache, Scheme, Secret, SignError, SignScheme,
        SignatureError, Verified,
        scheme::{HttpMessageSignatures, Shopify, StandardWebhooks},
    },
};

/// The time of the RFC's signatures.
const CREATED: u64 = 1_618_884_473;
const URL: &str = "https://hooks.example.com/paid?shop=1";

fn scheme() -> HttpMessageSignatures {
    HttpMessageSignatures::hmac(Secret::new("secret").label("acme")).unwrap()
}

/// A request as its receiver sees it: without the scheme of its URL, and the host in a header.
fn received(method: &Method, uri: &Uri, headers: HeaderMap, body: &[u8]) -> Request<BufferedBody> {
    let mut request = Request::new(BufferedBody::from(body.to_vec()));
    *request.method_mut() = method.clone();
    *request.headers_mut() = headers;
    let query = uri.query().map(|query| format!("?{query}"));
    let target = format!("{}{}", uri.path(), query.unwrap_or_default());
    *request.uri_mut() = target.parse().unwrap();
    let host = HeaderValue::try_from(uri.authority().unwrap().as_str()).unwrap();
    request.headers_mut().entry("host").or_insert(host);
    request
}

fn signed_with(
    scheme: &dyn SignScheme,
    mut headers: HeaderMap,
    body: &[u8],
) -> Request<BufferedBody> {
    let (method, uri) = (Method::POST, URL.parse().unwrap());
    let id = MessageId::new("msg_1").unwrap();
    let message = Outgoing::new(body, NOW)
        .with_target(&method, &uri)
        .with_id(&id);
    scheme.sign(&message, &mut headers).unwrap();
    received(&method, &uri, headers, body)
}

fn signed(scheme: &dyn SignScheme, body: &[u8]) -> Request<BufferedBody> {
    signed_with(scheme, HeaderMap::new(), body)
}

fn set(request: &mut Request<BufferedBody>, name: &'static str, value: &str) {
    request.headers_mut().insert(name, value.parse().unwrap());
}

fn text<'a>(request: &'a Request<BufferedBody>, name: &str) -> &'a str {
    request.headers()[name].to_str().unwrap()
}

/// HMAC-SHA256 in base64, with any key: a forger asks no scheme.
fn mac(secret: &str, content: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(content.as_bytes());
    Encoding::Base64.encode(mac.finalize().into_bytes())
}

mod vectors {
    use super::*;

    const SECRET: &str =
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    const RSA_INPUT: &str = r#"sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#;
    const RSA: &str = "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:";

    fn shared_secret() -> HttpMessageSignatures {
        let key = Encoding::Base64.decode(SECRET).unwrap();
        HttpMessageSignatures::hmac(Secret::new(key).label("test-shared-secret")).unwrap()
    }

    /// The request of appendix B.2.
    fn test_request(input: &'static str, signature: &'static str) -> Request<BufferedBody> {
        Request::post("/foo?param=Value&Pet=dog")
            .header("host", "example.com")
            .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
            .header("content-type", "application/json")
            .header("content-digest", "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:")
            .header("content-length", "18")
            .header("signature-input", input)
            .header("signature", signature)
            .body(BufferedBody::from(r#"{"hello": "world"}"#))
            .unwrap()
    }

    /// Appendix B.2.5.
    #[test]
    fn hmac_sha256() {
        let request = test_request(
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
            "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
        );
        let lenient = shared_secret()
            .components(["date", "@authority", "content-type"])
            .unwrap();
        let verified = verify_at(&lenient, &request, CREATED).unwrap();
        assert_eq!(verified.secret_label(), Some("test-shared-secret"));
        assert_eq!(verified.timestamp(), Some(CREATED));
        assert_eq!(verified.id(), None);

        for name in ["date", "host", "content-type"] {
            let mut changed = request.clone();
            set(&mut changed, name, "example.org");
            let error = verify_at(&lenient, &changed, CREATED).unwrap_err();
            assert_eq!(error, SignatureError::Mismatch, "{name}");
        }
        // It covers less than what makes a webhook safe.
        let error = verify_at(&shared_secret(), &request, CREATED).unwrap_err();
        let component = "@method".to_owned();
        assert_eq!(error, SignatureError::NotCovered { component });
        let late = verify_at(&lenient, &request, CREATED + 301).unwrap_err();
        assert_eq!(late.as_str(), "stale");
    }

    /// Appendix B.2.3: a signature by somebody else's key, beside one that is right or alone.
    #[test]
    fn a_signature_of_another_key() {
        let request = test_request(RSA_INPUT, RSA);
        let scheme = shared_secret();
        let error = verify_at(&scheme, &request, CREATED).unwrap_err();
        assert_eq!(error, malformed("signature-input", Defect::NoCandidate));

        let mut headers = request.headers().clone();
        let uri = "https://example.com/foo?param=Value&Pet=dog"
            .parse()
            .unwrap();
        let body = request.body().as_bytes();
        let message = Outgoing::new(body, CREATED).with_target(&Method::POST, &uri);
        headers.remove("content-digest");
        scheme.sign(&message, &mut headers).unwrap();
        let both = received(&Method::POST, &uri, headers, body);
        assert!(text(&both, "signature-input").starts_with(RSA_INPUT));
        assert!(text(&both, "signature").starts_with(RSA));
        verify_at(&scheme, &both, CREATED).unwrap();
    }

    #[cfg(feature = "ed25519")]
    mod ed25519 {
        use super::*;

        const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
";
        const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
";

        fn scheme(pem: &str) -> HttpMessageSignatures {
            HttpMessageSignatures::ed25519(Secret::new(pem).label("test-key-ed25519")).unwrap()
        }

        /// Appendix B.2.6.
        #[test]
        fn ed25519() {
            let request = test_request(
                r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
                "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
            );
            for pem in [PUBLIC, PRIVATE] {
                let scheme = scheme(pem)
                    .components(["@method", "@path", "@authority"])
                    .unwrap();
                verify_at(&scheme, &request, CREATED).unwrap();
                let mut changed = request.clone();
                *changed.method_mut() = Method::PUT;
                let error = verify_at(&scheme, &changed, CREATED).unwrap_err();
                assert_eq!(error, SignatureError::Mismatch);
            }
            let error = verify_at(&scheme(PUBLIC), &request, CREATED).unwrap_err();
            let component = "@target-uri".to_owned();
            assert_eq!(error, SignatureError::NotCovered { component });
        }

        /// Appendix B.4: what proxies may change, and what they may not.
        #[test]
        fn transformations() {
            let original = Request::get("/demo?name1=Value1&Name2=value2")
                .header("host", "example.org")
                .header("date", "Fri, 15 Jul 2022 14:24:55 GMT")
                .header("accept", "application/json")
                .header("accept", "*/*")
                .header("signature-input", r#"transform=("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519""#)
                .header("signature", "transform=:ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==:")
                .body(BufferedBody::default())
                .unwrap();
            let scheme = scheme(PUBLIC)
                .components(["@method", "@path", "@authority"])
                .unwrap();
            let is_right = |change: &dyn Fn(&mut Request<BufferedBody>)| {
                let mut request = original.clone();
                change(&mut request);
                verify_at(&scheme, &request, CREATED).is_ok()
            };
            assert!(is_right(&|_| {}));
            assert!(is_right(&|request| {
                *request.uri_mut() = "/demo?name1=Value1&Name2=value2&param=added"
                    .parse()
                    .unwrap();
                set(request, "accept-language", "en-US,en;q=0.5");
            }));
            assert!(is_right(&|request| {
                request.headers_mut().remove("date");
                set(request, "referer", "https://developer.example.org/demo");
                set(request, "accept", "application/json, */*");
            }));
            assert!(is_right(&|request| {
                *request.uri_mut() = "https://EXAMPLE.org:443/demo".parse().unwrap();
            }));
            assert!(!is_right(&|request| {
                set(request, "host", "developer.example.com");
            }));
            assert!(!is_right(&|request| *request.method_mut() = Method::POST));
            assert!(!is_right(&|request| {
                request.headers_mut().remove("accept");
                for value in ["*/*", "application/json"] {
                    request
                        .headers_mut()
                        .append("accept", value.parse().unwrap());
                }
            }));
        }

        /// The key says which algorithm: a public key that everybody knows is never the secret of a MAC.
        #[test]
        fn the_algorithm_is_that_of_the_key() {
            let scheme = scheme(PUBLIC);
            for secret in [PUBLIC, PUBLIC.trim()] {
                let forger = HttpMessageSignatures::hmac("x").unwrap();
                let mut request = signed(&forger, b"{}");
                for alg in [r#";alg="hmac-sha256""#, ""] {
                    let input = format!(
                        r#"("@method" "@target-uri" "content-digest");created={NOW};keyid="test-key-ed25519"{alg}"#
                    );
                    let digest = text(&request, "content-digest").to_owned();
                    let base = format!(
                        "\"@method\": POST\n\"@target-uri\": {URL}\n\"content-digest\": {digest}\n\"@signature-params\": {input}"
                    );
                    set(&mut request, "signature-input", &format!("sig1={input}"));
                    set(
                        &mut request,
                        "signature",
                        &format!("sig1=:{}:", mac(secret, &base)),
                    );
                    assert!(verify(&scheme, &request).is_err(), "{input}");
                }
            }
            let ours = signed(&super::ed25519::scheme(PRIVATE), b"{}");
            verify(&scheme, &ours).unwrap();
        }

        /// A public key in any form is neither taken for a secret, nor read otherwise than as PEM.
        #[test]
        fn a_public_key_is_never_the_key_of_an_hmac() {
            let der = PUBLIC.lines().nth(1).unwrap();
            let x = "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs";
            let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
            for (form, key) in [
                ("PEM", format!("# key of acme\n{PUBLIC}")),
                ("PEM", format!("\u{feff}{PUBLIC}")),
                ("PEM", format!("\"{PUBLIC}\"")),
                ("PEM", PUBLIC.replace('\n', "\\n")),
                ("PEM", format!("{PUBLIC}{PUBLIC}")),
                ("PEM", PUBLIC.replace("PUBLIC", "RSA PUBLIC")),
                ("DER", der.to_owned()),
                ("DER", format!(" \"{der}\"\n")),
                ("JWK", jwk.clone()),
                ("JWK", format!(r#"{{"keys":[{jwk}]}}"#)),
                ("whpk_", format!("whpk_{x}")),
                ("whpk_", format!("\u{feff}whsk_{x}")),
            ] {
                let error = HttpMessageSignatures::hmac(&*key).unwrap_err().to_string();
                assert!(error.contains(form), "{key}: {error}");
                assert!(!error.contains(x) && !error.contains(der), "{error}");
                let error = HttpMessageSignatures::ed25519(&*key).unwrap_err();
                assert!(error.to_string().contains("must be PEM"), "{key}: {error}");
            }
            for pem in [PUBLIC, PRIVATE] {
                let error = HttpMessageSignatures::hmac(pem).unwrap_err();
                assert!(error.to_string().contains("PEM"), "{error}");
                // A rotation does not change the kind.
                let scheme = HttpMessageSignatures::hmac("secret").unwrap();
                assert!(scheme.signing_keys().replace(pem).is_err());
            }
            let keys = scheme(PUBLIC).signing_keys();
            assert!(keys.replace("secret").is_err());
            keys.replace(PRIVATE).unwrap();
            // The same class of mistake, elsewhere.
            assert!(StandardWebhooks::new(der).is_err());
            assert!(Shopify::new(PUBLIC).is_err());
        }

        #[test]
        fn a_key_that_is_no_ed25519_key_is_refused() {
            let ecdsa = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf
w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END PUBLIC KEY-----";
            for pem in [
                ecdsa,
                "-----BEGIN",
                &PUBLIC.replace("MCow", ""),
                &PUBLIC.replace("END", "BEGIN"),
                &PRIVATE.replace("PRIVATE", "PUBLIC"),
            ] {
                let error = HttpMessageSignatures::ed25519(pem).unwrap_err();
                assert_eq!(error.setting(), "secrets", "{pem}");
            }
        }

        #[test]
        fn a_public_key_does_not_sign() {
            let message = Outgoing::new(b"", NOW);
            let uri = URL.parse().unwrap();
            let message = message.with_target(&Method::POST, &uri);
            let error = scheme(PUBLIC).sign(&message, &mut HeaderMap::new());
            assert_eq!(error, Err(SignError::NoSigningKey));
        }
    }
}

/// A request with this member of `Signature-Input`, whose signature is right over these lines.
fn crafted(input: &str, lines: &[&str]) -> Request<BufferedBody> {
    let mut request = signed(&scheme(), b"{}");
    let params = format!("\"@signature-params\": {input}");
    let mac = mac("secret", &[lines, &[&params]].concat().join("\n"));
    set(&mut request, "signature-input", &format!("a={input}"));
    set(&mut request, "signature", &format!("a=:{mac}:"));
    request
}

const METHOD: &str = "\"@method\": POST";
const TARGET: &str = "\"@target-uri\": https://hooks.example.com/paid?shop=1";
const DIGEST: &str = "\"content-digest\": sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:";
const ALL: [&str; 3] = [METHOD, TARGET, DIGEST];
const COVERED: &str = r#"("@method" "@target-uri" "content-digest")"#;

#[test]
fn what_others_sign_in_their_own_order_is_accepted() {
    for (input, lines) in [
        (format!("{COVERED};created={NOW}"), ALL.to_vec()),
        (
            format!(
                r#"("content-digest" "@target-uri" "@method");keyid="acme";created={NOW};expires={};alg="hmac-sha256";nonce="\"\\";more=?0;tag="any""#,
                NOW + 1
            ),
            vec![DIGEST, TARGET, METHOD],
        ),
        (
            format!(
                r#"("@method" "@authority" "@path" "@query" "@query-param";name="shop" "content-digest" "host");created={NOW}"#
            ),
            vec![
                METHOD,
                "\"@authority\": hooks.example.com",
                "\"@path\": /paid",
                "\"@query\": ?shop=1",
                "\"@query-param\";name=\"shop\": 1",
                DIGEST,
                "\"host\": hooks.example.com",
            ],
        ),
        (
            format!(
                r#"("@scheme" "@method" "@authority" "@request-target" "content-digest");created={NOW}"#
            ),
            vec![
                "\"@scheme\": https",
                METHOD,
                "\"@authority\": hooks.example.com",
                "\"@request-target\": /paid?shop=1",
                DIGEST,
            ],
        ),
    ] {
        let request = crafted(&input, &lines);
        let result = verify(&scheme(), &request);
        assert!(result.is_ok(), "{input}: {result:?}");
        let spaced = text(&request, "signature-input")
            .replace(';', "; ")
            .replace('(', "( ");
        let mut request = request;
        set(&mut request, "signature-input", &spaced);
        assert!(verify(&scheme(), &request).is_ok(), "{spaced}");
    }
}

#[test]
fn a_refusal_names_what_a_signature_does_not_cover() {
    for (input, lines, lacks) in [
        ("()", vec![], "@method"),
        (
            r#"("@target-uri" "content-digest")"#,
            vec![TARGET, DIGEST],
            "@method",
        ),
        (
            r#"("@method" "content-digest")"#,
            vec![METHOD, DIGEST],
            "@target-uri",
        ),
        (
            r#"("@method" "@authority" "@path" "content-digest")"#,
            vec![
                METHOD,
                "\"@authority\": hooks.example.com",
                "\"@path\": /paid",
                DIGEST,
            ],
            "@target-uri",
        ),
        (
            r#"("@method" "@target-uri")"#,
            vec![METHOD, TARGET],
            "content-digest",
        ),
    ] {
        let request = crafted(&format!("{input};created={NOW}"), &lines);
        let error = verify(&scheme(), &request).unwrap_err();
        let component = lacks.to_owned();
        assert_eq!(error, SignatureError::NotCovered { component }, "{input}");
        assert_eq!(
            error.to_string(),
            format!("its signature does not cover `{lacks}`, which this scheme needs")
        );
    }
    // Without a body and a digest, there is none to cover.
    let input = format!(r#"("@method" "@target-uri");created={NOW}"#);
    let mut request = crafted(&input, &[METHOD, TARGET]);
    request.headers_mut().remove("content-digest");
    assert_eq!(refused(&scheme(), &request), "not_covered");
    *request.body_mut() = BufferedBody::default();
    verify(&scheme(), &request).unwrap();
}

/// The error of a signature over the right text, with these components and parameters.
fn with(components: &str, parameters: &str) -> SignatureError {
    let input = format!("{components}{parameters}");
    verify(&scheme(), &crafted(&input, &ALL)).unwrap_err()
}

fn malformed(name: &'static str, what: Defect) -> SignatureError {
    SignatureError::malformed(&HeaderName::from_static(name), what)
}

#[test]
fn odd_parameters_are_refused() {
    let malformed = |what| malformed("signature-input", what);
    for (parameters, what) in [
        (String::new(), Defect::Timestamp),
        (format!(";expires={}", NOW + 10), Defect::Timestamp),
        (format!(";created={NOW}.0"), Defect::Timestamp),
        (format!(";created=\"{NOW}\""), Defect::Timestamp),
        (format!(";created=-{NOW}"), Defect::Timestamp),
        (format!(";created=@{NOW}"), Defect::Timestamp),
        (";created".into(), Defect::Timestamp),
        (format!(";created={NOW};expires"), Defect::Timestamp),
        (format!(";created={NOW};created={NOW}"), Defect::Repeated),
        (format!(";created={NOW};x;x"), Defect::Repeated),
        (format!(";created={NOW};keyid=acme"), Defect::Syntax),
        (format!(";created={NOW};alg=?1"), Defect::Syntax),
        (
            format!(";created={NOW};keyid=\"other\""),
            Defect::NoCandidate,
        ),
        (
            format!(";created={NOW};alg=\"ed25519\""),
            Defect::NoCandidate,
        ),
        (
            format!(";created={NOW};alg=\"hmac-sha512\""),
            Defect::NoCandidate,
        ),
        (
            format!(";created={NOW};alg=\"HMAC-SHA256\""),
            Defect::NoCandidate,
        ),
        (format!(";created=1{NOW}000000"), Defect::Syntax),
        (format!(";created={NOW},"), Defect::Syntax),
    ] {
        assert_eq!(with(COVERED, &parameters), malformed(what), "{parameters}");
    }
    let many = (0..129).map(|at| format!(";x{at}"));
    let many = many.collect::<Vec<_>>().concat();
    assert_eq!(with("()", &many), malformed(Defect::TooLong));
}

#[test]
fn components_that_are_not_known_or_there_twice_are_refused() {
    let malformed = |what| malformed("signature-input", what);
    let created = format!(";created={NOW}");
    for (components, what) in [
        (
            r#"("@method" "@method" "@target-uri" "content-digest")"#,
            Defect::Repeated,
        ),
        (
            r#"("@method" "@target-uri" "content-digest" "content-digest")"#,
            Defect::Repeated,
        ),
        (
            r#"("@method" "@target-uri" "content-digest";sf)"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest";bs)"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest";tr)"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest";key="sha-256")"#,
            Defect::Format,
        ),
        (
            r#"("@method";req "@target-uri" "content-digest")"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri";x=1 "content-digest")"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest" "@status")"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest" "@signature-params")"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest" "@query-param")"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest" "@query-param";name="none")"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content-digest" "@query-param";name="shop";req)"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "Content-Digest")"#,
            Defect::Format,
        ),
        (
            r#"("@METHOD" "@target-uri" "content-digest")"#,
            Defect::Format,
        ),
        (
            r#"("@method" "@target-uri" "content digest")"#,
            Defect::Format,
        ),
        (r#"("@method" "@target-uri" "")"#, Defect::Format),
        ("(method)", Defect::Syntax),
        ("(1 2)", Defect::Syntax),
        ("(((((((((((1)))))))))))", Defect::Syntax),
        ("\"@method\"", Defect::Syntax),
        ("", Defect::Syntax),
    ] {
        assert_eq!(with(components, &created), malformed(what), "{components}");
    }
    let many = (0..129)
        .map(|at| format!("\"x-{at}\""))
        .collect::<Vec<_>>()
        .join(" ");
    assert_eq!(
        with(&format!("({many})"), &created),
        malformed(Defect::TooLong)
    );
}

#[test]
fn times_are_within_the_tolerance_and_a_signature_expires() {
    let at = |parameters: String| {
        let request = crafted(&format!("{COVERED}{parameters}"), &ALL);
        verify(&scheme(), &request)
            .map(drop)
            .map_err(|error| error.as_str())
    };
    assert_eq!(at(format!(";created={}", NOW - 300)), Ok(()));
    assert_eq!(at(format!(";created={}", NOW - 301)), Err("stale"));
    assert_eq!(at(format!(";created={}", NOW + 300)), Ok(()));
    assert_eq!(at(format!(";created={}", NOW + 301)), Err("early"));
    assert_eq!(at(";created=0".into()), Err("stale"));
    assert_eq!(at(";created=999999999999999".into()), Err("early"));
    assert_eq!(at(format!(";created={};expires={NOW}", NOW - 1)), Ok(()));
    assert_eq!(
        at(format!(";created={};expires={}", NOW - 2, NOW - 1)),
        Err("stale")
    );
    assert_eq!(at(format!(";created={NOW};expires=0")), Err("stale"));
    // Far ahead, it does not make a signature live longer.
    let long = format!(";created={};expires=999999999999999", NOW - 301);
    assert_eq!(at(long), Err("stale"));
}

#[test]
fn headers_are_strict_where_signatures_are_concerned() {
    let good = signed(&scheme(), b"{}");
    let (input, signature) = (text(&good, "signature-input"), text(&good, "signature"));
    let refused_with = |name: &'static str, value: &str| {
        let mut request = good.clone();
        set(&mut request, name, value);
        verify(&scheme(), &request).unwrap_err()
    };
    let base64 = &signature["sig1=:".len()..signature.len() - 1];
    for (value, what) in [
        (String::new(), Defect::Empty),
        (signature.replace("sig1", "sig2"), Defect::NoCandidate),
        (format!("{signature}, {signature}"), Defect::Repeated),
        (
            format!("sig1=:{}:", base64.trim_end_matches('=')),
            Defect::Encoding,
        ),
        (format!("sig1=\"{base64}\""), Defect::Encoding),
        ("sig1".into(), Defect::Encoding),
        ("sig1=(:AA==:)".into(), Defect::Encoding),
        (format!("sig1=:{base64}"), Defect::Syntax),
        (format!("{signature} x"), Defect::Syntax),
        (format!("SIG1=:{base64}:"), Defect::Syntax),
        (format!("{signature},"), Defect::Syntax),
        ("a=1,".repeat(2500), Defect::TooLong),
    ] {
        assert_eq!(
            refused_with("signature", &value),
            malformed("signature", what),
            "{value}"
        );
    }
    for value in [
        "sig1=::",
        "sig1=:AA==:",
        &format!("sig1=:{}:", mac("secret", "x")),
    ] {
        assert_eq!(
            refused_with("signature", value),
            SignatureError::Mismatch,
            "{value}"
        );
    }
    for (value, what) in [
        (String::new(), Defect::Empty),
        (format!("{input}, {input}"), Defect::Repeated),
        (format!("{input}é"), Defect::Syntax),
        ("a=(),".repeat(10_000), Defect::TooLong),
    ] {
        let error = refused_with("signature-input", &value);
        assert_eq!(error, malformed("signature-input", what), "{value:.50}");
    }
    for name in ["signature", "signature-input", "content-digest"] {
        let mut request = good.clone();
        request.headers_mut().remove(name);
        let missing = SignatureError::missing(&HeaderName::from_static(name));
        let error = verify(&scheme(), &request).unwrap_err();
        assert_eq!(error, missing, "{name}");
    }
}

#[test]
fn one_right_signature_among_others_is_enough() {
    let good = signed(&scheme(), b"{}");
    let (input, signature) = (text(&good, "signature-input"), text(&good, "signature"));
    let others: Vec<(String, &str)> = vec![
        ("x=1".into(), "x=2"),
        ("x".into(), "y"),
        (format!(r#"x=("@method";req);created={NOW}"#), "x=:AA==:"),
        (format!(r#"x=();created={NOW};keyid="other""#), "x=:AA==:"),
        ("x=()".into(), "x=()"),
        (
            format!("x={COVERED};created={NOW}"),
            "x=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:",
        ),
        (format!("x={COVERED};created={NOW}, x=1"), "x=::"),
        (format!("x={COVERED};created={NOW}"), "x=::, x=::"),
    ];
    for (other_input, other) in others {
        for ours_first in [true, false] {
            let order = |ours: &str, other: &str| {
                if ours_first {
                    [ours.to_owned(), other.to_owned()]
                } else {
                    [other.to_owned(), ours.to_owned()]
                }
            };
            let mut request = good.clone();
            let (inputs, signatures) = (order(input, &other_input), order(signature, other));
            set(&mut request, "signature-input", &inputs.join(","));
            set(&mut request, "signature", &signatures.join(" \t,\t"));
            let result = verify(&scheme(), &request);
            assert!(result.is_ok(), "{inputs:?} {signatures:?}: {result:?}");
            // In several lines.
            for (name, lines) in [("signature-input", inputs), ("signature", signatures)] {
                request.headers_mut().remove(name);
                for line in lines {
                    request.headers_mut().append(name, line.parse().unwrap());
                }
            }
            assert!(verify(&scheme(), &request).is_ok(), "{other_input}");
        }
    }
    // Sixteen that might be ours are tried, and any number that is not.
    let with = |number: usize, member: &str, bytes: &str| {
        let list = |value: &str| {
            let members = (0..number).map(|at| format!("x{at}={value}, "));
            members.collect::<Vec<_>>().concat()
        };
        let mut request = good.clone();
        set(&mut request, "signature-input", &(list(member) + input));
        set(&mut request, "signature", &(list(bytes) + signature));
        verify(&scheme(), &request).map(drop)
    };
    let wrong = format!("{COVERED};created={NOW}");
    assert_eq!(with(15, &wrong, "::"), Ok(()));
    assert_eq!(with(16, &wrong, "::"), Err(SignatureError::Mismatch));
    assert_eq!(with(300, "();keyid=\"x\"", "1"), Ok(()));
}

#[test]
fn a_digest_that_is_not_of_the_body_is_refused() {
    let mut request = signed(&scheme(), b"{}");
    *request.body_mut() = BufferedBody::from("{ }");
    assert_eq!(refused(&scheme(), &request), "mismatch");
    // Covered, though nothing asks for it.
    let lenient = scheme().components(["@method"]).unwrap();
    assert_eq!(refused(&lenient, &request), "mismatch");
    let unsigned = signed(&lenient, b"{}");
    assert!(!unsigned.headers().contains_key("content-digest"));
    verify(&lenient, &unsigned).unwrap();

    // A second digest beside the one that is signed.
    let mut request = signed(&scheme(), b"{}");
    let wrong = format!("sha-512=:{}:", Encoding::Base64.encode([0; 64]));
    request
        .headers_mut()
        .append("content-digest", wrong.parse().unwrap());
    assert_eq!(refused(&scheme(), &request), "mismatch");
    // Signed by the sender, and wrong.
    let digest = format!("sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:, {wrong}");
    let line = format!("\"content-digest\": {digest}");
    let mut request = crafted(
        &format!("{COVERED};created={NOW}"),
        &[METHOD, TARGET, &line],
    );
    set(&mut request, "content-digest", &digest);
    assert_eq!(refused(&scheme(), &request), "mismatch");
    // Of a hash that is not safe.
    let digest = "md5=:mZFLkyvTelC5g8XnyQrpOw==:";
    let line = format!("\"content-digest\": {digest}");
    let mut request = crafted(
        &format!("{COVERED};created={NOW}"),
        &[METHOD, TARGET, &line],
    );
    set(&mut request, "content-digest", digest);
    assert_eq!(refused(&scheme(), &request), "malformed");
}

#[test]
fn a_message_for_another_receiver_is_refused_by_its_origin() {
    let good = signed(&scheme(), b"{}");
    let mine = |origin: &str| scheme().origin(origin).unwrap();
    verify(&mine("https://hooks.example.com"), &good).unwrap();
    let error = verify(&mine("https://other.example.com"), &good).unwrap_err();
    assert_eq!(error, SignatureError::Mismatch);
    assert!(verify(&mine("http://hooks.example.com"), &good).is_err());
    // Behind a proxy that changes the host.
    let mut proxied = good;
    set(&mut proxied, "host", "10.0.0.7:8080");
    assert_eq!(refused(&scheme(), &proxied), "mismatch");
    verify(&mine("https://Hooks.example.com:443/"), &proxied).unwrap();
}

#[test]
fn a_tag_is_required_and_signed() {
    let tagged = scheme().tag("web\"hook").unwrap();
    let good = signed(&tagged, b"{}");
    verify(&tagged, &good).unwrap();
    verify(&scheme(), &good).unwrap();
    let other = scheme().tag("other").unwrap();
    assert_eq!(refused(&other, &good), "malformed");
    assert_eq!(refused(&tagged, &signed(&scheme(), b"{}")), "malformed");
}

#[test]
fn a_secret_without_a_label_verifies_any_keyid() {
    let any = HttpMessageSignatures::hmac("secret").unwrap();
    let good = signed(&scheme(), b"{}");
    assert!(text(&good, "signature-input").contains(r#";keyid="acme";"#));
    assert_eq!(verify(&any, &good).unwrap().secret_label(), Some("key-1"));
    let without = signed(&any, b"{}");
    assert!(!text(&without, "signature-input").contains("keyid"));
    verify(&scheme(), &without).unwrap();
}

#[test]
fn an_id_is_one_that_is_signed() {
    let name = HeaderName::from_static("webhook-id");
    let with_id = scheme().id_header(name.clone());
    let good = signed(&with_id, b"{}");
    assert_eq!(verify(&with_id, &good).unwrap().id(), Some("msg_1"));
    assert_eq!(verify(&scheme(), &good).unwrap().id(), None);
    for value in ["msg_2", "msg_1 ", " msg_1"] {
        let mut other = good.clone();
        set(&mut other, "webhook-id", value);
        assert!(verify(&with_id, &other).is_err(), "{value:?}");
    }
    let mut twice = good;
    twice.headers_mut().append(&name, "msg_1".parse().unwrap());
    assert_eq!(refused(&with_id, &twice), "malformed");
    let mut unsigned = signed(&scheme(), b"{}");
    set(&mut unsigned, "webhook-id", "msg_1");
    let error = verify(&with_id, &unsigned).unwrap_err();
    let component = "webhook-id".to_owned();
    assert_eq!(error, SignatureError::NotCovered { component });
}

/// The same answers, from either of two that rotate; and the count of both checks of a request is one.
#[test]
fn a_rotation_signs_and_verifies_with_both_secrets() {
    let rotating = HttpMessageSignatures::hmac([
        Secret::new("new").label("2026"),
        Secret::new("old").label("2025"),
    ])
    .unwrap();
    let good = signed(&rotating, b"{}");
    assert!(text(&good, "signature").contains(", sig1-2=:"));
    for (secret, label) in [("new", "2026"), ("old", "2025")] {
        let scheme = HttpMessageSignatures::hmac(Secret::new(secret).label(label)).unwrap();
        let verified = verify(&scheme, &good).unwrap();
        assert_eq!(verified.secret_label(), Some(label));
        assert_eq!(scheme.signing_keys().usage()[0].1, 1);
    }
}

#[test]
fn an_attempt_replaces_its_own_signature_and_keeps_those_of_others() {
    let first = signed(&scheme(), b"{}");
    let mut headers = first.headers().clone();
    for (name, line) in [
        (
            "signature-input",
            r#"proxy=("@method";x=1 "a");created=1;odd=*x/y:z;f=1.5"#,
        ),
        ("signature-input", "sig1-9=(), sig10=(), item=@12;a"),
        ("signature", "proxy=:AAAA:;b=?0, sig10=::, sig1-9=::"),
    ] {
        headers.append(name, line.parse().unwrap());
    }
    let again = signed_with(&scheme(), headers, b"{}");
    let inputs = text(&again, "signature-input");
    let kept =
        r#"proxy=("@method";x=1 "a");created=1;odd=*x/y:z;f=1.5, sig10=(), item=@12;a, sig1=("#;
    assert!(inputs.starts_with(kept), "{inputs}");
    assert_eq!(inputs.matches("sig1=").count(), 1);
    let signatures = text(&again, "signature");
    assert!(
        signatures.starts_with("proxy=:AAAA:;b=?0, sig10=::, sig1=:"),
        "{signatures}"
    );
    assert!(again.headers()["signature"].is_sensitive());
    verify(&scheme(), &again).unwrap();
    let nonce = |request| {
        let (_, rest) = text(request, "signature-input")
            .rsplit_once("nonce=")
            .unwrap();
        rest[..34].to_owned()
    };
    assert_ne!(nonce(&first), nonce(&again));

    let mut other = again.headers().clone();
    other.remove("content-digest");
    let ours = scheme().label("ours").unwrap();
    let both = signed_with(&ours, other, b"{}");
    assert!(text(&both, "signature").contains("sig1=:"));
    assert!(text(&both, "signature").contains(", ours=:"));
}

#[test]
fn what_cannot_be_signed_is_not_sent() {
    let uri = URL.parse().unwrap();
    let target = Outgoing::new(b"{}", NOW).with_target(&Method::POST, &uri);
    let sign = |scheme: HttpMessageSignatures,
                message: &Outgoing<'_>,
                headers: &[(&'static str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        scheme.sign(message, &mut map)
    };
    let date = || scheme().components(["@method", "date"]).unwrap();
    assert_eq!(sign(date(), &target, &[("date", "today")]), Ok(()));
    assert_eq!(sign(date(), &target, &[]), Err(SignError::InvalidHeader));
    let odd = sign(date(), &target, &[("date", "é")]);
    assert_eq!(odd, Err(SignError::InvalidHeader));
    let cavage = [("signature", r#"keyId="x",signature="AA==""#)];
    assert_eq!(
        sign(scheme(), &target, &cavage),
        Err(SignError::InvalidHeader)
    );
    let bare = Outgoing::new(b"{}", NOW);
    assert_eq!(sign(scheme(), &bare, &[]), Err(SignError::InvalidTarget));
    let path = "/paid".parse().unwrap();
    let relative = bare.with_target(&Method::POST, &path);
    assert_eq!(
        sign(scheme(), &relative, &[]),
        Err(SignError::InvalidTarget)
    );
    assert_eq!(sign(scheme(), &relative, &[("host", "a")]), Ok(()));
    let origin = scheme().origin("https://a").unwrap();
    assert_eq!(sign(origin, &relative, &[]), Ok(()));
    let id = scheme().id_header(HeaderName::from_static("webhook-id"));
    assert_eq!(sign(id, &target, &[]), Err(SignError::MissingId));
    let late = Outgoing::new(b"{}", u64::MAX).with_target(&Method::POST, &uri);
    assert_eq!(sign(scheme(), &late, &[]), Err(SignError::HeaderValue));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for components in [
        &[][..],
        &["@method", "@method"],
        &["@status"],
        &["@query-param"],
        &["Date"],
        &["signature"],
        &["signature-input"],
        &["a b"],
        &[""],
    ] {
        let error = scheme().components(components.iter().copied()).unwrap_err();
        assert_eq!(error.setting(), "components", "{components:?}");
    }
    assert_eq!(scheme().label("Sig").unwrap_err().setting(), "label");
    assert_eq!(scheme().tag("ü").unwrap_err().setting(), "tag");
    assert_eq!(scheme().origin("x").unwrap_err().setting(), "origin");
    let odd = HttpMessageSignatures::hmac(Secret::new("secret").label("ü"));
    assert_eq!(odd.unwrap_err().setting(), "label");
}

/// A message is one, whichever of its signatures with one nonce is right, and two to different targets are two.
#[tokio::test(start_paused = true)]
async fn replays_are_told_from_messages_that_look_alike() {
    let rotating = || {
        HttpMessageSignatures::hmac([
            Secret::new("new").label("2026"),
            Secret::new("old").label("2025"),
        ])
        .unwrap()
    };
    let layer = SignatureVerifyLayer::new(rotating())
        .clock(at(NOW))
        .reject_replays(ReplayCache::new(10))
        .unwrap();
    let status = async |request| crate::support::through(&layer, request).await.status();
    let refusal = |request: Request<BufferedBody>| {
        let layer = layer.clone();
        async move {
            use tower::{Layer, ServiceExt, service_fn};
            let handler = service_fn(|_: Request<BufferedBody>| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(BufferedBody::default()))
            });
            let response = layer.layer(handler).oneshot(request).await.unwrap();
            response.extensions().get::<SignatureError>().cloned()
        }
    };
    let first = signed(&rotating(), b"{}");
    assert_eq!(status(first.clone()).await, 200);
    assert_eq!(refusal(first.clone()).await, Some(SignatureError::Replayed));
    let mut second_only = first.clone();
    let (_, input) = text(&first, "signature-input")
        .split_once(", sig1-2")
        .unwrap();
    set(
        &mut second_only,
        "signature-input",
        &format!("sig1-2{input}"),
    );
    assert!(verify(&rotating(), &second_only).is_ok());
    assert_eq!(refusal(second_only).await, Some(SignatureError::Replayed));
    // The same body in the same second.
    assert_eq!(status(signed(&rotating(), b"{}")).await, 200);
    // Signed twice, with two nonces: once for each, and not a third time.
    let one = signed(&scheme(), b"{}");
    let two = signed_with(
        &scheme().label("two").unwrap(),
        one.headers().clone(),
        b"{}",
    );
    let layer = SignatureVerifyLayer::new(scheme())
        .clock(at(NOW))
        .reject_replays(ReplayCache::new(10))
        .unwrap();
    for (request, status) in [(&two, 200), (&two, 401), (&one, 401)] {
        let response = crate::support::through(&layer, request.clone()).await;
        assert_eq!(response.status(), status);
    }
    let mut two_only = two.clone();
    for name in ["signature-input", "signature"] {
        let (_, member) = text(&two, name).split_once(", two=").unwrap();
        set(&mut two_only, name, &format!("two={member}"));
    }
    for status in [200, 401] {
        let response = crate::support::through(&layer, two_only.clone()).await;
        assert_eq!(response.status(), status);
    }
    let foreign = |target: &str| {
        let input = format!("{COVERED};created={NOW}");
        let uri: Uri = target.parse().unwrap();
        let line = format!("\"@target-uri\": {target}");
        let mut request = crafted(&input, &[METHOD, &line, DIGEST]);
        *request.uri_mut() = uri.path().parse().unwrap();
        request
    };
    let layer = SignatureVerifyLayer::new(scheme())
        .clock(at(NOW))
        .reject_replays(ReplayCache::new(10))
        .unwrap();
    for target in ["/a", "/b"] {
        let request = foreign(&format!("https://hooks.example.com{target}"));
        assert_eq!(crate::support::through(&layer, request).await.status(), 200);
    }
}

fn a_method() -> impl Strategy<Value = Method> {
    "[A-Z]{1,8}|[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}".prop_filter_map("not a method", |text| {
        Method::from_bytes(text.as_bytes()).ok()
    })
}

fn a_target() -> impl Strategy<Value = Uri> {
    "https?://[a-zA-Z0-9-]{1,9}(\\.[a-z]{2,3})?(:[0-9]{1,4})?(/[a-zA-Z0-9._~%!$&'()*+,;=:@-]{0,8}){0,3}(\\?[a-zA-Z0-9._~%!$&'()*+,;=:@/?-]{0,12})?"
        .prop_filter_map("not a URI", |text| text.parse().ok())
}

proptest! {
    #[test]
    fn what_is_signed_is_verified_and_what_is_changed_is_refused(
        method in a_method(),
        uri in a_target(),
        value in "[!-~]([ -~]{0,20}[!-~])?",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        change: prop::sample::Index,
        bit in 0..7_u32,
    ) {
        let https = uri.scheme_str() == Some("https");
        let scheme = scheme().components(["@method", "@target-uri", "content-digest", "x-more"]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-more", value.parse().unwrap());
        let message = Outgoing::new(&body, NOW).with_target(&method, &uri);
        scheme.sign(&message, &mut headers).unwrap();
        let mut request = received(&method, &uri, headers, &body);
        let origin = format!("{}://{}", uri.scheme_str().unwrap(), uri.authority().unwrap());
        let mine = scheme.clone().origin(&origin).unwrap();
        prop_assert!(verify(&mine, &request).is_ok(), "{request:?}");
        if https {
            prop_assert!(verify(&scheme, &request).is_ok(), "{request:?}");
        }

        // One bit of one of the things that are covered, or of the signature itself.
        let names = ["x-more", "content-digest", "signature", "signature-input"];
        let flip = |text: &[u8]| {
            let mut text = text.to_vec();
            let place = change.index(text.len());
            text[place] ^= 1 << bit;
            text
        };
        for name in names {
            let mut other = request.clone();
            let Ok(value) = HeaderValue::from_bytes(&flip(request.headers()[name].as_bytes())) else {
                continue;
            };
            other.headers_mut().insert(name, value);
            prop_assert!(verify(&mine, &other).is_err(), "{name}: {other:?}");
        }
        if let Ok(other) = Method::from_bytes(&flip(method.as_str().as_bytes())) {
            let mut changed = request.clone();
            *changed.method_mut() = other;
            prop_assert!(verify(&mine, &changed).is_err());
        }
        let target = request.uri().to_string();
        // A fragment is cut off, which may leave what was there.
        if let Ok(other) = String::from_utf8(flip(target.as_bytes()))
            && let Ok(other) = other.parse::<Uri>()
            && other != target.as_str()
            && other.authority().is_none()
        {
            let mut changed = request.clone();
            *changed.uri_mut() = other;
            prop_assert!(verify(&mine, &changed).is_err(), "{changed:?}");
        }
        if !body.is_empty() {
            let mut changed = request.clone();
            *changed.body_mut() = BufferedBody::from(flip(&body));
            prop_assert!(verify(&mine, &changed).is_err());
        }
        let longer = [&body[..], b"x"].concat();
        *request.body_mut() = BufferedBody::from(longer);
        prop_assert!(verify(&mine, &request).is_err());
    }

    #[test]
    fn no_header_panics(
        values in proptest::collection::vec(a_value(), 5),
        present in proptest::collection::vec(any::<bool>(), 5),
        more in proptest::option::of(a_value()),
        body in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        let scheme = scheme().id_header(HeaderName::from_static("webhook-id"));
        let mut request = signed(&scheme, &body);
        let names = ["signature-input", "signature", "content-digest", "host", "webhook-id"];
        for (name, (value, present)) in names.iter().zip(values.into_iter().zip(present)) {
            if present {
                request.headers_mut().insert(*name, value);
            }
        }
        if let Some(more) = more {
            request.headers_mut().append("signature-input", more);
        }
        let result: Result<Verified, _> = verify(&scheme, &request);
        let expected = result.is_err() || result.is_ok_and(|found| found.id() == Some("msg_1"));
        prop_assert!(expected);

        // Whatever is there is added to or refused, and what is added is right.
        let mut headers = request.headers().clone();
        let (method, uri) = (Method::POST, URL.parse().unwrap());
        let id = MessageId::new("msg_1").unwrap();
        let message = Outgoing::new(&body, NOW).with_target(&method, &uri).with_id(&id);
        headers.remove("host");
        if scheme.sign(&message, &mut headers).is_ok() {
            let again = received(&method, &uri, headers, &body);
            let result = verify(&scheme, &again);
            let is_full = again.headers()["signature-input"].len() > 4096;
            prop_assert!(result.is_ok() || is_full, "{again:?} {result:?}");
        }
    }
}

fn a_value() -> impl Strategy<Value = HeaderValue> {
    let parameter = r#"(;(created=(1700000000|[0-9]{1,16}|\?1|"x")|expires=17[0-9]{8}|keyid="(acme|x)"|alg="(hmac-sha256|ed25519)"|nonce="[a-z]{0,3}"|[a-z*][a-z0-9_.*-]{0,3}(=[a-z0-9"?:.@-]{1,6})?))"#;
    let item = r#""(@method|@target-uri|content-digest|@query-param|webhook-id|@[a-z-]{1,9}|[a-zA-Z -]{0,6})"(;(name="shop"|sf|bs|req|tr|key="a"))?"#;
    let member = format!(
        r"(sig1|[a-z*][a-z0-9_.*-]{{0,3}}|[ -~])(=(\(({item} ){{0,5}}\)|:[A-Za-z0-9+/]{{0,44}}=?:|[ -~]{{0,9}}){parameter}{{0,4}})?"
    );
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::string::string_regex(&format!("({member}, ?){{0,3}}{member}"))
            .unwrap()
            .prop_map(String::into_bytes),
        "(sha-256|sha-512|md5)=:[A-Za-z0-9+/]{0,86}={0,2}:".prop_map(String::into_bytes),
    ];
    bytes.prop_filter_map("not a header value", |bytes| {
        HeaderValue::from_bytes(&bytes).ok()
    })
}

/// What a stranger sends costs little, and is refused.
#[test]
fn hostile_headers_are_bounded() {
    let good = signed(&scheme(), b"{}");
    let input = format!("{COVERED};created={NOW}");
    for lines in [
        vec!["a=()".to_owned(); 10_000],
        (0..10_000).map(|at| format!("a{at}={input}")).collect(),
        vec![format!("a={}", "(".repeat(4000))],
        vec![format!("a=(\"{}\")", "\\\"".repeat(4000))],
        vec![format!("a=({})", "\"x\" ".repeat(2000))],
        vec![format!("a=(\"x\"{})", ";a".repeat(2000))],
        vec![format!("a=:{}:", "A".repeat(8000))],
    ] {
        let mut request = good.clone();
        request.headers_mut().remove("signature-input");
        for line in lines {
            request
                .headers_mut()
                .append("signature-input", line.parse().unwrap());
        }
        assert_eq!(refused(&scheme(), &request), "malformed");
        assert!(Scheme::recognizes(&scheme(), request.headers()));
    }
}

/// The path that was requested is signed, not the one that a router left.
#[cfg(feature = "axum")]
#[test]
fn a_nested_router_does_not_change_what_is_signed() {
    let mut request = signed(&scheme(), b"{}");
    let original = request.uri().clone();
    *request.uri_mut() = "/?shop=1".parse().unwrap();
    assert_eq!(refused(&scheme(), &request), "mismatch");
    let original = axum::extract::OriginalUri(original);
    request.extensions_mut().insert(original);
    verify(&scheme(), &request).unwrap();
}

/// As a client of hyper sends them and its server receives them, by HTTP/1 and HTTP/2: the first with the host in a header,
/// the second with a URI that has one.
#[tokio::test]
async fn requests_are_signed_as_they_arrive() {
    use http_body_util::BodyExt as _;
    use hyper_util::{
        client::legacy::Client,
        rt::{TokioExecutor, TokioIo},
        server::conn::auto,
        service::TowerToHyperService,
    };
    use tower::{Layer, ServiceBuilder, ServiceExt};
    use tower_webhook::{BufferBodyLayer, SignLayer};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let parts = ["@method", "@authority", "@path", "@query", "content-digest"];
    let parts = scheme().components(parts).unwrap();
    for (sender, receiver) in [
        (scheme(), scheme().origin(&origin).unwrap()),
        (parts.clone(), parts.clone()),
        // By its parts, a target is covered without the scheme, which this server does not know.
        (parts, scheme()),
    ] {
        let verify = SignatureVerifyLayer::new(receiver);
        let server = ServiceBuilder::new()
            .layer(verify.before_body())
            .layer(BufferBodyLayer::new(1 << 10))
            .layer(verify)
            .service_fn(|request: Request<BufferedBody>| async {
                assert!(request.extensions().get::<Verified>().is_some());
                Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
            });
        for http2 in [false, true] {
            let client = Client::builder(TokioExecutor::new())
                .http2_only(http2)
                .build_http::<BufferedBody>();
            let client = SignLayer::new(sender.clone()).layer(client);
            let url = format!("{origin}/paid?shop=1&note=a%20b");
            let request = Request::post(url).body(BufferedBody::from("paid"));
            let call = tokio::spawn(client.oneshot(request.unwrap()));
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(server.clone());
            let serving = tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                connection.await.map_err(|error| error.to_string())
            });
            let response = call.await.unwrap().unwrap();
            assert_eq!(response.status(), 200, "HTTP/2: {http2}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "paid");
            serving.abort();
        }
    }
}
