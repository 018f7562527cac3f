//! Secrets that are looked up for each request: what is asked of the database, and what strangers are told.

use crate::{
    bodies::Script,
    support::{NOW, WHSEC, at, signed},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, BufferBodyLayer, InvalidConfig, SignatureVerifyLayer,
    body::BufferedBody,
    observe::{Event, observer_fn},
    signature::{
        LookupFailure, ReplayCache, Scheme, Secret, SecretLabel, SignatureError, SignatureVerify,
        Tenants, TenantsBuilder, Verified,
        scheme::{AnyOf, BasicAuth, GitHub, SharedToken, StandardWebhooks},
    },
};

const SECOND: Duration = Duration::from_secs(1);
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A database that answers when it is let, and counts.
#[derive(Clone, Default)]
struct Database(Arc<Inner>);

#[derive(Default)]
struct Inner {
    secrets: Mutex<HashMap<String, &'static str>>,
    asked: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    is_down: AtomicBool,
    /// Lookups wait for a permit while it is held.
    is_held: AtomicBool,
    gate: Option<Semaphore>,
}

/// A lookup that runs, until it is dropped.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Database {
    fn new() -> Self {
        let database = Self(Arc::new(Inner {
            gate: Some(Semaphore::new(0)),
            ..Inner::default()
        }));
        database.set("acme", WHSEC);
        database
    }

    fn set(&self, tenant: &str, secret: &'static str) {
        let mut secrets = self.0.secrets.lock().unwrap();
        secrets.insert(tenant.to_owned(), secret);
    }

    fn hold(&self) {
        self.0.is_held.store(true, Ordering::SeqCst);
    }

    /// Lets this many lookups that wait go on.
    fn pass(&self, lookups: usize) {
        self.0.gate.as_ref().unwrap().add_permits(lookups);
    }

    async fn scheme_of(self, tenant: String) -> Result<Option<StandardWebhooks>, BoxError> {
        self.0.asked.lock().unwrap().push(tenant.clone());
        let running = self.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(running, Ordering::SeqCst);
        let _running = Running(self.0.clone());
        if self.0.is_held.load(Ordering::SeqCst) {
            self.0.gate.as_ref().unwrap().acquire().await?.forget();
        }
        if self.0.is_down.load(Ordering::SeqCst) {
            return Err("connection refused".into());
        }
        assert_ne!(tenant, "panic", "on purpose");
        let secret = self.0.secrets.lock().unwrap().get(&tenant).copied();
        Ok(secret.map(StandardWebhooks::new).transpose()?)
    }

    /// How often it was asked since the last time.
    fn asked(&self) -> usize {
        self.0.asked.lock().unwrap().drain(..).count()
    }

    fn tenants(&self) -> TenantsBuilder {
        let database = self.clone();
        Tenants::builder(
            |head| Some(head.uri().path().strip_prefix("/hooks/")?.into()),
            move |tenant| database.clone().scheme_of(tenant),
            StandardWebhooks::new,
        )
    }
}

fn layer(tenants: &Tenants) -> SignatureVerifyLayer {
    SignatureVerifyLayer::resolve(tenants.clone()).clock(at(NOW))
}

/// Signed with this secret, for a tenant.
fn to(tenant: &str, secret: &str) -> Request<BufferedBody> {
    let mut request = signed(&StandardWebhooks::new(secret).unwrap(), "body");
    *request.uri_mut() = format!("/hooks/{tenant}").parse().unwrap();
    request
}

/// Answers with the name of the tenant.
#[allow(clippy::needless_pass_by_value, reason = "it is a service")]
fn handle(
    req: Request<BufferedBody>,
) -> std::future::Ready<Result<Response<BufferedBody>, Infallible>> {
    let verified = req.extensions().get::<Verified>().unwrap();
    let tenant = verified.tenant().unwrap().to_owned();
    ready(Ok(Response::new(BufferedBody::from(tenant))))
}

type Handler =
    fn(Request<BufferedBody>) -> std::future::Ready<Result<Response<BufferedBody>, Infallible>>;
type Verify = SignatureVerify<tower::util::ServiceFn<Handler>>;

fn service(layer: &SignatureVerifyLayer) -> Verify {
    layer.layer(service_fn(handle as Handler))
}

/// What the caller sees, and the typed reason that it does not.
async fn seen<B>(response: Response<B>) -> (u16, HeaderMap, Bytes, &'static str)
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let reason = response.extensions().get::<SignatureError>();
    let reason = reason.map_or("", SignatureError::as_str);
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, body, reason)
}

async fn ask(service: &Verify, request: Request<BufferedBody>) -> (u16, &'static str) {
    let (status, _, body, reason) = seen(service.clone().oneshot(request).await.unwrap()).await;
    assert_eq!(
        reason.is_empty(),
        status == 200 && body == "acme",
        "{body:?}"
    );
    (status, reason)
}

/// Lets the tasks run that can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_looked_up_once_until_its_time_is_over() {
    let database = Database::new();
    let service = service(&layer(&database.tenants().build().unwrap()));
    for _ in 0..3 {
        assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
        assert_eq!(ask(&service, to("acme", OTHER)).await, (401, "mismatch"));
    }
    assert_eq!(database.asked(), 1);

    // Rotated in the database: the old secret counts until its time is over.
    database.set("acme", OTHER);
    time::advance(SECOND * 59).await;
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    assert_eq!(database.asked(), 0);
    time::advance(SECOND).await;
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (401, "mismatch"));
    assert_eq!(ask(&service, to("acme", OTHER)).await, (200, ""));
    assert_eq!(database.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_forgotten_is_looked_up_at_once() {
    let database = Database::new();
    let tenants = database.tenants().build().unwrap();
    let service = service(&layer(&tenants));
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    database.set("acme", OTHER);
    tenants.forget("acme");
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (401, "mismatch"));
    assert_eq!(ask(&service, to("acme", OTHER)).await, (200, ""));
    assert_eq!(database.asked(), 2);

    // One that was added, and was asked for before.
    assert_eq!(ask(&service, to("new", WHSEC)).await.1, "unknown_tenant");
    database.set("new", WHSEC);
    assert_eq!(ask(&service, to("new", WHSEC)).await.1, "unknown_tenant");
    tenants.forget("new");
    let added = service.clone().oneshot(to("new", WHSEC)).await.unwrap();
    assert_eq!(added.status(), 200);
    // One that was removed.
    database.0.secrets.lock().unwrap().remove("acme");
    tenants.forget("acme");
    assert_eq!(ask(&service, to("acme", OTHER)).await.1, "unknown_tenant");
}

/// The lookup has read the old secret when the tenant is forgotten.
#[tokio::test(start_paused = true)]
async fn a_lookup_that_began_before_is_not_remembered() {
    let database = Database::new();
    database.hold();
    let tenants = database.tenants().build().unwrap();
    let mut service = service(&layer(&tenants));
    let mut early = task::spawn(service.call(to("acme", WHSEC)));
    assert_pending!(early.poll());
    settle().await;
    tenants.forget("acme");
    let mut late = task::spawn(service.call(to("acme", WHSEC)));
    assert_pending!(late.poll());
    settle().await;
    assert_eq!(
        database.asked(),
        2,
        "the later one does not wait for the earlier"
    );
    database.pass(1);
    settle().await;
    assert_eq!(assert_ready_ok!(early.poll()).status(), 200);
    assert_pending!(late.poll());
    database.pass(1);
    settle().await;
    assert_eq!(assert_ready_ok!(late.poll()).status(), 200);
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    assert_eq!(database.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_unknown_are_looked_up_again_when_tenants_are() {
    let database = Database::new();
    let service = service(&layer(&database.tenants().build().unwrap()));
    for _ in 0..3 {
        assert_eq!(
            ask(&service, to("nobody", WHSEC)).await,
            (401, "unknown_tenant")
        );
    }
    time::advance(SECOND * 59).await;
    assert_eq!(
        ask(&service, to("nobody", WHSEC)).await,
        (401, "unknown_tenant")
    );
    assert_eq!(database.asked(), 1);
    time::advance(SECOND).await;
    assert_eq!(
        ask(&service, to("nobody", WHSEC)).await,
        (401, "unknown_tenant")
    );
    assert_eq!(database.asked(), 1);
    // No name, an empty one, and one that is too long: nobody is asked.
    let long = "x".repeat(256);
    for path in ["/", "/hooks/", &format!("/hooks/{long}")] {
        let mut request = to("acme", WHSEC);
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(ask(&service, request).await, (401, "unknown_tenant"));
    }
    assert_eq!(database.asked(), 0);
    assert_eq!(
        ask(&service, to(&long[1..], WHSEC)).await,
        (401, "unknown_tenant")
    );
    assert_eq!(database.asked(), 1);
}

/// All that a caller or an observer can see is the same, but the typed reason.
#[tokio::test]
async fn an_unknown_tenant_is_answered_as_a_wrong_signature_is() {
    type Told = Arc<Mutex<Vec<String>>>;
    let told = Told::default();
    let tell = told.clone();
    let database = Database::new();
    let tenants = database.tenants().build().unwrap();
    let layer = layer(&tenants)
        .reject_replays(ReplayCache::new(10))
        .unwrap()
        .observe(observer_fn(move |event| {
            let said = match event {
                Event::Refused { by, .. } => format!("refused by {by}"),
                other => format!("{other:?}"),
            };
            tell.lock().unwrap().push(said);
        }));
    let stack = ServiceBuilder::new()
        .layer(layer.before_body())
        .layer(BufferBodyLayer::new(100))
        .layer(layer.clone())
        .service(service_fn(handle as Handler));
    let without = |name: &str, mut request: Request<BufferedBody>| {
        request.headers_mut().remove(name);
        request
    };
    let stale = |mut request: Request<BufferedBody>| {
        let before = (NOW - 301).to_string();
        let headers = request.headers_mut();
        headers.insert("webhook-timestamp", before.parse().unwrap());
        request
    };
    let (mut reasons, mut reads) = (Vec::new(), Vec::new());
    for (known, unknown) in [
        (to("acme", OTHER), to("nobody", OTHER)),
        (to("acme", OTHER), to("nobody", WHSEC)),
        (to("acme", OTHER), to("", WHSEC)),
        (
            without("webhook-signature", to("acme", WHSEC)),
            without("webhook-signature", to("nobody", WHSEC)),
        ),
        (stale(to("acme", WHSEC)), stale(to("nobody", WHSEC))),
    ] {
        let mut both = Vec::new();
        for request in [known, unknown] {
            let body = Script::chunks(["body"]);
            let probe = body.probe();
            let response = stack.clone().oneshot(request.map(|_| body)).await.unwrap();
            let (status, headers, body, reason) = seen(response).await;
            reasons.push(reason);
            let told = std::mem::take(&mut *told.lock().unwrap());
            both.push((status, headers, body, probe.polls(), told));
        }
        assert_eq!(both[0], both[1]);
        assert_eq!(both[0].0, 401);
        assert_eq!(both[0].4, ["refused by standard_webhooks"]);
        reads.push(both[0].3);
    }
    assert_eq!(reads, [2, 2, 2, 0, 0], "two are refused by their heads");
    assert_eq!(reasons[6..], ["missing", "missing", "stale", "stale"]);
    for (at, reason) in reasons[..6].iter().enumerate() {
        assert_eq!(*reason == "unknown_tenant", at % 2 == 1, "{reason}");
    }
}

/// A scheme of the user's own, which counts.
struct Counting(&'static str, Arc<AtomicUsize>);

impl Scheme for Counting {
    fn name(&self) -> &'static str {
        self.0
    }
    fn recognizes(&self, _: &HeaderMap) -> bool {
        true
    }
    fn verify(
        &self,
        _: &tower_webhook::signature::Message<'_>,
    ) -> Result<Verified, SignatureError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(Verified::new(self.0))
    }
}

/// It costs what a wrong signature costs, and nobody comes in by it.
#[tokio::test]
async fn the_decoy_is_asked_and_what_it_accepts_is_refused() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let tenants = Tenants::builder(
        |head| head.uri().host().map(Into::into),
        |_| ready(Ok::<Option<GitHub>, BoxError>(None)),
        |_| Ok(Counting("decoy", count)),
    );
    let service = service(&layer(&tenants.build().unwrap()));
    let request = || to("nobody", WHSEC);
    assert_eq!(ask(&service, request()).await, (401, "unknown_tenant"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    // The secret is another one each time, and fits every scheme of text or base64.
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let tenants = Tenants::builder(
            |_| None,
            |_| ready(Ok::<Option<GitHub>, BoxError>(None)),
            |secret: Secret| {
                secrets.push(secret.as_bytes().to_vec());
                Ok(AnyOf::first(StandardWebhooks::new(secret.clone())?).or(GitHub::new(secret)?))
            },
        );
        tenants.build().unwrap();
    }
    assert_eq!(secrets[0].len(), "whsec_".len() + 44);
    assert_ne!(secrets[0], secrets[1]);
}

#[tokio::test]
async fn tenants_may_have_schemes_of_different_kinds() {
    let tenants = Tenants::builder(
        |head| Some(head.headers().get("x-tenant")?.to_str().ok()?.into()),
        |tenant| async move {
            Ok::<Option<Box<dyn Scheme>>, InvalidConfig>(match &*tenant {
                "git" => Some(Box::new(GitHub::new("git")?)),
                "std" => Some(Box::new(StandardWebhooks::new(WHSEC)?)),
                "basic" => Some(Box::new(BasicAuth::new("user", "password")?)),
                _ => None,
            })
        },
        |secret: Secret| {
            let (git, std) = (
                GitHub::new(secret.clone())?,
                StandardWebhooks::new(secret.clone())?,
            );
            Ok(AnyOf::first(git)
                .or(std)
                .or(BasicAuth::new("nobody", secret)?))
        },
    );
    let layer = layer(&tenants.build().unwrap());
    let of = |tenant: &'static str, mut request: Request<BufferedBody>| {
        let headers = request.headers_mut();
        headers.insert("x-tenant", tenant.parse().unwrap());
        request
    };
    let git = || signed(&GitHub::new("git").unwrap(), "body");
    let std = || signed(&StandardWebhooks::new(WHSEC).unwrap(), "body");
    let basic = |password| signed(&BasicAuth::new("user", password).unwrap(), "body");
    for (tenant, request, status) in [
        ("git", git(), 200),
        ("std", std(), 200),
        ("basic", basic("password"), 200),
        ("git", std(), 401),
        ("std", git(), 401),
        ("nobody", git(), 401),
    ] {
        let response = service(&layer).oneshot(of(tenant, request)).await.unwrap();
        assert_eq!(response.status(), status, "{tenant}");
    }
    // The challenge is that of the tenant's scheme, and of the decoy.
    let mut answers = Vec::new();
    for tenant in ["basic", "nobody"] {
        let service = layer.before_body().layer(service(&layer));
        let response = service.oneshot(of(tenant, basic("wrong"))).await.unwrap();
        let (status, headers, body, _) = seen(response).await;
        assert!(headers.contains_key("www-authenticate"), "{tenant}");
        answers.push((status, headers, body));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_tenant_share_a_lookup_that_outlives_those_who_leave() {
    let database = Database::new();
    database.hold();
    let mut service = service(&layer(&database.tenants().build().unwrap()));
    let mut calls: Vec<_> = (0..100)
        .map(|_| task::spawn(service.call(to("acme", WHSEC))))
        .collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    settle().await;
    assert_eq!(database.asked(), 1);
    // The first one leaves, and others.
    calls.drain(..40);
    settle().await;
    assert_eq!(database.0.running.load(Ordering::SeqCst), 1);
    database.pass(1);
    settle().await;
    for call in &mut calls {
        assert!(call.is_woken());
        assert_eq!(assert_ready_ok!(call.poll()).status(), 200);
    }
    assert_eq!(database.asked(), 0);

    // All leave: whoever comes next finds the answer.
    let mut lonely = task::spawn(service.call(to("nobody", WHSEC)));
    assert_pending!(lonely.poll());
    drop(lonely);
    settle().await;
    database.pass(1);
    settle().await;
    assert_eq!(
        ask(&service, to("nobody", WHSEC)).await,
        (401, "unknown_tenant")
    );
    assert_eq!(database.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_is_dropped_and_refused_with_503() {
    let database = Database::new();
    database.hold();
    let tenants = database.tenants().build().unwrap();
    let layer = layer(&tenants);
    let service = layer.before_body().layer(service(&layer));
    let began = time::Instant::now();
    let response = service.clone().oneshot(to("acme", WHSEC)).await.unwrap();
    assert_eq!(began.elapsed(), SECOND * 2);
    assert_eq!(
        response.extensions().get(),
        Some(&SignatureError::LookupFailed {
            why: LookupFailure::Timeout { limit: SECOND * 2 },
            retry_after: SECOND * 2,
        })
    );
    let (status, headers, ..) = seen(response).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    settle().await;
    assert_eq!(database.0.running.load(Ordering::SeqCst), 0);

    // Not remembered: the next request asks again.
    database.0.is_held.store(false, Ordering::SeqCst);
    let response = service.oneshot(to("acme", WHSEC)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(database.asked(), 2, "one before the body, for both");
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_down_what_is_known_is_used_and_nothing_else_passes() {
    let database = Database::new();
    let service = service(&layer(&database.tenants().build().unwrap()));
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    database.0.is_down.store(true, Ordering::SeqCst);
    time::advance(SECOND * 59).await;
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    assert_eq!(
        ask(&service, to("other", WHSEC)).await,
        (503, "lookup_error")
    );
    time::advance(SECOND).await;
    let refused = service.clone().oneshot(to("acme", WHSEC)).await.unwrap();
    let reason = refused.extensions().get::<SignatureError>().unwrap();
    assert_eq!(
        reason.to_string(),
        "the scheme of its tenant could not be looked up: connection refused"
    );
    assert_eq!(refused.status(), 503);
    database.0.is_down.store(false, Ordering::SeqCst);
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    // A burst against a database that fails is one lookup.
    database.asked();
    database.0.is_down.store(true, Ordering::SeqCst);
    let burst = (0..50).map(|_| tokio::spawn(service.clone().oneshot(to("third", WHSEC))));
    for refused in burst.collect::<Vec<_>>() {
        assert_eq!(refused.await.unwrap().unwrap().status(), 503);
    }
    assert_eq!(database.asked(), 1);
}

#[tokio::test]
async fn a_lookup_that_panics_is_refused_with_503() {
    let database = Database::new();
    let tenants = database.tenants().build().unwrap();
    let service = service(&layer(&tenants));
    for _ in 0..2 {
        assert_eq!(
            ask(&service, to("panic", WHSEC)).await,
            (503, "lookup_aborted")
        );
    }
    assert_eq!(database.asked(), 2);
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    assert!(
        format!("{tenants:?}").contains("known: 1, unknown: 0, lookups: 0"),
        "{tenants:?}"
    );
}

#[test]
fn without_a_runtime_a_tenant_that_is_not_known_is_refused_with_503() {
    let database = Database::new();
    let mut service = service(&layer(&database.tenants().build().unwrap()));
    let mut call = task::spawn(service.call(to("acme", WHSEC)));
    assert_eq!(assert_ready_ok!(call.poll()).status(), 503);

    // It ends while somebody waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let entered = runtime.enter();
    let mut call = task::spawn(service.call(to("acme", WHSEC)));
    assert_pending!(call.poll());
    drop(entered);
    drop(runtime);
    assert!(call.is_woken());
    let refused = assert_ready_ok!(call.poll());
    let reason = refused.extensions().get::<SignatureError>().unwrap();
    assert_eq!(reason.as_str(), "lookup_aborted");
}

/// They do not push out those that are known, the database is not flooded, and the memory is bounded.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_unknown_tenants() {
    const ROOM: usize = 100;
    let database = Database::new();
    for tenant in 0..ROOM - 1 {
        database.set(&format!("t-{tenant}"), WHSEC);
    }
    let tenants = database
        .tenants()
        .capacity(ROOM)
        .lookups(8)
        .ttl(SECOND * 3600);
    let tenants = tenants.build().unwrap();
    let service = service(&layer(&tenants));
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    for tenant in 0..ROOM - 1 {
        let known = service.clone().oneshot(to(&format!("t-{tenant}"), WHSEC));
        assert_eq!(known.await.unwrap().status(), 200);
    }
    assert_eq!(database.asked(), ROOM);

    database.hold();
    let stranger = to("nobody", WHSEC);
    let mut busy = 0;
    for wave in 0..100 {
        let calls = (0..1000).map(|at| {
            let mut request = stranger.clone();
            *request.uri_mut() = format!("/hooks/u-{wave}-{at}").parse().unwrap();
            tokio::spawn(service.clone().oneshot(request))
        });
        let calls: Vec<_> = calls.collect();
        settle().await;
        assert_eq!(
            database.0.running.load(Ordering::SeqCst),
            4,
            "half of eight"
        );
        let held = format!("{tenants:?}");
        assert!(held.contains("lookups: 516"), "{held}");
        // Meanwhile those that are known pass.
        assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
        database.pass(516);
        for call in calls {
            let response = call.await.unwrap().unwrap();
            match response.status().as_u16() {
                401 => {}
                503 => busy += 1,
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(busy, 100 * (1000 - 516));
    assert_eq!(database.0.most.load(Ordering::SeqCst), 4);
    let held = format!("{tenants:?}");
    assert!(
        held.contains("known: 100, unknown: 100, lookups: 0"),
        "{held}"
    );
    database.asked();
    for tenant in 0..ROOM - 1 {
        let known = service.clone().oneshot(to(&format!("t-{tenant}"), WHSEC));
        assert_eq!(known.await.unwrap().status(), 200);
    }
    assert_eq!(database.asked(), 0);
}

/// Without a signature, or with one that is too old, strangers cause no lookup, before the body or after it.
#[tokio::test(start_paused = true)]
async fn a_head_that_no_tenant_can_have_sent_is_refused_without_a_lookup() {
    type Change = fn(&mut HeaderMap);
    let database = Database::new();
    database.hold();
    let layer = layer(&database.tenants().build().unwrap());
    let before_body = layer.before_body().layer(service(&layer));
    let refused = |change: Change, tenant: String| {
        let mut request = to(&tenant, WHSEC);
        change(request.headers_mut());
        request
    };
    let changes: [(Change, &str); 4] = [
        (HeaderMap::clear, "missing"),
        (
            |headers| drop(headers.insert("webhook-timestamp", "?".parse().unwrap())),
            "malformed",
        ),
        (
            |headers| drop(headers.insert("webhook-timestamp", "1".parse().unwrap())),
            "stale",
        ),
        (
            |headers| drop(headers.insert("webhook-timestamp", "99999999999".parse().unwrap())),
            "early",
        ),
    ];
    for (change, reason) in changes {
        for at in 0..1000 {
            let request = || refused(change, format!("u-{at}"));
            assert_eq!(ask(&service(&layer), request()).await, (401, reason));
            let response = before_body.clone().oneshot(request()).await.unwrap();
            let (status, .., seen) = seen(response).await;
            assert_eq!((status, seen), (401, reason));
        }
    }
    assert_eq!(database.asked(), 0);
    // A tenant that nobody asked for is not kept waiting by them.
    database.pass(1);
    assert_eq!(ask(&service(&layer), to("acme", WHSEC)).await, (200, ""));
}

/// The newest is next: strangers with signatures that look right are in line already.
#[tokio::test(start_paused = true)]
async fn a_tenant_is_looked_up_before_the_strangers_who_wait() {
    let database = Database::new();
    database.hold();
    let service = service(&layer(&database.tenants().build().unwrap()));
    let forged =
        (0..600).map(|at| tokio::spawn(service.clone().oneshot(to(&format!("u-{at}"), OTHER))));
    let forged: Vec<_> = forged.collect();
    settle().await;
    assert_eq!(database.asked(), 8);
    let genuine = tokio::spawn(service.clone().oneshot(to("acme", WHSEC)));
    settle().await;
    assert_eq!(database.asked(), 0);
    database.pass(1);
    settle().await;
    assert_eq!(*database.0.asked.lock().unwrap(), ["acme"]);
    database.pass(8);
    settle().await;
    assert!(genuine.is_finished());
    assert_eq!(genuine.await.unwrap().unwrap().status(), 200);
    // Those for whom there was no room know already, the oldest who waited.
    let told: Vec<_> = forged
        .iter()
        .map(tokio::task::JoinHandle::is_finished)
        .collect();
    assert!(told[8..80].iter().all(|told| *told));
    database.pass(1000);
    for call in forged {
        let status = call.await.unwrap().unwrap().status().as_u16();
        assert!([401, 503].contains(&status), "{status}");
    }
}

/// A flood that goes on, of more than seven times as many names as can be looked up: it is a matter of a few attempts.
#[tokio::test(start_paused = true)]
async fn a_tenant_that_tries_again_passes_during_a_flood() {
    const LOOKUP: Duration = Duration::from_millis(20);
    let tenants = Tenants::builder(
        |head| Some(head.uri().path().strip_prefix("/hooks/")?.into()),
        |tenant: String| async move {
            time::sleep(LOOKUP).await;
            let secret = tenant.starts_with("t-").then_some(WHSEC);
            secret.map(StandardWebhooks::new).transpose()
        },
        StandardWebhooks::new,
    );
    let service = service(&layer(&tenants.build().unwrap()));
    let strangers = service.clone();
    let flood = tokio::spawn(async move {
        for at in 0_u64.. {
            for of in 0..3 {
                let tenant = format!("u-{at}-{of}");
                tokio::spawn(strangers.clone().oneshot(to(&tenant, OTHER)));
            }
            time::sleep(Duration::from_millis(1)).await;
        }
    });
    time::sleep(SECOND * 5).await;
    let mut tries = 0;
    for at in 0..5 {
        let name = format!("t-{at}");
        while service
            .clone()
            .oneshot(to(&name, WHSEC))
            .await
            .unwrap()
            .status()
            != 200
        {
            tries += 1;
            assert!(tries < 5 * 15, "twice its share");
            time::sleep(Duration::from_millis(107)).await;
        }
        time::sleep(Duration::from_millis(13)).await;
    }
    flood.abort();
}

/// Strangers keep half of the lookups at the most: a tenant whose time is over gets one of the others.
#[tokio::test(start_paused = true)]
async fn a_tenant_is_looked_up_again_though_strangers_wait() {
    let database = Database::new();
    let tenants = database.tenants().lookups(2).build().unwrap();
    let mut service = service(&layer(&tenants));
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    time::advance(SECOND * 60).await;
    assert_eq!(database.asked(), 1);
    database.hold();
    let mut strangers: Vec<_> = (0..10)
        .map(|at| task::spawn(service.call(to(&format!("u-{at}"), WHSEC))))
        .collect();
    for stranger in &mut strangers {
        assert_pending!(stranger.poll());
    }
    settle().await;
    assert_eq!(database.asked(), 1);
    database.0.is_held.store(false, Ordering::SeqCst);
    assert_eq!(ask(&service, to("acme", WHSEC)).await, (200, ""));
    assert_eq!(database.asked(), 1);
    // Those who wait are told in time that they waited in vain: at most twice the limit of one lookup.
    database.hold();
    for _ in 0..2 {
        time::advance(SECOND * 2).await;
        settle().await;
    }
    let told = strangers
        .iter_mut()
        .filter_map(|stranger| match stranger.poll() {
            std::task::Poll::Ready(Ok(response)) => Some(
                response
                    .extensions()
                    .get::<SignatureError>()
                    .unwrap()
                    .as_str(),
            ),
            _ => None,
        });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 10, "{told:?}");
    assert!(!told.contains(&"unknown_tenant"), "{told:?}");
    assert!(
        told.contains(&"lookup_timeout") && told.contains(&"lookup_busy"),
        "{told:?}"
    );
}

/// At random, with threads: no more lookups than may run, one for each name at a time, and nobody hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once() {
    const NAMES: usize = 12;
    let running: Arc<Vec<AtomicUsize>> =
        Arc::new((0..NAMES).map(|_| AtomicUsize::new(0)).collect());
    let most = Arc::new(AtomicUsize::new(0));
    let counts = (running.clone(), most.clone());
    let tenants = Tenants::builder(
        |head| Some(head.uri().path().strip_prefix("/hooks/")?.into()),
        move |tenant: String| {
            let (running, most) = counts.clone();
            async move {
                let at: usize = tenant.parse()?;
                assert_eq!(
                    running[at].fetch_add(1, Ordering::SeqCst),
                    0,
                    "one for each name"
                );
                let all = running.iter().map(|one| one.load(Ordering::SeqCst)).sum();
                most.fetch_max(all, Ordering::SeqCst);
                for _ in 0..at {
                    tokio::task::yield_now().await;
                }
                running[at].fetch_sub(1, Ordering::SeqCst);
                match at % 4 {
                    0 => Err(BoxError::from("down")),
                    1 => Ok(None),
                    _ => Ok(Some(StandardWebhooks::new(WHSEC)?)),
                }
            }
        },
        StandardWebhooks::new,
    );
    let tenants = tenants
        .lookups(4)
        .capacity(3)
        .ttl(Duration::from_micros(200));
    let tenants = tenants
        .unknown_ttl(Duration::from_micros(100))
        .timeout(SECOND * 60)
        .build()
        .unwrap();
    let service = service(&layer(&tenants));
    let mut random = 7_u64;
    let mut next = move |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    let mut calls = Vec::new();
    for _ in 0..4000 {
        let at = next(NAMES);
        let call = tokio::spawn(service.clone().oneshot(to(&at.to_string(), WHSEC)));
        match next(10) {
            0 => call.abort(),
            _ => calls.push((at, call)),
        }
        if next(4) == 0 {
            tokio::task::yield_now().await;
        }
    }
    for (at, call) in calls {
        let status = call.await.unwrap().unwrap().status();
        assert_eq!(status, [503, 401, 200, 200][at % 4], "{at}");
    }
    assert!(most.load(Ordering::SeqCst) <= 4);
}

/// What must be kept apart: two tenants whose messages have the same id, time and body.
#[tokio::test]
async fn a_message_of_one_tenant_is_no_replay_of_anothers() {
    let database = Database::new();
    database.set("other", OTHER);
    let layer = layer(&database.tenants().build().unwrap());
    let layer = layer.reject_replays(ReplayCache::new(10)).unwrap();
    let status = async |request| service(&layer).oneshot(request).await.unwrap().status();
    assert_eq!(status(to("acme", WHSEC)).await, 200);
    assert_eq!(status(to("other", OTHER)).await, 200);
    assert_eq!(status(to("acme", WHSEC)).await, 401);
}

/// A tenant whose scheme accepts a message for longer than the decoy would.
#[tokio::test(start_paused = true)]
async fn a_replay_is_refused_for_as_long_as_the_tenants_scheme_accepts_it() {
    let tenants = Tenants::builder(
        |_| Some("acme".into()),
        |_| ready(StandardWebhooks::new(WHSEC).map(|scheme| Some(scheme.tolerance(SECOND * 3600)))),
        StandardWebhooks::new,
    );
    let layer = layer(&tenants.build().unwrap());
    let layer = layer.reject_replays(ReplayCache::new(10)).unwrap();
    let status = async || {
        service(&layer)
            .oneshot(to("acme", WHSEC))
            .await
            .unwrap()
            .status()
    };
    assert_eq!(status().await, 200);
    time::advance(SECOND * 3000).await;
    assert_eq!(status().await, 401);
}

#[tokio::test]
async fn what_went_wrong_is_told_with_the_name_of_the_tenant() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let database = Database::new();
    let layer = layer(&database.tenants().build().unwrap()).observe(observer_fn(move |event| {
        tell.lock().unwrap().push(format!("{event:?}"));
    }));
    let service = service(&layer);
    ask(&service, to("acme", OTHER)).await;
    database.0.is_down.store(true, Ordering::SeqCst);
    ask(&service, to("other", OTHER)).await;
    database.0.is_down.store(false, Ordering::SeqCst);
    ask(&service, to("other%22", OTHER)).await;
    let mut request = to("acme", WHSEC);
    request.headers_mut().remove("webhook-id");
    ask(&service, request).await;
    let mut request = to("acme", WHSEC);
    *request.uri_mut() = "/".parse().unwrap();
    ask(&service, request).await;
    ask(&service, to(&"x".repeat(300), WHSEC)).await;
    let long = "x".repeat(255);
    assert_eq!(
        told.lock().unwrap().pop().unwrap(),
        format!(
            r#"Refused {{ by: "standard_webhooks", reason: "unknown_tenant", detail: it names the tenant "{long}..", which does not exist }}"#
        )
    );
    assert_eq!(
        *told.lock().unwrap(),
        [
            r#"Refused { by: "standard_webhooks", reason: "mismatch", detail: no secret matches its signature: another secret signed it, or its body is not the one that was signed; it names the tenant "acme" }"#,
            r#"Refused { by: "standard_webhooks", reason: "lookup_error", detail: the scheme of its tenant could not be looked up: connection refused; it names the tenant "other" }"#,
            r#"Refused { by: "standard_webhooks", reason: "unknown_tenant", detail: it names the tenant "other%22", which does not exist }"#,
            r#"Refused { by: "standard_webhooks", reason: "missing", detail: it lacks the header `webhook-id`, which this scheme needs; it names the tenant "acme" }"#,
            r#"Refused { by: "standard_webhooks", reason: "unknown_tenant", detail: no name of a tenant was read from it }"#,
        ]
    );
}

#[tokio::test]
async fn labels_and_refusals_are_set_as_with_one_scheme() {
    let tenants = Tenants::builder(
        |_| Some("acme".into()),
        |_| ready(SharedToken::bearer(Secret::new("token").label("2026-11")).map(Some)),
        SharedToken::bearer,
    );
    let layer = layer(&tenants.build().unwrap())
        .label_responses(true)
        .refuse_with(|reason, problem| problem.title(reason.as_str()).into_response());
    let signed = |token| signed(&SharedToken::bearer(token).unwrap(), "body");
    let passed = service(&layer).oneshot(signed("token")).await.unwrap();
    let label = passed.extensions().get::<SecretLabel>().unwrap();
    assert_eq!(label.as_str(), "2026-11");
    let refused = service(&layer).oneshot(signed("wrong")).await.unwrap();
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(
        body.starts_with(br#"{"type":"about:blank","title":"mismatch""#),
        "{body:?}"
    );
}

/// The instance that was polled ready waits for the lookup, and is the one that is called.
#[tokio::test(start_paused = true)]
async fn what_was_ready_is_called_after_the_lookup() {
    let database = Database::new();
    database.hold();
    let layer = layer(&database.tenants().build().unwrap());
    let limited = tower::limit::ConcurrencyLimitLayer::new(1);
    let stack = ServiceBuilder::new().layer(layer).layer(limited);
    let mut service = stack.service(service_fn(handle as Handler));
    let mut call = task::spawn(service.ready().await.unwrap().call(to("acme", WHSEC)));
    assert_pending!(call.poll());
    let mut next = task::spawn(service.ready());
    assert_pending!(next.poll());
    drop(call);
    assert!(next.is_woken());
    let call = assert_ready_ok!(next.poll()).call(to("acme", WHSEC));
    settle().await;
    database.pass(1);
    assert_eq!(call.await.unwrap().status(), 200);
}

/// The box of the request extension, as with one scheme, and the one name that is read.
#[tokio::test]
async fn a_tenant_that_is_remembered_costs_no_allocation() {
    let database = Database::new();
    let layer = layer(&database.tenants().build().unwrap());
    let mut first = service(&layer);
    assert_eq!(first.call(to("acme", WHSEC)).await.unwrap().status(), 200);
    let none = service_fn(|req: Request<BufferedBody>| {
        ready(Ok::<_, Infallible>(Response::new(req.into_body())))
    });
    let mut service = layer.before_body().layer(layer.layer(none));
    let mut request = to("acme", WHSEC);
    // As every server that routes has it: the map of extensions is there.
    request.extensions_mut().insert(1_u8);
    drop(request.body().clone());
    let mut request = Some(request);
    let counted = allocation_counter::measure(|| {
        let mut call = std::pin::pin!(service.call(request.take().unwrap()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_ready());
    });
    assert_eq!(counted.count_total, 1);
    assert_eq!(database.asked(), 1);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let database = Database::new();
    let tenants = || database.tenants();
    for (builder, setting) in [
        (tenants().capacity(0), "capacity"),
        (tenants().timeout(Duration::ZERO), "timeout"),
        (tenants().lookups(0), "lookups"),
    ] {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
    let far = tenants()
        .ttl(Duration::MAX)
        .unknown_ttl(Duration::MAX)
        .lookups(usize::MAX);
    assert!(
        far.timeout(Duration::MAX)
            .capacity(usize::MAX)
            .build()
            .is_ok()
    );
    let refused = Tenants::builder(
        |_| None,
        |_| ready(Ok::<Option<GitHub>, BoxError>(None)),
        |_| GitHub::new(""),
    );
    assert_eq!(refused.build().unwrap_err().setting(), "secrets");
}
