//! Hints as they come over the wire, through the classifiers: good, bad and hostile ones.

use super::*;
use http::HeaderValue;
use std::sync::atomic::{AtomicUsize, Ordering};
use tower_webhook::outcome::GrpcClassifier;

type Header = (&'static str, &'static [u8]);

/// How long a delivery waits for its second attempt, and how many attempts there are, where every
/// answer has these headers.
async fn wait_after(status: u16, headers: &[Header]) -> (Duration, usize) {
    let (calls, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let start = Instant::now();
    let mut answer = Response::builder().status(status).body(()).unwrap();
    for &(name, value) in headers {
        answer
            .headers_mut()
            .append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let service = tower::service_fn({
        let (calls, second) = (Arc::clone(&calls), Arc::clone(&second));
        move |_: Request<()>| {
            if calls.fetch_add(1, Ordering::Relaxed) == 1 {
                *second.lock().unwrap() = Some(start.elapsed());
            }
            let answer = answer.clone();
            async { Ok::<_, BoxError>(answer) }
        }
    });
    let mut req = post();
    req.headers_mut()
        .insert("idempotency-key", HeaderValue::from_static("k-1"));
    if status == 200 {
        let layer = layer(plain()).classifier(GrpcClassifier::new());
        layer.layer(service).oneshot(req).await.unwrap();
    } else {
        layer(plain()).layer(service).oneshot(req).await.unwrap();
    }
    let second = second.lock().unwrap().unwrap_or_default();
    (second, calls.load(Ordering::Relaxed))
}

/// RFC 9110 §10.2.3, both forms; the date is measured from the answer's own `Date`.
#[tokio::test(start_paused = true)]
async fn both_forms_of_retry_after_are_waited_for() {
    let table: [(&[Header], u64); 4] = [
        (&[("retry-after", b"120")], 120),
        (
            &[
                ("retry-after", b"Fri, 31 Dec 1999 23:59:59 GMT"),
                ("date", b"Fri, 31 Dec 1999 23:57:59 GMT"),
            ],
            120,
        ),
        // Past, which is no wait beyond our own.
        (
            &[
                ("retry-after", b"Fri, 31 Dec 1999 23:57:59 GMT"),
                ("date", b"Fri, 31 Dec 1999 23:59:59 GMT"),
            ],
            1,
        ),
        (&[("retry-after", b"0")], 1),
    ];
    for (headers, expected) in table {
        assert_eq!(
            wait_after(503, headers).await,
            (secs(expected), 3),
            "{headers:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_hint_changes_nothing() {
    const DIGITS: &[u8] = &[b'9'; 4 << 10];
    let table: [&[Header]; 6] = [
        &[],
        &[("retry-after", b"-1")],
        &[("retry-after", b"1e9")],
        &[("retry-after", b"32 Dec")],
        &[("retry-after", b"")],
        &[("retry-after", b"\xff\xfe")],
    ];
    for headers in table {
        assert_eq!(wait_after(503, headers).await, (secs(1), 3), "{headers:?}");
    }
    // Too long to count is too long to wait, if it is read as a number at all.
    let (wait, calls) = wait_after(503, &[("retry-after", DIGITS)]).await;
    assert!(wait <= secs(330) && calls <= 3, "{wait:?} {calls}");
    let (wait, calls) = wait_after(503, &[("retry-after", b"5"), ("retry-after", b"7")]).await;
    assert!(wait <= secs(7) && calls == 3, "{wait:?} {calls}");
}

/// gRFC A6: the server's pushback is waited for; a negative or unreadable one says "do not".
#[tokio::test(start_paused = true)]
async fn grpc_pushback_is_obeyed() {
    let table: [(&'static [u8], (Duration, usize)); 4] = [
        (b"7000", (secs(7), 3)),
        (b"1", (secs(1), 3)),
        (b"-1", (Duration::ZERO, 1)),
        (b"soon", (Duration::ZERO, 1)),
    ];
    for (pushback, expected) in table {
        let headers: [Header; 3] = [
            ("content-type", b"application/grpc"),
            ("grpc-status", b"14"),
            ("grpc-retry-pushback-ms", pushback),
        ];
        assert_eq!(wait_after(200, &headers).await, expected, "{pushback:?}");
    }
}
