//! One entry.

use crate::support::{Answer, LEASE, Peer, builder, entry, filled, id, left, redrive, replays};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, DeadLetterLayer,
    attempt::{AttemptRecord, Failed, GaveUp, History},
    body::BufferedBody,
    clock::WallClock,
    dead_letter::{
        DeadLetters, Entry, EntryBody, Filter, LetterStore, Reason, Redaction,
        redrive::{NotSendable, Redrive, RedriveBuilder, Redriven},
    },
    observe::{Event, observer_fn},
    outcome::{Outcome, OutcomeKind, classify_fn},
};

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_accepted_is_removed_and_only_then() {
    let store = filled([entry(1)]).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(Duration::from_secs(5), 202));
    let one = tokio::spawn(redrive(&store, client).one(id(1), "anna"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((peer.times(1), left(&*store).await), (1, 1));
    assert_eq!(one.await.unwrap().unwrap(), Redriven::Accepted);
    assert_eq!(left(&*store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_fails_again_stays_with_its_newest_cause() {
    let mut before = entry(1);
    let took = Duration::from_secs(1);
    before.first_attempt_at = Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let first = AttemptRecord::new(1, Duration::ZERO, took, Outcome::transient());
    before.history.push(first);
    let store = filled([before]).await;
    let now = UNIX_EPOCH + Duration::from_secs(1_700_003_600);
    let redrive = builder(&store)
        .clock(WallClock::fixed(now))
        .build(Peer::default().behaving(|_, _| Answer::After(Duration::from_secs(2), 410)))
        .unwrap();
    let outcome = Outcome::permanent().with_code(410);
    match redrive.one(id(1), "anna").await.unwrap() {
        Redriven::Failed {
            outcome: how,
            recorded,
        } => assert!((how.kind(), how.code(), recorded) == (outcome.kind(), Some(410), true)),
        other => panic!("{other:?}"),
    }
    let after = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!(after.cause.reason, Reason::Rejected);
    assert_eq!(after.cause.code, Some(410));
    assert_eq!(after.cause.class.as_deref(), Some("permanent"));
    assert_eq!((after.replays, after.last_attempt_at), (1, Some(now)));
    assert_eq!(after.history.attempts(), 2);
    let last = after.history.last().unwrap();
    assert_eq!(
        (last.number(), last.started()),
        (2, Duration::from_secs(3600))
    );
    assert_eq!(last.took(), Duration::from_secs(2));
    assert_eq!(after.written_at, entry(1).written_at);
}

#[tokio::test(start_paused = true)]
async fn what_a_retry_layer_tells_is_kept_whole() {
    let store = filled([entry(1)]).await;
    let client = service_fn(
        |_: http::Request<tower_webhook::body::BufferedBody>| async {
            let mut history = History::new();
            for number in 1..=3 {
                let started = Duration::from_secs(number.into());
                let outcome = Outcome::transient().with_code(500);
                history.push(AttemptRecord::new(number, started, started, outcome));
            }
            let history = history.with_gave_up(GaveUp::RetriesExhausted);
            let error = std::io::Error::other("the connection was reset");
            Err::<http::Response<()>, BoxError>(Failed::new(error, history).into())
        },
    );
    let redrive = builder(&store).build(client).unwrap();
    let redriven = redrive.one(id(1), "anna").await.unwrap();
    assert!(matches!(redriven, Redriven::Failed { .. }), "{redriven:?}");
    let after = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!(after.cause.reason, Reason::RetriesExhausted);
    assert_eq!(
        after.cause.message.as_deref(),
        Some("the connection was reset")
    );
    assert_eq!(after.history.attempts(), 3);
    assert_eq!(after.history.gave_up(), Some(GaveUp::RetriesExhausted));
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_sent_again_as_often_as_may_be_and_no_more() {
    let store = filled([entry(1)]).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::Status(500));
    let redrive = builder(&store).max_replays(3).build(client).unwrap();
    for time in 1..=3 {
        let failed = redrive.one(id(1), "anna").await.unwrap();
        assert!(matches!(failed, Redriven::Failed { .. }), "{failed:?}");
        assert_eq!(replays(&*store, 1).await, time);
    }
    let spent = redrive.one(id(1), "anna").await.unwrap();
    assert_eq!(spent, Redriven::Spent { replays: 3 });
    assert_eq!((peer.times(1), left(&*store).await), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cut_body_is_not_sent_and_costs_no_replay() {
    let mut cut = entry(1);
    cut.body = EntryBody::new(&Bytes::from_static(b"12345"), 2);
    let store = filled([cut.clone()]).await;
    let peer = Peer::default();
    let redrive = redrive(&store, peer.behaving(|_, _| Answer::Status(200)));
    let redriven = redrive.one(id(1), "anna").await.unwrap();
    let why = NotSendable::BodyTruncated { kept: 2, length: 5 };
    assert_eq!(redriven, Redriven::Unsendable(why));
    assert!(peer.seen().is_empty());
    assert_eq!(store.get(id(1)).await.unwrap(), Some(cut));
    let missing = redrive.one(id(7), "anna").await.unwrap();
    assert_eq!(missing, Redriven::Missing);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_renewed_for_as_long_as_the_entry_is_sent() {
    let store = filled([entry(1)]).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(LEASE * 20, 200));
    let redrive = redrive(&store, client);
    let one = tokio::spawn(redrive.one(id(1), "anna"));
    for _ in 0..39 {
        tokio::time::sleep(LEASE / 2).await;
        let other = redrive.one(id(1), "bert").await.unwrap();
        assert!(matches!(other, Redriven::InProgress { .. }), "{other:?}");
    }
    assert_eq!(one.await.unwrap().unwrap(), Redriven::Accepted);
    assert_eq!(peer.times(1), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_fails_the_entry_and_nothing_else() {
    let store = filled([entry(1)]).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, time| match time {
        1 => Answer::Panic,
        _ => Answer::Status(200),
    });
    let redrive = redrive(&store, client);
    let failed = redrive.one(id(1), "anna").await.unwrap();
    assert!(matches!(failed, Redriven::Failed { .. }), "{failed:?}");
    let after = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!(after.cause.reason, Reason::Panicked);
    assert_eq!((after.replays, after.history.attempts()), (1, 1));
    let again = redrive.one(id(1), "anna").await.unwrap();
    assert_eq!(again, Redriven::Accepted);
}

#[tokio::test(start_paused = true)]
async fn entries_of_any_kind_go_to_services_of_any_kind() {
    let store = filled([entry(41), entry(42)]).await;
    let judge = classify_fn(|result: Result<&u64, &BoxError>| match result {
        Ok(42) => Outcome::success(),
        _ => Outcome::permanent(),
    });
    let redrive = Redrive::builder(store.clone())
        .classifier(judge)
        .to_request(|entry| {
            let text = std::str::from_utf8(entry.body.bytes());
            let text = text.map_err(|_| NotSendable::because("its body is no number"))?;
            Ok(text.parse::<u64>().unwrap_or(0))
        })
        .build(service_fn(|number: u64| async move {
            Ok::<_, BoxError>(number)
        }))
        .unwrap();
    let failed = redrive.one(id(41), "anna").await.unwrap();
    match failed {
        Redriven::Failed { outcome, .. } => assert_eq!(outcome.kind(), OutcomeKind::Permanent),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        redrive.one(id(42), "anna").await.unwrap(),
        Redriven::Accepted
    );
}

#[tokio::test(start_paused = true)]
async fn each_is_accounted_for_and_observers_that_panic_change_nothing() {
    let store = filled([entry(1), entry(2)]).await;
    let audits = Arc::new(Mutex::new(Vec::new()));
    let heard = audits.clone();
    let redrive = builder(&store)
        .observe(observer_fn(move |event| match event {
            Event::Redriven {
                entry, by, result, ..
            } => {
                let audit = (entry.to_string(), (*by).to_owned(), *result);
                heard.lock().unwrap().push(audit);
            }
            other => panic!("{other:?}"),
        }))
        .build(Peer::default().behaving(|_, _| Answer::Status(200)))
        .unwrap();
    let long = "anna".repeat(1_000);
    redrive.one(id(1), &long).await.unwrap();
    redrive.one(id(1), "bert").await.unwrap();
    let audit = |by: &str, result| (id(1).to_string(), by.to_owned(), result);
    let expected = [audit(&long[..256], "accepted"), audit("bert", "missing")];
    assert_eq!(*audits.lock().unwrap(), expected);

    let redrive = builder(&store)
        .observe(observer_fn(|_| panic!("on purpose")))
        .build(Peer::default().behaving(|_, _| Answer::Status(200)))
        .unwrap();
    let report = redrive
        .many(tower_webhook::dead_letter::Filter::all(), "anna")
        .await;
    assert_eq!(report.unwrap().accepted, 1);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_named() {
    let store = filled([]).await;
    let named = |change: fn(RedriveBuilder) -> RedriveBuilder| {
        let built = change(Redrive::builder(store.clone())).build(());
        built.unwrap_err().setting()
    };
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9, 1e-9] {
        let built = Redrive::builder(store.clone()).rate(rate).build(());
        assert_eq!(built.unwrap_err().setting(), "rate", "{rate}");
    }
    assert_eq!(named(|builder| builder.lease(Duration::ZERO)), "lease");
    assert_eq!(named(|builder| builder.lease(Duration::MAX)), "lease");
    assert_eq!(named(|builder| builder.max_replays(0)), "max_replays");
    assert_eq!(named(|builder| builder.concurrency(0)), "concurrency");
    assert_eq!(
        named(|builder| builder.concurrency(usize::MAX)),
        "concurrency"
    );
    assert_eq!(
        named(|builder| builder.max_refusal_wait(Duration::MAX)),
        "max_refusal_wait"
    );
}

/// The credential that was put back for sending, as clients quote it in their errors.
#[tokio::test(start_paused = true)]
async fn what_a_failure_says_is_redacted_and_the_rest_stays_as_it_was_written() {
    let mut kept = entry(1);
    kept.headers = vec![("x-api-key".to_owned(), "allowed".into())];
    let store = filled([kept.clone()]).await;
    let client = || {
        service_fn(|req: Request<BufferedBody>| async move {
            let said = format!("error sending request for url ({})", req.uri());
            Err::<Response<BufferedBody>, BoxError>(said.into())
        })
    };
    let with_token = |_: &Entry| {
        let request = Request::post("https://a.test/hooks/SECRET-2?token=SECRET");
        Ok(request.body(BufferedBody::default()).unwrap())
    };
    let redrive = || Redrive::builder(store.clone()).to_request(with_token);
    let by_default = redrive().build(client()).unwrap();
    by_default.one(id(1), "anna").await.unwrap();
    let left = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!(
        left.cause.message.as_deref(),
        Some("error sending request for url (https://a.test)")
    );
    assert_eq!(left.headers, kept.headers);

    let own = Redaction::new().with(|entry| entry.cause.message = None);
    let by_own = redrive().redaction(own).build(client()).unwrap();
    by_own.one(id(1), "anna").await.unwrap();
    let left = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!((left.cause.message, left.replays), (None, 2));

    let broken = Redaction::new().with(|_| panic!("on purpose"));
    let broken = redrive().redaction(broken).build(client()).unwrap();
    broken.one(id(1), "anna").await.unwrap();
    let left = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!((left.cause.message, left.uri), (None, kept.uri));
}

/// A peer that is away when the requests are sent, and back when their entries are.
#[tokio::test(start_paused = true)]
async fn a_request_that_its_entry_does_not_hold_whole_is_not_sent_again() {
    let store = filled([]).await;
    let code = Arc::new(AtomicU16::new(503));
    let calls = Arc::new(AtomicU32::new(0));
    let (answer, counted) = (code.clone(), calls.clone());
    let peer = service_fn(move |_: Request<BufferedBody>| {
        counted.fetch_add(1, Ordering::SeqCst);
        let response = Response::builder().status(answer.load(Ordering::SeqCst));
        async move { Ok::<_, BoxError>(response.body(BufferedBody::default())?) }
    });
    let entries = DeadLetters::new((*store).clone());
    let service = DeadLetterLayer::new(entries).layer(peer.clone());
    let long = format!("https://a.test/?cursor={}&account=7", "a".repeat(20_000));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("1"));
    let mut many = Request::post("https://a.test/");
    for number in 0..200 {
        many = many.header(format!("x-{number}"), "v");
    }
    let plain = || BufferedBody::from("{}");
    for request in [
        Request::post(long).body(plain()),
        many.body(plain()),
        Request::post("https://a.test/").body(plain().with_trailers(trailers)),
        Request::post("https://user:pw@a.test/").body(plain()),
    ] {
        service.clone().oneshot(request.unwrap()).await.unwrap();
    }
    code.store(200, Ordering::SeqCst);
    let redrive = Redrive::builder(store.clone()).build(peer).unwrap();
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.unsendable, report.accepted), (4, 0));
    assert_eq!((left(&*store).await, calls.load(Ordering::SeqCst)), (4, 4));
}
