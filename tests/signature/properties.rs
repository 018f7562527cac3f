//! For every scheme: what is signed is verified, what is changed is refused, and nothing panics.

use crate::support::{NOW, covering_schemes, credential_schemes, head_is_refused, verify};
use http::{HeaderMap, HeaderValue, Request};
use proptest::prelude::*;
use tower_webhook::{
    body::BufferedBody,
    signature::{MessageId, Outgoing, SignatureError},
};

fn header_value() -> impl Strategy<Value = HeaderValue> {
    let bytes = prop_oneof![
        // Anything, and what looks like it.
        proptest::collection::vec(any::<u8>(), 0..200),
        "(t=[0-9]{0,12},?)?(v1=|v1,|v1a,|v0=|sha256=|Basic |Bearer )?[0-9a-f+/=, ]{0,90}"
            .prop_map(String::into_bytes),
        "1700000000,[A-Za-z0-9+/]{43}=".prop_map(String::into_bytes),
    ];
    bytes.prop_filter_map("not a header value", |bytes| {
        HeaderValue::from_bytes(&bytes).ok()
    })
}

proptest! {
    #[test]
    fn what_is_signed_is_verified_and_any_flipped_bit_is_refused(
        body in proptest::collection::vec(any::<u8>(), 1..300),
        id in "[!-\\-/-~&&[^|]]{1,60}",
        at: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let id = MessageId::new(&id).unwrap();
        // `Cognigy` refuses a body that could be a time and another body.
        let digits = body.iter().take_while(|byte| byte.is_ascii_digit()).count();
        prop_assume!(digits == 0 || body.get(digits) != Some(&b'.'));
        for scheme in covering_schemes() {
            let mut headers = HeaderMap::new();
            scheme
                .sign(&Outgoing::new(&body, NOW).with_id(&id), &mut headers)
                .unwrap();
            let mut request = Request::new(BufferedBody::from(body.clone()));
            *request.headers_mut() = headers;
            let verified = verify(&scheme, &request).unwrap();
            prop_assert!(verified.id().is_none_or(|found| found == id.as_str()));

            // In the body.
            let mut changed = body.clone();
            changed[at.index(body.len())] ^= 1 << bit;
            let mut other = request.clone();
            *other.body_mut() = BufferedBody::from(changed);
            prop_assert!(verify(&scheme, &other).is_err());

            // In each header: id, timestamp, signature.
            for (name, value) in request.headers() {
                let mut text = value.as_bytes().to_vec();
                let place = at.index(text.len());
                text[place] ^= 1 << bit;
                let Ok(value) = HeaderValue::from_bytes(&text) else { continue };
                // A timestamp outside the MAC is what it says: outside the MAC.
                let unsigned = verified.claimed_timestamp().is_some() && place < 10;
                let mut other = request.clone();
                other.headers_mut().insert(name, value);
                let result = verify(&scheme, &other);
                prop_assert!(
                    result.is_err() || unsigned,
                    "{}: {name}: {}", scheme.name(), String::from_utf8_lossy(&text)
                );
            }
        }
    }

    #[test]
    fn no_header_panics(
        values in proptest::collection::vec(header_value(), 4),
        present in proptest::collection::vec(any::<bool>(), 4),
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        for scheme in covering_schemes().into_iter().chain(credential_schemes()) {
            let id = MessageId::new("a").unwrap();
            let mut headers = HeaderMap::new();
            scheme.sign(&Outgoing::new(&body, NOW).with_id(&id), &mut headers).unwrap();
            let names = headers.keys().cloned().collect::<Vec<_>>();
            for (name, (value, present)) in names.iter().zip(values.iter().zip(&present)) {
                if *present {
                    headers.insert(name, value.clone());
                }
            }
            let mut request = Request::new(BufferedBody::from(body.clone()));
            let touched = present.iter().take(names.len()).any(|present| *present);
            *request.headers_mut() = headers;
            let result = verify(&scheme, &request);
            prop_assert!(result.is_err() || !touched || result.is_ok_and(|found| found.id().is_some()));
        }
    }

    /// Neither more nor less than `verify` refuses for what is not about the body. That it is for the same
    /// reason, `verify` of the support checks for every request of these tests.
    #[test]
    fn the_head_alone_is_refused_for_what_is_wrong_with_it(
        values in proptest::collection::vec(header_value(), 4),
        change in proptest::collection::vec(0..5_u8, 4),
        late in 0..700_u64,
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let covering = covering_schemes().into_iter().map(|scheme| (scheme, true));
        let sending = credential_schemes().into_iter().map(|scheme| (scheme, false));
        for (scheme, covers_the_body) in covering.chain(sending) {
            let id = MessageId::new("a").unwrap();
            let mut headers = HeaderMap::new();
            let message = Outgoing::new(&body, NOW - 350 + late).with_id(&id);
            scheme.sign(&message, &mut headers).unwrap();
            let names = headers.keys().cloned().collect::<Vec<_>>();
            for (name, (value, change)) in names.iter().zip(values.iter().zip(&change)) {
                match change {
                    0 => drop(headers.remove(name)),
                    1 => drop(headers.insert(name, value.clone())),
                    2 => drop(headers.append(name, value.clone())),
                    _ => {}
                }
            }
            let mut request = Request::new(BufferedBody::from(body.clone()));
            *request.headers_mut() = headers;
            let expected = match verify(&scheme, &request) {
                Ok(_) => false,
                Err(SignatureError::Mismatch) => !covers_the_body,
                Err(_) => true,
            };
            prop_assert_eq!(head_is_refused(&scheme, &request), expected, "{}", scheme.name());
        }
    }
}
