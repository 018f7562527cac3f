//! The pages of the modules: each layer's has the same sections in the same order, its tables have every setting, and
//! the defaults in them are those of the code.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use http::Request;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use syn::{Attribute, Expr, FnArg, ImplItem, Item, Lit, Meta, Type, Visibility};
use tower_webhook::{
    AttemptTimeoutLayer, BoxError, BufferBodyLayer, CircuitBreakerLayer, DeadLetterLayer,
    DeliveryMetricsLayer, FailoverLayer, IdempotencyLayer, LoopGuardLayer, RetryWithJitterLayer,
    SignLayer, SignatureVerifyLayer,
    body::{BufferedBody, peek::PeekBodyLayer},
    circuit_breaker::BreakerConfig,
    cognigy::EventLayer,
    dead_letter::{DeadLetters, JsonlDeadLetters, MemoryDeadLetters, redrive::Redrive},
    deadline::DeadlineLayer,
    grpc::GrpcPeekLayer,
    idempotency::{KeySource, MemoryStore},
    metrics::FacadeExporter,
    problem::Problem,
    queue::{EnqueueService, MemoryQueue, NewJob, Queue, TaskStatusService, Worker},
    retry::{Backoff, Budget, HttpExchange, Refusals, RetryConfig},
    signature::{ReplayCache, Tenants, scheme::GitHub},
    stack,
};

/// The pages of layers, with the files in which their settings are.
const PAGES: &[(&str, &[&str])] = &[
    (
        "src/body/mod.rs",
        &["src/body/buffer.rs", "src/body/budget.rs"],
    ),
    ("src/body/peek.rs", &["src/body/peek.rs"]),
    ("src/circuit_breaker/mod.rs", &["src/circuit_breaker"]),
    ("src/dead_letter/mod.rs", &["src/dead_letter"]),
    (
        "src/dead_letter/redrive/mod.rs",
        &["src/dead_letter/redrive"],
    ),
    ("src/cognigy/mod.rs", &["src/cognigy/layer.rs"]),
    ("src/deadline/mod.rs", &["src/deadline"]),
    ("src/failover/mod.rs", &["src/failover"]),
    ("src/fallback/mod.rs", &["src/fallback"]),
    ("src/grpc.rs", &["src/grpc.rs"]),
    ("src/loop_guard.rs", &["src/loop_guard.rs"]),
    ("src/metrics/mod.rs", &["src/metrics"]),
    ("src/idempotency/mod.rs", &["src/idempotency"]),
    ("src/queue/mod.rs", &["src/queue"]),
    ("src/retry/mod.rs", &["src/retry"]),
    ("src/signature/mod.rs", &["src/signature"]),
    ("src/stack/mod.rs", &["src/stack"]),
    ("src/transport/mod.rs", &["src/transport"]),
];

/// What a reader looks for first, in this order. What else a page says follows.
const SECTIONS: [&str; 5] = ["Examples", "Order", "Settings", "Answers", "Cancel safety"];

struct Page {
    file: &'static str,
    text: String,
}

impl Page {
    fn read(file: &'static str) -> Self {
        let text = fs::read_to_string(at(file)).unwrap();
        let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
        let lines: Vec<_> = lines
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .collect();
        let text = lines.join("\n");
        Self { file, text }
    }

    fn sections(&self) -> Vec<&str> {
        let mut is_code = false;
        let headings = self.text.lines().filter_map(|line| {
            is_code ^= line.starts_with("```");
            line.strip_prefix("# ").filter(|_| !is_code)
        });
        headings.collect()
    }

    /// The defaults in the tables of settings, by the setter: `BufferBodyLayer::deadline`.
    fn defaults(&self) -> BTreeMap<&str, &str> {
        let rows = self.text.lines().filter_map(|line| {
            let row = line.strip_prefix("| [")?.strip_suffix(" |")?;
            let [setting, default, _] = row.split(" | ").collect::<Vec<_>>()[..] else {
                return None;
            };
            let (label, link) = setting.split_once(']')?;
            let link = link.strip_prefix('(').and_then(|link| link.split_once(')'));
            let setter = link.map_or(label.trim_matches('`'), |(link, _)| link);
            Some((setter, default))
        });
        rows.collect()
    }
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let inside = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let inside =
        inside.filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "rs"));
    inside.flat_map(|path| sources(&path)).collect()
}

/// The setters of a file that say their default: `BufferBodyLayer::deadline`.
fn setters(file: &Path) -> BTreeSet<String> {
    let items = syn::parse_file(&fs::read_to_string(file).unwrap())
        .unwrap()
        .items;
    let mut found = BTreeSet::new();
    for item in items {
        let Item::Impl(item) = item else { continue };
        let Type::Path(of) = &*item.self_ty else {
            continue;
        };
        let of = &of.path.segments.last().unwrap().ident;
        for inside in &item.items {
            let ImplItem::Fn(method) = inside else {
                continue;
            };
            let is_setter = matches!(method.vis, Visibility::Public(_))
                && matches!(method.sig.inputs.first(), Some(FnArg::Receiver(me)) if me.reference.is_none())
                && docs(&method.attrs).contains("Default");
            if is_setter {
                found.insert(format!("{of}::{}", method.sig.ident));
            }
        }
    }
    found
}

fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(value) if value.path.is_ident("doc") => match &value.value {
                Expr::Lit(text) => match &text.lit {
                    Lit::Str(text) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        });
    lines.collect()
}

#[test]
fn the_page_of_each_layer_has_the_same_sections_in_the_same_order() {
    for (file, _) in PAGES {
        let page = Page::read(file);
        let sections = page.sections();
        let first = sections
            .iter()
            .take(SECTIONS.len())
            .map(|section| match *section {
                "Errors" => "Answers",
                other => other,
            });
        assert_eq!(first.collect::<Vec<_>>(), SECTIONS, "{file}: {sections:?}");
    }
}

#[test]
fn the_page_of_a_layer_has_its_every_setting() {
    let mut all = 0;
    for (file, code) in PAGES {
        let page = Page::read(file);
        let defaults = page.defaults();
        let told: BTreeSet<_> = defaults
            .keys()
            .filter_map(|setter| setter.split_once("::"))
            .collect();
        let types: BTreeSet<_> = told.iter().map(|(of, _)| *of).collect();
        let files = code.iter().flat_map(|code| sources(&at(code)));
        for setter in files.flat_map(|file| setters(&file)) {
            let (of, _) = setter.split_once("::").unwrap();
            if types.contains(of) {
                all += 1;
                let links = [format!("({setter})"), format!("[`{setter}`]")];
                let is_told = links.iter().any(|link| page.text.contains(link));
                assert!(is_told, "{file} says nothing of `{setter}`");
            }
        }
    }
    assert!(all > 110, "the sources were not understood: {all}");
}

/// Of a setting: the default in the table, and in the code as `Debug` shows it.
#[track_caller]
fn agree(file: &'static str, code: impl Debug, settings: &[(&str, &str, &str)]) {
    let page = Page::read(file);
    let defaults = page.defaults();
    let code = format!("{code:?}");
    for (setter, told, is) in settings {
        assert_eq!(defaults.get(setter), Some(told), "{}: {setter}", page.file);
        let has = |end: &str| code == *is || code.contains(&format!("{is}{end}"));
        assert!(
            [",", " }", ")"].into_iter().any(has),
            "`{setter}` is not `{is}`: {code}"
        );
    }
}

#[test]
fn defaults_of_the_body() {
    const PAGE: &str = "src/body/mod.rs";
    agree(
        PAGE,
        BufferBodyLayer::new(1 << 20),
        &[
            ("BufferBodyLayer::deadline", "10 s", "deadline: 10s"),
            (
                "BufferBodyLayer::budget",
                "64 MiB, or twice the longest body",
                "left: 67108864",
            ),
            (
                "BufferBodyLayer::refuse_with",
                "`application/problem+json`",
                "refuser: problem+json",
            ),
        ],
    );
    agree(
        PAGE,
        BufferBodyLayer::new(50 << 20),
        &[(
            "BufferBodyLayer::budget",
            "64 MiB, or twice the longest body",
            "left: 104857600",
        )],
    );
    agree(
        "src/body/peek.rs",
        PeekBodyLayer::new(1),
        &[("PeekBodyLayer::time", "1 s", "time: 1s")],
    );
}

#[test]
fn defaults_of_the_deadline() {
    const PAGE: &str = "src/deadline/mod.rs";
    let limit = Duration::from_secs(1);
    agree(
        PAGE,
        DeadlineLayer::new(limit).unwrap(),
        &[(
            "DeadlineLayer::observe",
            "none except `tracing`",
            "observers: Observers(0)",
        )],
    );
    agree(
        PAGE,
        AttemptTimeoutLayer::new(limit).unwrap(),
        &[(
            "AttemptTimeoutLayer::observe",
            "none except `tracing`",
            "observers: Observers(0)",
        )],
    );
}

#[test]
fn defaults_of_the_circuit_breaker() {
    const PAGE: &str = "src/circuit_breaker/mod.rs";
    agree(
        PAGE,
        CircuitBreakerLayer::new(BreakerConfig::default()),
        &[(
            "CircuitBreakerLayer::peer",
            "[`ByHost`](crate::peer::ByHost)",
            "peer: ByHost",
        )],
    );
    agree(
        PAGE,
        BreakerConfig::builder(),
        &[
            (
                "BreakerConfigBuilder::consecutive_failures",
                "5",
                "consecutive_failures: Some(5)",
            ),
            (
                "BreakerConfigBuilder::failure_rate",
                "0.5",
                "failure_rate: Some(0.5)",
            ),
            ("BreakerConfigBuilder::slow_call", "none", "slow_call: None"),
            (
                "BreakerConfigBuilder::window_calls",
                "100",
                "window: Calls(100)",
            ),
            (
                "BreakerConfigBuilder::window_time",
                "a number of calls",
                "window: Calls(100)",
            ),
            (
                "BreakerConfigBuilder::window_buckets",
                "10",
                "window_buckets: 10",
            ),
            ("BreakerConfigBuilder::min_calls", "20", "min_calls: 20"),
            ("BreakerConfigBuilder::open_for", "5 s", "open_for: 5s"),
            (
                "BreakerConfigBuilder::max_open_for",
                "60 s",
                "max_open_for: 60s",
            ),
            ("BreakerConfigBuilder::open_growth", "2", "open_growth: 2.0"),
            (
                "BreakerConfigBuilder::open_jitter",
                "0.2",
                "open_jitter: 0.2",
            ),
            ("BreakerConfigBuilder::probes", "1", "probes: 1"),
            (
                "BreakerConfigBuilder::probe_successes",
                "1",
                "probe_successes: 1",
            ),
            (
                "BreakerConfigBuilder::probe_lease",
                "30 s",
                "probe_lease: 30s",
            ),
            (
                "BreakerConfigBuilder::max_peers",
                "10,000",
                "max_peers: 10000",
            ),
            (
                "BreakerConfigBuilder::forget_after",
                "1 h",
                "forget_after: 3600s",
            ),
        ],
    );
    agree(
        PAGE,
        BreakerConfig::default(),
        &[(
            "BreakerConfigBuilder::slow_call_rate",
            "1",
            "slow_call_rate: 1.0",
        )],
    );
}

#[test]
fn defaults_of_the_retry() {
    const PAGE: &str = "src/retry/mod.rs";
    agree(
        PAGE,
        RetryWithJitterLayer::new(RetryConfig::default()),
        &[
            (
                "RetryWithJitterLayer::exchange",
                "[`CloneExchange`]",
                "exchange: CloneExchange",
            ),
            ("RetryConfigBuilder::attempts", "3", "attempts: 3"),
            (
                "RetryConfigBuilder::backoff",
                "exponential from 200 ms to 20 s, full jitter",
                "Backoff { strategy: Exponential { base: 200000000, factor: 2.0 }, cap: 20000000000, jitter: Full",
            ),
            (
                "RetryConfigBuilder::hint_limit",
                "capped at 5 min",
                "hint_limit: CapTo(300s",
            ),
            ("RetryConfigBuilder::window", "1 h", "window: 3600s"),
            (
                "RetryConfigBuilder::min_attempt",
                "10 ms",
                "min_attempt: 10ms",
            ),
            ("RetryConfigBuilder::seed", "random", "seeds: None"),
        ],
    );
    agree(
        PAGE,
        Budget::builder(),
        &[
            ("BudgetBuilder::share", "0.2", "share: 0.2"),
            ("BudgetBuilder::floor", "10", "floor: 10"),
            ("BudgetBuilder::window", "10 s", "window: 10s"),
        ],
    );
    let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(2));
    agree(
        PAGE,
        backoff,
        &[
            ("BackoffBuilder::factor", "2", "factor: 2.0"),
            ("BackoffBuilder::jitter", "full", "jitter: Full"),
        ],
    );
    agree(
        PAGE,
        HttpExchange::new(),
        &[(
            "HttpExchange::discard_within",
            "64 KiB and 500 ms",
            "limit: 65536, time: 500ms",
        )],
    );
    agree(
        PAGE,
        Refusals::default(),
        &[("RetryConfigBuilder::refusals", "give up", "GiveUp")],
    );
}

#[test]
fn defaults_of_failover() {
    agree(
        "src/failover/mod.rs",
        FailoverLayer::to_uris(["http://one.test/"]),
        &[
            (
                "FailoverLayerBuilder::classifier",
                "HTTP; in a stack, that of the stack",
                "make: DefaultClassifier",
            ),
            ("FailoverLayerBuilder::sticky", "off", "sticky: None"),
        ],
    );
}

#[test]
fn defaults_of_dead_letters() {
    const PAGE: &str = "src/dead_letter/mod.rs";
    let layer = DeadLetterLayer::new(DeadLetters::new(MemoryDeadLetters::default()));
    agree(
        PAGE,
        layer,
        &[
            (
                "DeadLetterLayer::classifier",
                "HTTP; in a stack, that of the stack",
                "make: DefaultClassifier",
            ),
            (
                "DeadLetterLayer::peer",
                "[`ByHost`](crate::peer::ByHost)",
                "peer: ByHost",
            ),
            (
                "DeadLetterLayer::describe",
                "[`HttpRequests`]",
                "describe: HttpRequests",
            ),
            (
                "DeadLetterLayer::direction",
                "outbound",
                "direction: Outbound",
            ),
            (
                "DeadLetterLayer::body_limit",
                "256 KiB",
                "body_limit: 262144",
            ),
            (
                "DeadLetterLayer::clock",
                "the system clock",
                "clock: WallClock(system)",
            ),
            ("DeadLetters::fallback", "none", "fallback: None"),
            ("DeadLetters::time_limit", "5 s", "time_limit: 5s"),
        ],
    );
    agree(
        PAGE,
        MemoryDeadLetters::builder(),
        &[
            (
                "MemoryDeadLettersBuilder::max_entries",
                "10,000",
                "max_entries: 10000",
            ),
            (
                "MemoryDeadLettersBuilder::max_bytes",
                "64 MiB",
                "max_bytes: 67108864",
            ),
            (
                "MemoryDeadLettersBuilder::drop_oldest",
                "off",
                "drop_oldest: false",
            ),
        ],
    );
    agree(
        PAGE,
        JsonlDeadLetters::builder(),
        &[
            (
                "JsonlDeadLettersBuilder::max_bytes",
                "64 MiB",
                "max_bytes: 67108864",
            ),
            (
                "JsonlDeadLettersBuilder::max_entry_bytes",
                "4 MiB",
                "max_entry_bytes: 4194304",
            ),
            (
                "JsonlDeadLettersBuilder::max_waiting",
                "1,024",
                "max_waiting: 1024",
            ),
        ],
    );
}

#[test]
fn defaults_of_a_redrive() {
    const PAGE: &str = "src/dead_letter/redrive/mod.rs";
    let store = Arc::new(MemoryDeadLetters::default());
    agree(
        PAGE,
        Redrive::builder(store),
        &[
            ("RedriveBuilder::rate", "10", "rate: Some(10.0)"),
            ("RedriveBuilder::concurrency", "4", "concurrency: 4"),
            ("RedriveBuilder::max_replays", "5", "max_replays: 5"),
            (
                "RedriveBuilder::max_refusal_wait",
                "30 s",
                "max_refusal_wait: 30s",
            ),
            ("RedriveBuilder::lease", "60 s", "lease: 60s"),
            (
                "RedriveBuilder::clock",
                "the system clock",
                "clock: WallClock(system)",
            ),
        ],
    );
}

#[test]
fn defaults_of_metrics_and_grpc() {
    const PAGE: &str = "src/metrics/mod.rs";
    agree(
        PAGE,
        DeliveryMetricsLayer::deliveries(),
        &[(
            "DeliveryMetricsLayer::peer",
            "[`ByHost`](crate::peer::ByHost)",
            "peer: ByHost",
        )],
    );
    agree(
        PAGE,
        FacadeExporter::builder(),
        &[
            (
                "FacadeExporterBuilder::prefix",
                "`tower_webhook_`",
                "prefix: \"tower_webhook_\"",
            ),
            (
                "FacadeExporterBuilder::peer_label",
                "no label",
                "max_peers: None",
            ),
        ],
    );
    agree(
        "src/grpc.rs",
        GrpcPeekLayer::new(),
        &[
            ("GrpcPeekLayer::assume_unary", "`false`", "unary: Never"),
            ("GrpcPeekLayer::unary", "none", "unary: Never"),
            (
                "GrpcPeekLayer::max_message",
                "4 MiB",
                "max_message: 4194304",
            ),
        ],
    );
}

#[test]
fn defaults_of_the_cognigy_layer() {
    agree(
        "src/cognigy/mod.rs",
        EventLayer::new(),
        &[
            ("EventLayer::kept", "7 days", "kept: 604800s"),
            (
                "EventLayer::refuse_with",
                "`application/problem+json`",
                "refuser: problem+json",
            ),
            (
                "EventLayer::clock",
                "the system clock",
                "clock: WallClock(system)",
            ),
        ],
    );
}

#[test]
fn defaults_of_the_loop_guard() {
    const PAGE: &str = "src/loop_guard.rs";
    let guard = LoopGuardLayer::new("orders").unwrap();
    agree(
        PAGE,
        guard.clone(),
        &[
            ("LoopGuardLayer::max_hops", "10", "max_hops: 10"),
            (
                "LoopGuardLayer::refuse_with",
                "`application/problem+json`",
                "refuser: problem+json",
            ),
            (
                "LoopGuardLayer::observe",
                "none except `tracing`",
                "observers: Observers(0)",
            ),
        ],
    );
    agree(
        PAGE,
        guard.outgoing(),
        &[("MarkLayer::headers", "none", "headers: None")],
    );
}

#[test]
fn defaults_of_the_queue() {
    const PAGE: &str = "src/queue/mod.rs";
    let queue = Queue::new(MemoryQueue::default());
    agree(
        PAGE,
        Worker::builder(queue.clone()),
        &[
            ("WorkerBuilder::concurrency", "64", "concurrency: 64"),
            ("WorkerBuilder::lease", "30 s", "lease: 30s"),
            (
                "WorkerBuilder::attempt_timeout",
                "10 min",
                "attempt_timeout: 600s",
            ),
            (
                "WorkerBuilder::retry",
                "3 attempts: [`RetryConfig::default`](crate::retry::RetryConfig)",
                "attempts: 3",
            ),
            ("WorkerBuilder::dead_letters", "none", "dead_letters: None"),
        ],
    );
    agree(
        PAGE,
        MemoryQueue::builder(),
        &[
            ("MemoryQueueBuilder::attempts", "25", "attempts: 25"),
            ("MemoryQueueBuilder::per_target", "8", "per_target: 8"),
            (
                "MemoryQueueBuilder::retention",
                "7 days",
                "retention: 604800s",
            ),
            ("MemoryQueueBuilder::max_jobs", "100,000", "jobs: 100000"),
            (
                "MemoryQueueBuilder::max_bytes",
                "256 MiB",
                "bytes: 268435456",
            ),
            (
                "MemoryQueueBuilder::max_payload",
                "16 MiB",
                "payload: 16777216",
            ),
            ("MemoryQueueBuilder::max_keys", "2,000,000", "keys: 2000000"),
            (
                "MemoryQueueBuilder::max_finished",
                "100,000",
                "finished: 100000",
            ),
            (
                "MemoryQueueBuilder::max_results",
                "64 MiB",
                "results: 67108864",
            ),
            (
                "MemoryQueueBuilder::clock",
                "the system clock",
                "clock: WallClock(system)",
            ),
        ],
    );
    let job = |_: Request<BufferedBody>| Ok::<_, Problem>(NewJob::new("event", ""));
    agree(
        PAGE,
        EnqueueService::new(queue.clone(), job),
        &[
            ("EnqueueService::dedup_key", "none", "dedup_key: None"),
            ("EnqueueService::time_limit", "10 s", "time_limit: 10s"),
            ("EnqueueService::retry_after", "5 s", "retry_after: 5s"),
            (
                "EnqueueService::refuse_with",
                "`application/problem+json`",
                "refuser: problem+json",
            ),
        ],
    );
    agree(
        PAGE,
        TaskStatusService::new(queue),
        &[(
            "TaskStatusService::content_type",
            "`application/json`",
            "content_type: \"application/json\"",
        )],
    );
}

#[test]
fn defaults_of_the_signature() {
    const PAGE: &str = "src/signature/mod.rs";
    let scheme = GitHub::new("It's a Secret to Everybody").unwrap();
    agree(
        PAGE,
        SignatureVerifyLayer::new(scheme.clone()),
        &[
            (
                "SignatureVerifyLayer::reject_replays",
                "off",
                "replays: None",
            ),
            (
                "SignatureVerifyLayer::label_responses",
                "off",
                "label_responses: false",
            ),
            (
                "SignatureVerifyLayer::refuse_with",
                "`application/problem+json`",
                "refuser: problem+json",
            ),
            (
                "SignatureVerifyLayer::clock",
                "the system clock",
                "clock: WallClock(system)",
            ),
        ],
    );
    agree(
        PAGE,
        ReplayCache::new(10),
        &[("ReplayCache::window", "that of the scheme", "window: None")],
    );
    agree(
        PAGE,
        SignLayer::new(scheme.clone()),
        &[(
            "SignLayer::clock",
            "the system clock",
            "clock: WallClock(system)",
        )],
    );
    let look_up = async |_: String| Ok::<Option<GitHub>, BoxError>(None);
    let tenants = Tenants::builder(|head| Some(head.uri().path().into()), look_up, GitHub::new);
    agree(
        PAGE,
        tenants,
        &[
            ("TenantsBuilder::ttl", "60 s", "ttl: 60s"),
            ("TenantsBuilder::unknown_ttl", "60 s", "unknown_ttl: 60s"),
            ("TenantsBuilder::timeout", "2 s", "timeout: 2s"),
            ("TenantsBuilder::lookups", "16", "lookups: 16"),
            ("TenantsBuilder::capacity", "10,000", "capacity: 10000"),
        ],
    );
    let labels: Vec<_> = scheme
        .signing_keys()
        .usage()
        .into_iter()
        .map(|(label, _)| label.to_string())
        .collect();
    agree(
        PAGE,
        labels,
        &[(
            "Secret::label",
            "`key-1`, `key-2`, and so on",
            "[\"key-1\"]",
        )],
    );
}

#[test]
fn defaults_of_idempotency() {
    const PAGE: &str = "src/idempotency/mod.rs";
    let webhook = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id());
    agree(
        PAGE,
        webhook,
        &[
            (
                "IdempotencyLayer::key_optional",
                "refused with 400",
                "required: true",
            ),
            (
                "IdempotencyLayer::scope",
                "the original path",
                "scope: path",
            ),
            (
                "IdempotencyLayer::methods",
                "all; API: `POST` and `PATCH`",
                "methods: None",
            ),
            (
                "IdempotencyLayer::fingerprint",
                "nothing; API: the whole request",
                "fingerprint: Nothing",
            ),
            ("IdempotencyLayer::lease", "60 s", "lease: 60s"),
            ("IdempotencyLayer::ttl", "7 days; API: 24 h", "ttl: 604800s"),
            ("IdempotencyLayer::wait", "zero", "wait: 0ns"),
            (
                "IdempotencyLayer::store_outage",
                "[`FailClosed`](StoreOutage::FailClosed)",
                "outage: FailClosed",
            ),
            (
                "IdempotencyLayer::store_timeout",
                "5 s",
                "store_timeout: 5s",
            ),
            (
                "IdempotencyLayer::store_when",
                "success; API: all but \"not now\"",
                "keep: success",
            ),
            (
                "IdempotencyLayer::store_headers",
                "no cookies and credentials",
                "stored_headers: no credentials",
            ),
            (
                "IdempotencyLayer::max_answer",
                "256 KiB",
                "max_answer: 262144",
            ),
            (
                "IdempotencyLayer::marker",
                "`Idempotent-Replayed`",
                "marker: \"idempotent-replayed\"",
            ),
            (
                "IdempotencyLayer::refuse_with",
                "`application/problem+json`",
                "refuser: problem+json",
            ),
        ],
    );
}

#[test]
fn defaults_of_idempotency_of_an_api() {
    const PAGE: &str = "src/idempotency/mod.rs";
    agree(
        PAGE,
        IdempotencyLayer::api(MemoryStore::default()),
        &[
            (
                "IdempotencyLayer::methods",
                "all; API: `POST` and `PATCH`",
                "methods: Some([POST, PATCH])",
            ),
            (
                "IdempotencyLayer::fingerprint",
                "nothing; API: the whole request",
                "fingerprint: Request",
            ),
            ("IdempotencyLayer::ttl", "7 days; API: 24 h", "ttl: 86400s"),
            (
                "IdempotencyLayer::store_when",
                "success; API: all but \"not now\"",
                "keep: any result",
            ),
        ],
    );
    agree(
        PAGE,
        MemoryStore::builder(),
        &[
            (
                "MemoryStoreBuilder::max_entries",
                "100,000",
                "max_entries: 100000",
            ),
            (
                "MemoryStoreBuilder::max_bytes",
                "128 MiB",
                "max_bytes: 134217728",
            ),
            (
                "MemoryStoreBuilder::max_in_flight",
                "16,384",
                "max_in_flight: 16384",
            ),
        ],
    );
}

#[test]
fn defaults_of_the_stacks() {
    const PAGE: &str = "src/stack/mod.rs";
    let scheme = GitHub::new("It's a Secret to Everybody").unwrap();
    agree(
        PAGE,
        stack::receive(scheme),
        &[
            ("ReceiveBuilder::max_body", "1 MiB", "max_body: 1048576"),
            ("ReceiveBuilder::grpc", "off", "grpc: false"),
            (
                "ReceiveBuilder::once",
                "repeats are handled again",
                "once: Identity",
            ),
        ],
    );
    agree(
        PAGE,
        stack::deliver(),
        &[
            (
                "DeliverBuilder::attempt_timeout",
                "10 s",
                "attempt_timeout: 10s",
            ),
            (
                "DeliverBuilder::peer",
                "[`ByHost`](crate::peer::ByHost)",
                "peer: ByHost",
            ),
            ("DeliverBuilder::failover", "none", "failover: Identity"),
            ("DeliverBuilder::each_attempt", "none", "each: Identity"),
            ("DeliverBuilder::deadline", "5 min", "deadline: 300s"),
            ("DeliverBuilder::attempts", "3", "attempts: 3"),
            (
                "DeliverBuilder::exchange",
                "[`HttpExchange`](crate::retry::HttpExchange), which clones",
                "exchange: HttpExchange { limit: 65536, time: 500ms",
            ),
            ("DeliverBuilder::dead_letters", "none", "entries: Identity"),
        ],
    );
}
