//! The flags, each of them also an environment variable. The error of a bad value names the flag and
//! shows no secret.

use crate::{
    credential::{CredentialFlags, TargetCredentials},
    peer::TrustedProxies,
};
use clap::{Parser, ValueEnum, builder::BoolishValueParser};
use http::Uri;
use std::{
    ffi::OsString,
    fmt,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tower_webhook::{
    InvalidConfig, LoopGuardLayer,
    signature::{
        Scheme, Secret, Secrets,
        scheme::{BasicAuth, Cognigy, CognigyFormat, SharedToken, StandardWebhooks},
    },
    target::{ForbiddenTarget, TargetRules},
};
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// The longest duration that a flag takes: a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The shortest secret, token or password, in bytes: a shorter one can be guessed.
const MIN_SECRET: usize = 16;

/// The greatest `--max-body`: a job and a dead letter hold the whole body.
const MAX_BODY: usize = 8 << 20;

#[derive(Parser)]
#[command(
    name = "tower-webhook-gateway",
    about = "Receives Cognigy webhooks and delivers them",
    after_long_help = "A repeat of an event is recognised for 8 days, and an event whose timestamp is more than 7 \
        days old, or more than a day in the future, is refused. Dialog events and deliveries of the platform's \
        Webhook Endpoint have no timestamp: a captured one is accepted again after 8 days.",
    version
)]
struct Flags {
    /// Host name or address, and port, to listen on. Port 0 picks a free one.
    #[arg(
        long,
        env = "GATEWAY_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    listen: String,

    /// Secret that senders sign with, at least 16 bytes. During rotation repeat the flag, or separate
    /// several with commas. Without it one is generated and printed.
    #[arg(
        long,
        env = "COGNIGY_WEBHOOK_SECRET",
        hide_env_values = true,
        value_delimiter = ',',
        allow_hyphen_values = true,
        value_name = "S"
    )]
    secret: Vec<OsString>,

    /// Refuse an event of a type that the documents do not name. Without the flag it is delivered like any other.
    #[arg(long, env = "GATEWAY_STRICT_EVENTS", value_parser = BoolishValueParser::new())]
    strict_events: bool,

    /// How senders sign; `any` accepts the three forms of the documents.
    #[arg(
        long,
        env = "GATEWAY_SIGNATURE",
        default_value = "any",
        value_name = "KIND"
    )]
    signature: Kind,

    /// Basic credentials that the platform's Webhook Endpoint sends, with a password of at least 16
    /// bytes. Without the flag they are generated and printed.
    #[arg(
        long,
        env = "GATEWAY_ENDPOINT_AUTH",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "USER:PASS"
    )]
    endpoint_auth: Option<OsString>,

    /// Bearer token of the operator routes, at least 16 bytes. Without the flag one is generated and
    /// printed.
    #[arg(
        long,
        env = "GATEWAY_OPERATOR_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "T"
    )]
    operator_token: Option<OsString>,

    /// Where accepted events are stored: `memory:` or `sqlite:PATH`.
    #[arg(
        long,
        env = "GATEWAY_STORE",
        hide_env_values = true,
        default_value = "sqlite:gateway.db",
        value_name = "URL"
    )]
    store: String,

    /// Where background jobs are stored: `memory:` or `sqlite:PATH`. Default: the store.
    #[arg(
        long,
        env = "GATEWAY_QUEUE",
        hide_env_values = true,
        value_name = "URL"
    )]
    queue: Option<String>,

    /// Where deliveries that failed for good are stored: `memory:`, `sqlite:PATH`, `jsonl:PATH`, or an
    /// http or https URL that each is posted to. Default: the store.
    #[arg(
        long,
        env = "GATEWAY_DEAD_LETTERS",
        hide_env_values = true,
        value_name = "URL"
    )]
    dead_letters: Option<String>,

    /// Number of events whose repeats are recognised at the same time: those in the queue, and those of the
    /// last 8 days. Each takes about 85 bytes of a file or 140 of memory. A new event beyond that is answered
    /// 503. Default: 70,000,000 with `sqlite:`, 2,000,000 with `memory:`.
    #[arg(
        long,
        env = "GATEWAY_MAX_KEYS",
        allow_hyphen_values = true,
        value_name = "N"
    )]
    max_keys: Option<u64>,

    /// Bytes of accepted events that are kept for a replay. Beyond that the oldest can no longer be replayed;
    /// they are delivered, and their repeats recognised, all the same. Default: 8 GiB with `sqlite:`, 128 MiB
    /// with `memory:`.
    #[arg(
        long,
        env = "GATEWAY_MAX_EVENT_BYTES",
        allow_hyphen_values = true,
        value_name = "BYTES"
    )]
    max_event_bytes: Option<u64>,

    /// URL that events are delivered to. Default: a built-in echo.
    #[arg(
        long,
        env = "GATEWAY_DOWNSTREAM",
        hide_env_values = true,
        value_name = "URL"
    )]
    downstream: Option<String>,

    #[command(flatten)]
    credential: CredentialFlags,

    /// URL that is tried while the downstream is down. Repeat the flag, or separate several with
    /// commas: at most 5, tried in order.
    #[arg(
        long,
        env = "GATEWAY_FALLBACK_URLS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    fallback_url: Vec<String>,

    /// Name of this deployment in the header `Webhook-Loop`: the same in all its instances and after a restart, and no
    /// other's. A request that bears it, or ten others, is answered 508. Default: a random one at each start.
    #[arg(long, env = "GATEWAY_LOOP_MARK", value_name = "NAME")]
    loop_mark: Option<String>,

    /// Directory of routing definitions, each a file `*.json`: trigger conditions, target and template. An event goes to the
    /// target of every definition that it meets, beside the downstream; without --downstream, to those alone. They are
    /// read again at SIGHUP.
    #[arg(long, env = "GATEWAY_ROUTES", value_name = "DIR")]
    routes: Option<PathBuf>,

    /// Permit targets with http, a loopback or a private address. The built-in echo is always
    /// permitted.
    #[arg(long, env = "GATEWAY_ALLOW_PRIVATE", value_parser = BoolishValueParser::new())]
    allow_private: bool,

    /// Attempts of a delivery, the first included: 1 to 10.
    #[arg(
        long,
        env = "GATEWAY_MAX_ATTEMPTS",
        allow_hyphen_values = true,
        default_value_t = 4,
        value_name = "N"
    )]
    max_attempts: u32,

    /// Wait before the second attempt, in milliseconds. It doubles with each attempt, with full jitter.
    #[arg(
        long,
        env = "GATEWAY_BASE_DELAY_MS",
        allow_hyphen_values = true,
        default_value_t = 1000,
        value_name = "MS"
    )]
    base_delay_ms: u64,

    /// Longest wait between two attempts, in milliseconds, unless the downstream asks for a longer one.
    #[arg(
        long,
        env = "GATEWAY_MAX_DELAY_MS",
        allow_hyphen_values = true,
        default_value_t = 30_000,
        value_name = "MS"
    )]
    max_delay_ms: u64,

    /// Timeout of each attempt, in milliseconds.
    #[arg(
        long,
        env = "GATEWAY_ATTEMPT_TIMEOUT_MS",
        allow_hyphen_values = true,
        default_value_t = 10_000,
        value_name = "MS"
    )]
    attempt_timeout_ms: u64,

    /// Consecutive failures that open the circuit breaker of a host.
    #[arg(
        long,
        env = "GATEWAY_BREAKER_FAILURES",
        allow_hyphen_values = true,
        default_value_t = 3,
        value_name = "N"
    )]
    breaker_failures: u32,

    /// How long an open circuit breaker refuses calls before it probes the host, in milliseconds. Up to a tenth
    /// longer, at random, so that the clients of a host do not all probe it at the same moment.
    #[arg(
        long,
        env = "GATEWAY_BREAKER_OPEN_MS",
        allow_hyphen_values = true,
        default_value_t = 15_000,
        value_name = "MS"
    )]
    breaker_open_ms: u64,

    /// Number of dead letters from which health is `degraded`.
    #[arg(
        long,
        env = "GATEWAY_DEGRADED_AT",
        allow_hyphen_values = true,
        default_value_t = 10,
        value_name = "N"
    )]
    degraded_at: u64,

    /// Longest request body, in bytes. A longer one is answered 413.
    #[arg(long, env = "GATEWAY_MAX_BODY", allow_hyphen_values = true, default_value_t = 1 << 20, value_name = "BYTES")]
    max_body: usize,

    /// Address or network (CIDR) of a proxy in front of the gateway, whose `Forwarded` or `X-Forwarded-For`
    /// header says whom a request comes from. Repeat the flag, or separate several with commas. Default:
    /// none, and these headers say nothing.
    #[arg(
        long,
        env = "GATEWAY_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    trusted_proxy: Vec<String>,

    /// Memory for all request bodies that are in flight, in bytes. A body that finds no room within a second
    /// is answered 503. At least 4/3 of --max-body.
    #[arg(long, env = "GATEWAY_BODY_BUDGET", allow_hyphen_values = true, default_value_t = 64 << 20, value_name = "BYTES")]
    body_budget: usize,

    /// Format of the log on stderr. `RUST_LOG` filters it.
    #[arg(
        long,
        env = "GATEWAY_LOG",
        default_value = "text",
        value_name = "FORMAT"
    )]
    log: Log,

    /// Send sample traffic to this gateway, print what became of it, and end.
    #[arg(long)]
    demo: bool,
}

/// The settings, checked.
#[allow(clippy::struct_excessive_bools, reason = "they are flags")]
pub(crate) struct Args {
    pub listen: String,
    pub secrets: Vec<String>,
    pub secret_is_generated: bool,
    pub signature: Kind,
    pub strict_events: bool,
    pub endpoint_user: String,
    pub endpoint_password: String,
    pub endpoint_auth_is_generated: bool,
    pub operator_token: String,
    pub operator_token_is_generated: bool,
    pub store: Place,
    pub queue: Place,
    pub max_keys: Option<u64>,
    pub max_event_bytes: Option<u64>,
    pub dead_letters: Place,
    pub degraded_at: u64,
    pub downstream: Option<Uri>,
    pub credentials: TargetCredentials,
    pub fallbacks: Vec<Uri>,
    pub loop_guard: LoopGuardLayer,
    pub routes: Option<PathBuf>,
    pub allow_private: bool,
    pub delivery: Delivery,
    pub max_body: usize,
    pub trusted_proxies: TrustedProxies,
    pub body_budget: usize,
    pub log: Log,
    pub demo: bool,
}

/// How deliveries are made.
#[derive(Clone, Copy)]
pub(crate) struct Delivery {
    pub max_attempts: u32,
    pub base_delay: Duration,
    pub max_delay: Duration,
    pub attempt_timeout: Duration,
    pub breaker_failures: u32,
    pub breaker_open: Duration,
}

/// The signatures that are accepted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Any,
    Base64,
    Hex,
    Standard,
    Timestamped,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Log {
    Json,
    Text,
}

impl Log {
    /// Starts the log on stderr. `RUST_LOG` says what is logged, by level and target, such as
    /// `warn,tower_webhook=debug`; unset, or where it cannot be read, everything from INFO up is.
    pub fn start(self) {
        let info = Targets::new().with_default(tracing::Level::INFO);
        let (filter, refused) = match std::env::var("RUST_LOG").as_deref() {
            Err(_) | Ok("") => (info, None),
            Ok(asked) => match log_filter(asked) {
                Ok(filter) => (filter, None),
                Err(why) => (info, Some(why)),
            },
        };
        // Colours are for people: not for a file or a pipe, and not where <https://no-color.org> is asked for.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal() && !plain)
            .with_writer(std::io::stderr);
        let lines = match self {
            Self::Json => lines.json().boxed(),
            Self::Text => lines.boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        if let Some(why) = refused {
            tracing::warn!("RUST_LOG cannot be read ({why}); logging from INFO up");
        }
    }
}

/// Levels and targets. What the parser would take for an odd target is refused: nothing would match it, and
/// every warning would be lost.
fn log_filter(asked: &str) -> Result<Targets, String> {
    for part in asked.split(',') {
        let target = part.split('=').next().unwrap_or_default().trim();
        if target.is_empty() {
            return Err("a part without a level or target".to_owned());
        }
        if part.contains('[') {
            return Err("filters by span are not supported".to_owned());
        }
    }
    asked.parse().map_err(|error| format!("{error}"))
}

/// Where something is stored.
#[derive(Clone)]
pub(crate) enum Place {
    /// Posted to a URL.
    Callback(Uri),
    Jsonl(PathBuf),
    Memory,
    Sqlite(PathBuf),
}

/// A flag whose value cannot be used: the program ends with exit status 2.
pub(crate) struct Problem {
    flag: &'static str,
    why: String,
}

impl Problem {
    /// Names the flag. `why` must not hold a secret.
    pub fn new(flag: &'static str, why: impl fmt::Display) -> Self {
        Self {
            flag,
            why: why.to_string(),
        }
    }

    pub fn report(&self) -> ExitCode {
        say!("error: {}: {}", self.flag, self.why);
        ExitCode::from(2)
    }
}

impl Args {
    /// Reads flags and environment. Ends the process if `clap` has an answer: `--help`, `--version`, an
    /// unknown flag, a value that does not parse.
    pub fn read() -> Result<Self, Problem> {
        Flags::parse().check()
    }

    fn secret_list(&self) -> Secrets {
        self.secrets
            .iter()
            .map(|secret| Secret::new(secret.as_str()))
            .collect()
    }

    /// The scheme of the signed route.
    pub fn scheme(&self) -> Result<Box<dyn Scheme>, InvalidConfig> {
        let cognigy = |formats: &[CognigyFormat]| -> Result<Box<dyn Scheme>, InvalidConfig> {
            Ok(Box::new(Cognigy::new(
                self.secret_list(),
                formats.iter().copied(),
            )?))
        };
        match self.signature {
            Kind::Any => cognigy(&[
                CognigyFormat::Hex,
                CognigyFormat::Base64,
                CognigyFormat::UnsignedTimestamp,
            ]),
            Kind::Base64 => cognigy(&[CognigyFormat::Base64]),
            Kind::Hex => cognigy(&[CognigyFormat::Hex]),
            Kind::Standard => Ok(Box::new(StandardWebhooks::new(self.secret_list())?)),
            Kind::Timestamped => cognigy(&[CognigyFormat::UnsignedTimestamp]),
        }
    }

    /// The scheme of the Webhook Endpoint's route.
    pub fn endpoint_scheme(&self) -> Result<BasicAuth, InvalidConfig> {
        BasicAuth::new(&self.endpoint_user, self.endpoint_password.as_str())
    }

    /// Refuses a dead-letter file that is also the file of a database: each would damage the other.
    fn apart(&self) -> Result<(), Problem> {
        let Place::Jsonl(lines) = &self.dead_letters else {
            return Ok(());
        };
        for place in [&self.store, &self.queue] {
            let Place::Sqlite(database) = place else {
                continue;
            };
            let beside = |suffix: &str| {
                let mut path = database.clone().into_os_string();
                path.push(suffix);
                same_file(lines, Path::new(&path))
            };
            if ["", "-wal", "-shm", "-journal"].into_iter().any(beside) {
                return Err(Problem::new(
                    "--dead-letters",
                    "must not be the file of a database",
                ));
            }
        }
        Ok(())
    }

    /// The scheme that deliveries are signed with: the safe form, with the timestamp under the MAC.
    pub fn outgoing_scheme(&self) -> Result<Cognigy, InvalidConfig> {
        Cognigy::new(self.secret_list(), [CognigyFormat::SignedTimestamp])
    }
}

impl Flags {
    fn check(self) -> Result<Args, Problem> {
        let delivery = self.delivery()?;
        let loop_guard = self.loop_guard()?;
        let (downstream, fallbacks) = self.targets()?;
        let secret_is_generated = self.secret.is_empty();
        let secrets = if secret_is_generated {
            vec![match self.signature {
                Kind::Standard => format!("whsec_{}", data_encoding::BASE64.encode(&random()?)),
                _ => data_encoding::HEXLOWER.encode(&random()?),
            }]
        } else {
            let secrets = self.secret.into_iter();
            let secrets = secrets.map(|secret| plain_text("--secret", secret));
            secrets.collect::<Result<_, _>>()?
        };
        let endpoint_auth_is_generated = self.endpoint_auth.is_none();
        let (endpoint_user, endpoint_password) = match self.endpoint_auth {
            None => (
                "cognigy".to_owned(),
                data_encoding::HEXLOWER.encode(&random()?),
            ),
            Some(auth) => match auth.to_str().and_then(|auth| auth.split_once(':')) {
                Some((user, password)) if !user.is_empty() && password.len() >= MIN_SECRET => {
                    (user.to_owned(), password.to_owned())
                }
                _ => {
                    let why = format!(
                        "must be USER:PASS, with a password of at least {MIN_SECRET} bytes"
                    );
                    return Err(Problem::new("--endpoint-auth", why));
                }
            },
        };
        let store = local_place("--store", &self.store)?;
        let operator_token_is_generated = self.operator_token.is_none();
        let operator_token = match self.operator_token {
            None => data_encoding::HEXLOWER.encode(&random()?),
            Some(token) => plain_text("--operator-token", token)?,
        };
        if self.degraded_at == 0 {
            return Err(Problem::new("--degraded-at", "must be at least 1"));
        }
        if self.max_event_bytes == Some(0) {
            return Err(Problem::new("--max-event-bytes", "must be at least 1"));
        }
        if !(1..=MAX_BODY).contains(&self.max_body) {
            let why = format!("must be 1 to {MAX_BODY}");
            return Err(Problem::new("--max-body", why));
        }
        let ed25519 = |secret: &String| ["whpk_", "whsk_"].iter().any(|of| secret.starts_with(of));
        if self.signature == Kind::Standard && secrets.iter().any(ed25519) {
            // Deliveries are signed with it too: whoever knows the public key could forge them.
            let why = "must be `whsec_` and base64 of the key, not an ed25519 key";
            return Err(Problem::new("--secret", why));
        }
        let args = Args {
            listen: self.listen,
            secrets,
            secret_is_generated,
            signature: self.signature,
            strict_events: self.strict_events,
            endpoint_user,
            endpoint_password,
            endpoint_auth_is_generated,
            operator_token,
            operator_token_is_generated,
            queue: match &self.queue {
                Some(url) => local_place("--queue", url)?,
                None => store.clone(),
            },
            dead_letters: match &self.dead_letters {
                Some(url) => entries_place(url, target_rules(self.allow_private))?,
                None => store.clone(),
            },
            max_keys: self.max_keys,
            max_event_bytes: self.max_event_bytes,
            degraded_at: self.degraded_at,
            store,
            credentials: self
                .credential
                .check(downstream.as_ref(), self.allow_private)?,
            downstream,
            fallbacks,
            loop_guard,
            routes: self.routes,
            allow_private: self.allow_private,
            delivery,
            max_body: self.max_body,
            trusted_proxies: TrustedProxies::read(&self.trusted_proxy)?,
            body_budget: self.body_budget,
            log: self.log,
            demo: self.demo,
        };
        args.apart()?;
        let secret = |error| Problem::new("--secret", error);
        args.scheme().map_err(secret)?;
        args.outgoing_scheme().map_err(secret)?;
        args.endpoint_scheme()
            .map_err(|error| Problem::new("--endpoint-auth", error))?;
        SharedToken::bearer(args.operator_token.as_str())
            .map_err(|error| Problem::new("--operator-token", error))?;
        Ok(args)
    }
}

impl Flags {
    /// The downstream and the fallbacks.
    fn targets(&self) -> Result<(Option<Uri>, Vec<Uri>), Problem> {
        let rules = target_rules(self.allow_private);
        let downstream = self.downstream.as_deref();
        let downstream = downstream.map(|url| target("--downstream", url, rules));
        let fallbacks = self.fallback_url.iter();
        let fallbacks = fallbacks.map(|url| target("--fallback-url", url, rules));
        Ok((
            downstream.transpose()?,
            fallbacks.collect::<Result<_, _>>()?,
        ))
    }

    fn loop_guard(&self) -> Result<LoopGuardLayer, Problem> {
        let mark = match &self.loop_mark {
            Some(mark) => mark.clone(),
            None => format!(
                "gateway-{}",
                &data_encoding::HEXLOWER.encode(&random()?[..8])
            ),
        };
        LoopGuardLayer::new(&mark).map_err(|error| Problem::new("--loop-mark", error))
    }

    fn delivery(&self) -> Result<Delivery, Problem> {
        let between = |flag, value: u64, least, most| match value {
            value if (least..=most).contains(&value) => Ok(value),
            _ => Err(Problem::new(flag, format!("must be {least} to {most}"))),
        };
        let millis = |flag, value| between(flag, value, 1, DAY_MS).map(Duration::from_millis);
        between("--max-attempts", self.max_attempts.into(), 1, 10)?;
        between("--breaker-failures", self.breaker_failures.into(), 1, 1000)?;
        let base_delay = millis("--base-delay-ms", self.base_delay_ms)?;
        let max_delay = millis("--max-delay-ms", self.max_delay_ms)?;
        if max_delay < base_delay {
            let why = "must not be shorter than --base-delay-ms";
            return Err(Problem::new("--max-delay-ms", why));
        }
        Ok(Delivery {
            max_attempts: self.max_attempts,
            base_delay,
            max_delay,
            attempt_timeout: millis("--attempt-timeout-ms", self.attempt_timeout_ms)?,
            breaker_failures: self.breaker_failures,
            breaker_open: millis("--breaker-open-ms", self.breaker_open_ms)?,
        })
    }
}

/// The targets that are permitted with or without `--allow-private`.
pub fn target_rules(allow_private: bool) -> TargetRules {
    TargetRules::new()
        .allow_http(allow_private)
        .allow_private(allow_private)
}

/// A store that this process writes itself.
fn local_place(flag: &'static str, text: &str) -> Result<Place, Problem> {
    match text.split_once(':') {
        Some(("memory", "")) => Ok(Place::Memory),
        // SQLite would read `:memory:` as something else than a file's name.
        Some(("sqlite", path)) if !path.is_empty() && !path.starts_with(':') => {
            Ok(Place::Sqlite(path.into()))
        }
        // The value is not shown: a URL may have a password in it.
        _ => Err(Problem::new(flag, "must be `memory:` or `sqlite:PATH`")),
    }
}

fn entries_place(text: &str, rules: TargetRules) -> Result<Place, Problem> {
    const FLAG: &str = "--dead-letters";
    match text.split_once(':') {
        Some(("memory" | "sqlite", _)) => local_place(FLAG, text),
        Some(("jsonl", path)) if !path.is_empty() => Ok(Place::Jsonl(path.into())),
        Some(("http" | "https", _)) => target(FLAG, text, rules).map(Place::Callback),
        _ => Err(Problem::new(
            FLAG,
            "must be `memory:`, `sqlite:PATH`, `jsonl:PATH`, or an http or https URL",
        )),
    }
}

/// A URL that requests may be sent to.
fn target(flag: &'static str, text: &str, rules: TargetRules) -> Result<Uri, Problem> {
    // The value is not shown: a URL may have a password in it.
    let uri = text
        .parse()
        .map_err(|_| Problem::new(flag, "must be an http or https URL"))?;
    rules.check(&uri).map_err(|problem| match problem {
        ForbiddenTarget::NotHttps => Problem::new(
            flag,
            "must begin with `https://`; `http://` is permitted with --allow-private",
        ),
        ForbiddenTarget::NotPublic => Problem::new(
            flag,
            "is not at a public address; others are permitted with --allow-private",
        ),
        problem => Problem::new(flag, problem),
    })?;
    Ok(uri)
}

/// A secret as text. A space at either end is refused: it comes from a list that was written with
/// spaces, and the secret would never match.
fn plain_text(flag: &'static str, secret: OsString) -> Result<String, Problem> {
    let problem = |why: &str| Problem::new(flag, why);
    let secret = secret.into_string().map_err(|_| problem("must be UTF-8"))?;
    if secret.trim() != secret {
        return Err(problem("must not begin or end with a space"));
    }
    // Of Standard Webhooks, the key: three bytes for each four characters after the prefix.
    let length = secret
        .strip_prefix("whsec_")
        .map_or(secret.len(), |key| key.trim_end_matches('=').len() * 3 / 4);
    if length < MIN_SECRET {
        let why = format!("must be at least {MIN_SECRET} bytes long");
        return Err(Problem::new(flag, why));
    }
    Ok(secret)
}

/// Whether two paths name one file, which need not exist yet.
fn same_file(a: &Path, b: &Path) -> bool {
    let plain = |path: &Path| {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize();
        path.canonicalize()
            .ok()
            .or_else(|| Some(folder.ok()?.join(path.file_name()?)))
    };
    a == b || plain(a).is_some_and(|a| Some(a) == plain(b))
}

/// 256 random bits from the operating system.
fn random() -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new("--secret", format!("cannot be generated: {error}")))?;
    Ok(bytes)
}
