//! Signing keys that are replaced while requests are served.

use crate::support::{NOW, at, refused, signed, verify};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tower::Layer;
use tower_webhook::{
    SignatureVerifyLayer,
    observe::{Event, observer_fn},
    signature::{
        Secret, SignatureError,
        scheme::{GitHub, SharedToken, StandardWebhooks, Stripe},
    },
};

fn labels(keys: &tower_webhook::signature::SigningKeys) -> Vec<(String, u64)> {
    let usage = keys.usage().into_iter();
    usage
        .map(|(label, matched)| (label.to_string(), matched))
        .collect()
}

#[test]
fn keys_are_replaced_for_all_clones_and_counted() {
    let scheme = GitHub::new(Secret::new("old").label("old")).unwrap();
    let keys = scheme.signing_keys();
    let clone = scheme.clone();
    let (old, new) = (
        signed(&GitHub::new("old").unwrap(), "body"),
        signed(&GitHub::new("new").unwrap(), "body"),
    );
    verify(&clone, &old).unwrap();
    assert_eq!(refused(&clone, &new), "mismatch");

    keys.replace([
        Secret::new("new").label("new"),
        Secret::new("old").label("old"),
    ])
    .unwrap();
    assert_eq!(verify(&clone, &new).unwrap().secret_label(), Some("new"));
    assert_eq!(verify(&clone, &old).unwrap().secret_label(), Some("old"));
    verify(&scheme, &new).unwrap();
    assert_eq!(
        labels(&keys),
        [("new".to_owned(), 2), ("old".to_owned(), 1)]
    );

    keys.replace("new").unwrap();
    assert_eq!(refused(&clone, &old), "mismatch");
    assert_eq!(verify(&clone, &new).unwrap().secret_label(), Some("key-1"));
}

#[test]
fn observers_are_told_of_keys_that_were_replaced_and_of_no_others() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let scheme = GitHub::new("old").unwrap();
    let keys = scheme.signing_keys().observe(observer_fn(move |event| {
        if let Event::KeysRotated { keys } = event {
            seen.lock().unwrap().push(*keys);
        }
    }));
    keys.replace([Secret::new("new"), Secret::new("old")])
        .unwrap();
    keys.replace("").unwrap_err();
    keys.clone().replace("new").unwrap();
    assert_eq!(*told.lock().unwrap(), [2, 1]);
}

#[test]
fn what_cannot_be_is_refused_and_the_keys_stay() {
    let scheme = StandardWebhooks::new(crate::support::WHSEC).unwrap();
    let message = signed(&scheme, "body");
    for bad in ["", "whsec_", "whsec_???"] {
        let error = scheme.signing_keys().replace(bad).unwrap_err();
        assert_eq!(error.setting(), "secrets");
        assert!(!error.to_string().contains("???"));
    }
    scheme
        .signing_keys()
        .replace(Vec::<Secret>::new())
        .unwrap_err();
    verify(&scheme, &message).unwrap();
}

/// The key rule of the scheme holds for what comes later too.
#[test]
fn the_key_rule_stays() {
    let scheme = StandardWebhooks::new("whsec_YQ==").unwrap();
    scheme
        .signing_keys()
        .replace(crate::support::WHSEC)
        .unwrap();
    let other = StandardWebhooks::new(crate::support::WHSEC).unwrap();
    verify(&scheme, &signed(&other, "body")).unwrap();
    let token = SharedToken::gitlab("old").unwrap();
    token.signing_keys().replace("new").unwrap();
    verify(&token, &signed(&SharedToken::gitlab("new").unwrap(), "")).unwrap();
    assert_eq!(
        refused(&token, &signed(&SharedToken::gitlab("old").unwrap(), "")),
        "mismatch"
    );
}

/// Two threads verify while a third turns the keys: what both key lists hold always passes, what
/// neither holds never does.
#[test]
fn keys_turn_under_load() {
    let scheme = Stripe::new(["a".into(), Secret::new("b")]).unwrap();
    let always = signed(&Stripe::new("b").unwrap(), "body");
    let never = signed(&Stripe::new("d").unwrap(), "body");
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    verify(&scheme, &always).unwrap();
                    assert_eq!(
                        verify(&scheme, &never).unwrap_err(),
                        SignatureError::Mismatch
                    );
                }
            });
        }
        let keys = scheme.signing_keys();
        for turn in 0..500 {
            let (first, second) = if turn % 2 == 0 {
                ("b", "c")
            } else {
                ("a", "b")
            };
            keys.replace([Secret::new(first), Secret::new(second)])
                .unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[tokio::test]
async fn a_layer_that_was_built_sees_new_keys() {
    use tower::ServiceExt as _;
    let scheme = GitHub::new("old").unwrap();
    let keys = scheme.signing_keys();
    let service = SignatureVerifyLayer::new(scheme)
        .clock(at(NOW))
        .layer(tower::service_fn(
            |request: http::Request<tower_webhook::body::BufferedBody>| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
            },
        ));
    let new = signed(&GitHub::new("new").unwrap(), "body");
    assert_eq!(
        service.clone().oneshot(new.clone()).await.unwrap().status(),
        401
    );
    keys.replace("new").unwrap();
    assert_eq!(service.oneshot(new).await.unwrap().status(), 200);
}
