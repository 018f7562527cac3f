//! What `FailoverLayer` promises, with targets that do as a test says.

#![cfg(feature = "failover")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value
)]

use http::{HeaderName, HeaderValue, Request, Response, header};
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    future::{Future, pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;
use tower_webhook::{
    BoxError, DeadlineLayer, FailoverLayer,
    deadline::{Deadline, DeadlineExceeded},
    failover::{EachOf, FailoverLayerBuilder, TargetIndex},
    observe::{Event, Observers, observer_fn},
    outcome::{
        ClassifyFn, HttpClassifier, LocallyRefused, Outcome, OutcomeKind, Unreached, Unsendable,
        classify_fn,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// What a target does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Answers(u16),
    Refuses(u64),
    Unreached,
    Resets,
    Unsendable,
    Hangs,
}
use Does::{Answers, Hangs, Refuses, Resets};

impl Does {
    async fn it(self) -> Result<Response<()>, BoxError> {
        match self {
            Answers(status) => Ok(Response::builder().status(status).body(())?),
            Refuses(seconds) => Err(LocallyRefused::after(SECOND * u32::try_from(seconds)?).into()),
            Does::Unreached => Err(Unreached::new().into()),
            Resets => Err("reset".into()),
            Does::Unsendable => Err(Unsendable::new().into()),
            Hangs => pending().await,
        }
    }
}

/// Three targets, `https://0.test/` to `https://2.test/`, and who was asked.
#[derive(Clone, Default)]
struct Peers {
    does: Arc<Mutex<[Option<Does>; 3]>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Peers {
    fn new(does: [Does; 3]) -> Self {
        let peers = Self::default();
        peers.now(does);
        peers
    }

    fn now(&self, does: [Does; 3]) {
        *self.does.lock().unwrap() = does.map(Some);
    }

    /// The first characters of the hosts that were asked since the last look.
    fn asked(&self) -> String {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked
            .iter()
            .map(|uri| &uri["https://".len()..][..1])
            .collect()
    }

    fn service(
        &self,
    ) -> impl Service<
        Request<()>,
        Response = Response<()>,
        Error = BoxError,
        Future: Future<Output = Result<Response<()>, BoxError>> + Send,
    > + Clone
    + use<> {
        let peers = self.clone();
        service_fn(move |req: Request<()>| {
            peers.asked.lock().unwrap().push(req.uri().to_string());
            let index: usize = req.uri().host().unwrap()[..1].parse().unwrap();
            let does = peers.does.lock().unwrap()[index].unwrap();
            async move {
                // Not ready at once, as no peer is.
                tokio::task::yield_now().await;
                does.it().await
            }
        })
    }
}

const HOSTS: [&str; 3] = ["https://0.test/", "https://1.test/", "https://2.test/"];

fn three() -> FailoverLayer {
    FailoverLayer::to_uris(HOSTS).build().unwrap()
}

fn get() -> Request<()> {
    Request::get("https://own.test/own").body(()).unwrap()
}

fn post() -> Request<()> {
    Request::post("https://own.test/own").body(()).unwrap()
}

async fn send(peers: &Peers, req: Request<()>) -> Result<Response<()>, BoxError> {
    three().layer(peers.service()).oneshot(req).await
}

fn kind(result: &Result<Response<()>, BoxError>) -> OutcomeKind {
    use tower_webhook::outcome::{Classify, MakeClassifier};
    let classify = HttpClassifier::new().make_classifier(&get());
    classify.classify(result.as_ref()).kind()
}

fn index(res: &Response<()>) -> Option<usize> {
    res.extensions()
        .get::<TargetIndex>()
        .map(|index| index.get())
}

// When it moves on

#[tokio::test]
async fn each_kind_of_outcome_moves_on_or_ends_the_call() {
    for (does, repeatable, once) in [
        (Answers(200), false, false),
        (Answers(204), false, false),
        (Answers(301), false, false),
        (Answers(400), false, false),
        (Answers(401), false, false),
        (Answers(409), false, false),
        (Answers(501), false, false),
        (Does::Unsendable, false, false),
        (Answers(408), true, false),
        (Answers(429), true, false),
        (Answers(500), true, false),
        (Answers(503), true, false),
        (Resets, true, false),
        (Does::Unreached, true, true),
        (Refuses(1), true, true),
    ] {
        for (req, moves) in [(get(), repeatable), (post(), once)] {
            let peers = Peers::new([does, Answers(200), Answers(200)]);
            let result = send(&peers, req).await;
            let expected = if moves { "01" } else { "0" };
            assert_eq!(peers.asked(), expected, "{does:?} {moves}");
            if moves {
                assert_eq!(index(&result.unwrap()), Some(1));
            } else if let Ok(res) = result {
                assert_eq!(index(&res), None);
            }
        }
    }
}

#[tokio::test]
async fn an_idempotency_key_lets_a_post_move_on() {
    let peers = Peers::new([Answers(500), Resets, Answers(201)]);
    let mut req = post();
    req.headers_mut()
        .insert("idempotency-key", HeaderValue::from_static("k"));
    let res = send(&peers, req).await.unwrap();
    assert_eq!(
        (peers.asked().as_str(), res.status().as_u16(), index(&res)),
        ("012", 201, Some(2))
    );
}

#[tokio::test]
async fn a_permanent_answer_of_a_later_target_ends_the_call() {
    let peers = Peers::new([Refuses(1), Answers(400), Answers(200)]);
    let res = send(&peers, get()).await.unwrap();
    assert_eq!(
        (peers.asked().as_str(), res.status().as_u16(), index(&res)),
        ("01", 400, Some(1))
    );
}

#[tokio::test]
async fn a_failure_that_must_not_be_repeated_ends_the_call_at_a_later_target_too() {
    let peers = Peers::new([Refuses(1), Answers(500), Answers(200)]);
    let res = send(&peers, post()).await.unwrap();
    assert_eq!((peers.asked().as_str(), res.status().as_u16()), ("01", 500));
}

// What comes back

#[tokio::test]
async fn when_all_fail_the_result_that_says_most_comes_back() {
    use Does::Unreached;
    for (does, expected, from) in [
        ([Answers(500), Answers(502), Answers(503)], "503", Some(2)),
        ([Answers(503), Refuses(1), Unreached], "503", None),
        ([Refuses(1), Answers(503), Unreached], "503", Some(1)),
        ([Resets, Unreached, Refuses(1)], "reset", None),
        ([Answers(500), Resets, Refuses(1)], "reset", None),
        (
            [Unreached, Refuses(1), Refuses(2)],
            "the peer was not reached",
            None,
        ),
        (
            [Refuses(9), Refuses(2), Refuses(5)],
            "refused on this side; try again in 2s",
            None,
        ),
    ] {
        let peers = Peers::new(does);
        let result = send(&peers, get()).await;
        assert_eq!(peers.asked(), "012");
        let said = match &result {
            Ok(res) => res.status().as_str().to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, expected, "{does:?}");
        assert_eq!(result.ok().and_then(|res| index(&res)), from);
    }
}

#[tokio::test]
async fn all_refused_is_a_refusal_until_the_first_is_over() {
    let result = send(&Peers::new([Refuses(15), Refuses(3), Refuses(60)]), post()).await;
    assert_eq!(kind(&result), OutcomeKind::Refused);
    let outcome = Outcome::of_error(&*result.unwrap_err());
    assert_eq!(outcome.retry_after(), Some(SECOND * 3));
}

/// What the module docs say, written down once more: who is asked, and whose result comes back.
fn model(does: [Does; 3], start: usize, repeatable: bool) -> (String, usize) {
    let order = [start, 0, 1, 2].into_iter().enumerate();
    let order = order.filter(|(at, index)| *at == 0 || *index != start);
    let (mut asked, mut best) = (String::new(), None::<(u8, u64, usize)>);
    for (_, index) in order {
        asked += &index.to_string();
        let (rank, wait) = match does[index] {
            Refuses(seconds) => (0, seconds),
            Does::Unreached => (1, 0),
            Answers(429 | 500..) | Resets if repeatable => (2, 0),
            _ => return (asked, index),
        };
        if best.is_none_or(|(before, sooner, _)| {
            rank > before || rank == before && (rank > 0 || wait < sooner)
        }) {
            best = Some((rank, wait, index));
        }
    }
    (asked, best.unwrap().2)
}

proptest! {
    #[test]
    fn every_mixture_of_outcomes_ends_as_the_docs_say(
        picks in [0_usize..9, 0..9, 0..9],
        start in 0_usize..3,
        repeatable: bool,
    ) {
        let kinds = [
            Answers(200), Answers(404), Answers(429), Answers(502), Refuses(2), Refuses(7), Does::Unreached, Resets,
            Does::Unsendable,
        ];
        let does = picks.map(|pick| kinds[pick]);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        let (expected, from) = model(does, start, repeatable);
        runtime.block_on(async {
            let peers = Peers::default();
            let layer = sticky();
            if start > 0 {
                // Somebody has moved on to it before.
                let mut well = [Resets; 3];
                well[start] = Answers(200);
                peers.now(well);
                layer.layer(peers.service()).oneshot(get()).await.unwrap();
                peers.asked();
            }
            peers.now(does);
            let req = if repeatable { get() } else { post() };
            let result = layer.layer(peers.service()).oneshot(req).await;
            assert_eq!(peers.asked(), expected);
            match result {
                Ok(res) => {
                    assert_eq!(Answers(res.status().as_u16()), does[from]);
                    assert_eq!(index(&res).unwrap_or(0), from);
                }
                Err(error) => {
                    let expected = does[from].it().await.unwrap_err();
                    assert_eq!(error.to_string(), expected.to_string());
                }
            }
        });
    }
}

// The deadline

#[tokio::test(start_paused = true)]
async fn nothing_further_is_begun_when_no_time_is_left() {
    let peers = Peers::new([Answers(503), Answers(200), Answers(200)]);
    let mut service = three().layer(peers.service());
    let deadline = Deadline::at(Instant::now() + SECOND);
    let mut call = task::spawn(service.call(get()));
    deadline.scope(|| assert_pending!(call.poll()));
    advance(SECOND).await;
    let res = deadline.scope(|| assert_ready!(call.poll())).unwrap();
    assert_eq!((res.status().as_u16(), peers.asked().as_str()), (503, "0"));
}

#[tokio::test(start_paused = true)]
async fn nothing_further_is_begun_when_readiness_took_what_was_left() {
    let moves = Arc::new(AtomicUsize::new(0));
    let count = moves.clone();
    let layer = FailoverLayer::to_uris(HOSTS).observe(observer_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let layer = layer.build().unwrap();
    let (mut service, mut peer) = mock::spawn_layer::<Request<()>, Response<()>, _>(layer);
    let deadline = Deadline::at(Instant::now() + SECOND);
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(get()));
    deadline.scope(|| assert_pending!(call.poll()));
    let (_, responder) = peer.next_request().await.unwrap();
    responder.send_error("reset");
    deadline.scope(|| assert_pending!(call.poll()));
    advance(SECOND).await;
    peer.allow(1);
    let error = deadline.scope(|| assert_ready!(call.poll())).unwrap_err();
    assert_eq!(error.to_string(), "reset");
    assert_eq!(moves.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_leaves_the_rest_to_the_deadline() {
    let peers = Peers::new([Resets, Hangs, Answers(200)]);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(SECOND).unwrap())
        .layer(three())
        .service(peers.service());
    let error = service.oneshot(get()).await.unwrap_err();
    assert!(error.is::<DeadlineExceeded>());
    assert_eq!(peers.asked(), "01");
}

// Addresses

/// The URIs and `Host` headers that one request becomes.
async fn aimed(builder: FailoverLayerBuilder, uri: &str, host: Option<&str>) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let inner = service_fn(move |req: Request<()>| {
        let host = req
            .headers()
            .get(header::HOST)
            .map_or("", |host| host.to_str().unwrap());
        log.lock()
            .unwrap()
            .push(format!("{} {host}", req.uri()).trim_end().to_owned());
        ready(Err::<Response<()>, _>(BoxError::from(Unreached::new())))
    });
    let mut req = Request::get(uri);
    if let Some(host) = host {
        req = req.header(header::HOST, host);
    }
    let service = builder.build().unwrap().layer(inner);
    service.oneshot(req.body(()).unwrap()).await.unwrap_err();
    Arc::into_inner(seen).unwrap().into_inner().unwrap()
}

#[tokio::test]
async fn a_uri_replaces_scheme_authority_and_path_and_keeps_the_query_where_it_has_none() {
    let uris = [
        "https://a.test/hooks",
        "http://b.test:81/h?key=1",
        "https://c.test",
    ];
    let seen = aimed(
        FailoverLayer::to_uris(uris),
        "http://own.test/own?x=1",
        None,
    )
    .await;
    assert_eq!(
        seen,
        [
            "https://a.test/hooks?x=1",
            "http://b.test:81/h?key=1",
            "https://c.test/?x=1"
        ]
    );
    let seen = aimed(FailoverLayer::to_uris(uris), "/relative", None).await;
    assert_eq!(
        seen,
        [
            "https://a.test/hooks",
            "http://b.test:81/h?key=1",
            "https://c.test/"
        ]
    );
}

#[tokio::test]
async fn a_host_keeps_path_and_query() {
    let hosts = ["https://a.test", "http://b.test:81/"];
    let seen = aimed(
        FailoverLayer::to_hosts(hosts),
        "http://own.test/own?x=1",
        None,
    )
    .await;
    assert_eq!(seen, ["https://a.test/own?x=1", "http://b.test:81/own?x=1"]);
    let seen = aimed(FailoverLayer::to_hosts(hosts), "http://own.test", None).await;
    assert_eq!(seen, ["https://a.test/", "http://b.test:81/"]);
}

#[tokio::test]
async fn fallbacks_come_after_the_requests_own_address() {
    let seen = aimed(
        FailoverLayer::fallbacks(["https://b.test:8443/h"]),
        "https://own.test/own",
        Some("own.test"),
    )
    .await;
    assert_eq!(
        seen,
        [
            "https://own.test/own own.test",
            "https://b.test:8443/h b.test:8443"
        ]
    );
    let none: [&str; 0] = [];
    let seen = aimed(FailoverLayer::fallbacks(none), "https://own.test/own", None).await;
    assert_eq!(seen, ["https://own.test/own"]);
}

#[test]
fn a_list_that_makes_no_sense_is_refused_without_being_quoted() {
    let secret = "https://user:hunter2@a.test/";
    for (list, setting) in [
        (FailoverLayer::to_uris(Vec::<&str>::new()), "uris"),
        (FailoverLayer::to_uris(vec!["/relative"]), "uris"),
        (FailoverLayer::to_uris(vec!["a.test"]), "uris"),
        (FailoverLayer::to_uris(vec!["ftp://a.test/"]), "uris"),
        (
            FailoverLayer::to_uris(vec!["https://a.test/hunter2 /"]),
            "uris",
        ),
        (FailoverLayer::to_uris(vec![secret]), "uris"),
        (
            FailoverLayer::to_uris(vec!["https://a.test/h", "HTTPS://A.TEST:443/h"]),
            "uris",
        ),
        (
            FailoverLayer::to_hosts(vec!["https://a.test/hunter2"]),
            "hosts",
        ),
        (
            FailoverLayer::to_hosts(vec!["https://a.test/?hunter2"]),
            "hosts",
        ),
        (
            FailoverLayer::fallbacks(vec!["https://b.test", "https://b.test/"]),
            "fallbacks",
        ),
        (FailoverLayer::fallbacks(vec!["nonsense "]), "fallbacks"),
    ] {
        let error = list.build().unwrap_err();
        assert_eq!(error.setting(), setting);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let many = |count| (0..count).map(|n| format!("https://{n}.test/"));
    assert!(FailoverLayer::to_uris(many(255)).build().is_ok());
    assert_eq!(
        FailoverLayer::to_uris(many(256))
            .build()
            .unwrap_err()
            .setting(),
        "uris"
    );
    let zero = FailoverLayer::to_uris(HOSTS).sticky(Duration::ZERO).build();
    assert_eq!(zero.unwrap_err().setting(), "sticky");
    let shown = format!(
        "{:?}",
        FailoverLayer::to_uris(["https://a.test/hunter2"]).build()
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

// Sticky

fn sticky() -> FailoverLayer {
    FailoverLayer::to_uris(HOSTS)
        .sticky(SECOND * 10)
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_it_every_call_begins_at_the_first() {
    let peers = Peers::new([Resets, Answers(200), Answers(200)]);
    let service = three().layer(peers.service());
    for _ in 0..3 {
        service.clone().oneshot(get()).await.unwrap();
        assert_eq!(peers.asked(), "01");
    }
}

#[tokio::test(start_paused = true)]
async fn what_answered_last_is_tried_first_for_so_long_and_no_longer() {
    let peers = Peers::new([Resets, Answers(200), Answers(200)]);
    let layer = sticky();
    let service = layer.layer(peers.service());
    service.clone().oneshot(get()).await.unwrap();
    assert_eq!(peers.asked(), "01");
    for _ in 0..9 {
        advance(SECOND).await;
        // Clones and the layer's other services share it; answers do not prolong it.
        let res = layer
            .clone()
            .layer(peers.service())
            .oneshot(get())
            .await
            .unwrap();
        assert_eq!((peers.asked().as_str(), index(&res)), ("1", Some(1)));
    }
    advance(SECOND).await;
    service.clone().oneshot(get()).await.unwrap();
    assert_eq!(peers.asked(), "01");
    peers.now([Answers(200); 3]);
    advance(SECOND * 10).await;
    assert_eq!(index(&service.oneshot(get()).await.unwrap()), None);
    assert_eq!(peers.asked(), "0");
}

#[tokio::test(start_paused = true)]
async fn a_preferred_target_that_fails_gives_way_to_the_others_in_order() {
    let peers = Peers::new([Resets, Answers(200), Answers(200)]);
    let service = sticky().layer(peers.service());
    service.clone().oneshot(get()).await.unwrap();
    peers.now([Resets, Resets, Answers(200)]);
    service.clone().oneshot(get()).await.unwrap();
    service.clone().oneshot(get()).await.unwrap();
    assert_eq!(peers.asked(), "01".to_owned() + "102" + "2");
    peers.now([Answers(200), Resets, Resets]);
    service.clone().oneshot(get()).await.unwrap();
    service.clone().oneshot(get()).await.unwrap();
    assert_eq!(peers.asked(), "20".to_owned() + "0");
    peers.now([Resets; 3]);
    service.clone().oneshot(get()).await.unwrap_err();
    service.clone().oneshot(get()).await.unwrap_err();
    assert_eq!(
        peers.asked(),
        "012012",
        "nobody answered, so nobody is preferred"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_from_before_does_not_bring_the_others_back() {
    let peers = Peers::new([Hangs, Answers(200), Answers(200)]);
    let slow = service_fn(|_: Request<()>| async {
        sleep(SECOND).await;
        Ok::<_, BoxError>(Response::new(()))
    });
    let layer = sticky();
    let mut early = task::spawn(layer.layer(slow).oneshot(get()));
    assert_pending!(early.poll());
    peers.now([Resets, Answers(200), Answers(200)]);
    layer.layer(peers.service()).oneshot(get()).await.unwrap();
    advance(SECOND).await;
    assert_ready_ok!(early.poll());
    peers.asked();
    layer.layer(peers.service()).oneshot(get()).await.unwrap();
    assert_eq!(peers.asked(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_calls_at_once_always_find_a_target() {
    let layer = FailoverLayer::to_uris(HOSTS)
        .sticky(Duration::from_millis(1))
        .build()
        .unwrap();
    let turn = Arc::new(AtomicUsize::new(0));
    // Two of three always fail, and which ones changes under way.
    let inner = service_fn(move |req: Request<()>| {
        let well = turn.fetch_add(1, Ordering::Relaxed) / 97 % 3;
        let index: usize = req.uri().host().unwrap()[..1].parse().unwrap();
        async move {
            tokio::task::yield_now().await;
            let status = if index == well { 200 } else { 503 };
            Ok::<_, BoxError>(Response::builder().status(status).body(())?)
        }
    });
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let mut service = layer.layer(inner.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    let res = service.ready().await.unwrap().call(get()).await.unwrap();
                    assert!(index(&res).is_none_or(|index| index < 3));
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn a_stack_of_layers_that_judge_can_be_driven_by_a_task() {
    let peers = Peers::new([Resets, Answers(200), Answers(200)]);
    let mut service = ServiceBuilder::new()
        .layer(
            FailoverLayer::fallbacks(["https://own.test/again"])
                .build()
                .unwrap(),
        )
        .layer(three())
        .service(peers.service());
    let task = tokio::spawn(async move {
        let res = service.ready().await.unwrap().call(get()).await.unwrap();
        assert_eq!(index(&res), Some(1));
    });
    task.await.unwrap();
}

// Copies, readiness, hooks

/// A request that counts its copies.
#[derive(Debug)]
struct Counted {
    target: &'static str,
    copies: Arc<AtomicUsize>,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.copies.fetch_add(1, Ordering::SeqCst);
        Self {
            target: self.target,
            copies: self.copies.clone(),
        }
    }
}

type Judge = fn(Result<&&'static str, &BoxError>) -> Outcome;

fn judge(result: Result<&&'static str, &BoxError>) -> Outcome {
    match result {
        Ok(_) => Outcome::success(),
        Err(error) => Outcome::of_error(&**error),
    }
}

type Aim = fn(&mut Counted, &&'static str);

fn over<const N: usize>(
    targets: [&'static str; N],
) -> FailoverLayerBuilder<EachOf<&'static str, Aim>, ClassifyFn<Judge>> {
    let aim: Aim = |req, target| {
        assert_eq!(req.target, "none", "aimed at an untouched request");
        req.target = target;
    };
    FailoverLayer::over(targets, aim).classifier(classify_fn(judge as Judge))
}

#[tokio::test]
async fn there_is_one_copy_fewer_than_targets_that_are_tried() {
    for (failures, copies) in [(0, 1), (1, 2), (2, 2)] {
        let request = Counted {
            target: "none",
            copies: Arc::default(),
        };
        let count = request.copies.clone();
        let seen = Arc::new(Mutex::new(VecDeque::new()));
        let log = seen.clone();
        let inner = service_fn(move |req: Counted| {
            let mut seen = log.lock().unwrap();
            seen.push_back(req.target);
            ready(if seen.len() > failures {
                Ok(req.target)
            } else {
                Err(BoxError::from("no"))
            })
        });
        let layer = over(["a", "b", "c"]).build().unwrap();
        layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), copies);
        let expected = &["a", "b", "c"][..=failures];
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn one_target_copies_nothing() {
    let request = Counted {
        target: "none",
        copies: Arc::default(),
    };
    let count = request.copies.clone();
    let inner = service_fn(|req: Counted| ready(Ok::<_, BoxError>(req.target)));
    let layer = over(["a"]).build().unwrap();
    assert_eq!(layer.layer(inner).oneshot(request).await.unwrap(), "a");
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[test]
fn an_empty_list_of_any_kind_is_refused() {
    assert_eq!(over([]).build().unwrap_err().setting(), "targets");
}

#[tokio::test]
async fn an_observer_that_panics_ends_no_call() {
    let peers = Peers::new([Answers(503), Answers(200), Answers(200)]);
    let observers = Observers::new(observer_fn(|_| panic!("on purpose")));
    let layer = FailoverLayer::to_uris(HOSTS)
        .observe(observers.clone())
        .build()
        .unwrap();
    let res = layer.layer(peers.service()).oneshot(get()).await.unwrap();
    assert_eq!(observers.panics(), 1);
    assert_eq!((res.status().as_u16(), peers.asked().as_str()), (200, "01"));
}

#[tokio::test]
async fn observers_hear_of_each_move_before_it_is_made() {
    let peers = Peers::new([Answers(503), Refuses(1), Answers(200)]);
    let moves = Arc::new(Mutex::new(Vec::new()));
    let (log, asked) = (moves.clone(), peers.clone());
    let layer = FailoverLayer::to_uris(HOSTS)
        .observe(observer_fn(move |event| {
            let Event::FailedOver { from, to, outcome } = *event else {
                panic!("{event:?}");
            };
            log.lock()
                .unwrap()
                .push((from, to, outcome.kind(), asked.asked()));
        }))
        .build()
        .unwrap();
    layer.layer(peers.service()).oneshot(get()).await.unwrap();
    let expected = [
        (0, 1, OutcomeKind::Throttled, "0".to_owned()),
        (1, 2, OutcomeKind::Refused, "1".to_owned()),
    ];
    assert_eq!(*moves.lock().unwrap(), expected);
}

/// Refuses to be called unless this very instance was polled ready, for each call.
struct Strict<S> {
    ready: bool,
    inner: S,
}

impl<S: Clone> Clone for Strict<S> {
    fn clone(&self) -> Self {
        Self {
            ready: false,
            inner: self.inner.clone(),
        }
    }
}

impl<Req, S: Service<Req>> Service<Req> for Strict<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let polled = self.inner.poll_ready(cx);
        self.ready = polled.is_ready();
        polled
    }

    fn call(&mut self, req: Req) -> S::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without having been polled ready"
        );
        self.inner.call(req)
    }
}

#[tokio::test]
async fn the_instance_that_was_polled_ready_is_called_for_every_target() {
    for targets in [1, 3] {
        let peers = Peers::new([Resets, Resets, Answers(200)]);
        let layer = FailoverLayer::to_uris(HOSTS[..targets].iter().copied())
            .build()
            .unwrap();
        let mut service = layer.layer(Strict {
            ready: false,
            inner: peers.service(),
        });
        for _ in 0..2 {
            let result = service.ready().await.unwrap().call(get()).await;
            assert_eq!(result.is_ok(), targets == 3);
            assert_eq!(peers.asked().len(), targets);
        }
    }
}

type Mocked = (
    mock::Spawn<tower_webhook::failover::Failover<mock::Mock<Request<()>, Response<()>>>>,
    mock::Handle<Request<()>, Response<()>>,
);

fn mocked() -> Mocked {
    mock::spawn_layer(three())
}

#[tokio::test]
async fn the_service_is_driven_ready_before_each_further_target() {
    let (mut service, mut peer) = mocked();
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(get()));
    assert_pending!(call.poll());
    let (req, responder) = peer.next_request().await.unwrap();
    assert_eq!(req.uri().host(), Some("0.test"));
    responder.send_error("reset");
    assert_pending!(call.poll());
    assert_pending!(call.poll());
    peer.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    let (req, responder) = peer.next_request().await.unwrap();
    assert_eq!(req.uri().host(), Some("1.test"));
    responder.send_response(Response::new(()));
    assert_eq!(index(&assert_ready_ok!(call.poll())), Some(1));
}

#[tokio::test]
async fn a_service_that_never_will_be_ready_ends_the_call_with_what_is_known() {
    let (mut service, mut peer) = mocked();
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(get()));
    assert_pending!(call.poll());
    let (_, responder) = peer.next_request().await.unwrap();
    responder.send_response(Response::builder().status(503).body(()).unwrap());
    assert_pending!(call.poll());
    peer.send_error("closed");
    assert_eq!(assert_ready_ok!(call.poll()).status(), 503);
}

#[tokio::test]
async fn an_error_of_the_first_readiness_is_an_error() {
    let (mut service, mut peer) = mocked();
    peer.send_error("closed");
    assert!(assert_ready!(service.poll_ready()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_point_asks_nobody_else_and_prefers_nobody() {
    let layer = sticky();
    // Before it is polled, and while the first, and the second target is asked.
    for (does, asked) in [
        ([Hangs, Hangs, Hangs], "0"),
        ([Resets, Hangs, Hangs], "01"),
        ([Resets, Resets, Hangs], "012"),
    ] {
        let peers = Peers::new(does);
        let mut service = layer.layer(peers.service());
        drop(service.call(get()));
        assert_eq!(peers.asked(), "0");
        let mut call = task::spawn(service.call(get()));
        for _ in 0..4 {
            assert_pending!(call.poll());
        }
        drop(call);
        assert_eq!(peers.asked(), asked);
        peers.now([Answers(200); 3]);
        service.call(get()).await.unwrap();
        assert_eq!(peers.asked(), "0");
    }
    // While the service is driven ready.
    let (mut service, mut peer) = mocked();
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(get()));
    assert_pending!(call.poll());
    let (_, responder) = peer.next_request().await.unwrap();
    responder.send_error("reset");
    assert_pending!(call.poll());
    drop(call);
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut next = task::spawn(service.call(get()));
    assert_pending!(next.poll());
    let (req, responder) = peer.next_request().await.unwrap();
    assert_eq!(req.uri().host(), Some("0.test"));
    responder.send_response(Response::new(()));
    assert_ready_ok!(next.poll());
}

#[tokio::test]
async fn a_request_reaches_each_target_whole() {
    let name = HeaderName::from_static("x-test");
    let (mut service, mut peer) =
        mock::spawn_layer::<Request<&'static str>, Response<()>, _>(three());
    peer.allow(3);
    assert_ready_ok!(service.poll_ready());
    let req = Request::put("https://own.test/")
        .header(&name, "1")
        .extension(7_u8)
        .body("body");
    let mut call = task::spawn(service.call(req.unwrap()));
    for _ in 0..3 {
        assert_pending!(call.poll());
        let (req, responder) = peer.next_request().await.unwrap();
        assert_eq!((req.method().as_str(), *req.body()), ("PUT", "body"));
        assert_eq!(req.headers()[&name], "1");
        assert_eq!(req.extensions().get(), Some(&7_u8));
        responder.send_error("reset");
    }
    assert_eq!(assert_ready!(call.poll()).unwrap_err().to_string(), "reset");
}
