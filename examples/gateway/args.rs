//! Flags, each also an environment variable. A bad value names its flag and never shows a secret.

use clap::{Parser, ValueEnum};
use http::Uri;
use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf, process::ExitCode};
use tower_webhook::{
    InvalidConfig,
    signature::{
        Scheme, Secret, Secrets,
        scheme::{BasicAuth, Cognigy, CognigyFormat, StandardWebhooks},
    },
};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    name = "gateway",
    about = "Receives Cognigy webhooks and delivers them",
    version
)]
struct Flags {
    /// Where to listen; port 0 picks a free one.
    #[arg(
        long,
        env = "GATEWAY_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    listen: SocketAddr,

    /// A webhook secret. Repeat it, or separate with commas, while secrets rotate. Generated and
    /// printed when there is none.
    #[arg(
        long,
        env = "COGNIGY_WEBHOOK_SECRET",
        hide_env_values = true,
        value_delimiter = ',',
        allow_hyphen_values = true,
        value_name = "S"
    )]
    secret: Vec<OsString>,

    /// How events are signed; `any` is the three forms of the documents.
    #[arg(
        long,
        env = "GATEWAY_SIGNATURE",
        default_value = "any",
        value_name = "KIND"
    )]
    signature: Kind,

    /// Basic credentials of the platform's Webhook Endpoint. Generated and printed when there are
    /// none.
    #[arg(
        long,
        env = "GATEWAY_ENDPOINT_AUTH",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "USER:PASS"
    )]
    endpoint_auth: Option<OsString>,

    /// Idempotency and events: `memory:` or `sqlite:PATH`.
    #[arg(
        long,
        env = "GATEWAY_STORE",
        hide_env_values = true,
        default_value = "sqlite:gateway.db",
        value_name = "URL"
    )]
    store: String,

    /// Where events are delivered. A built-in echo when there is none.
    #[arg(
        long,
        env = "GATEWAY_DOWNSTREAM",
        hide_env_values = true,
        value_name = "URL"
    )]
    downstream: Option<String>,

    /// The longest body, in bytes; a longer one is answered 413.
    #[arg(long, env = "GATEWAY_MAX_BODY", allow_hyphen_values = true, default_value_t = 1 << 20, value_name = "BYTES")]
    max_body: usize,

    /// The form of the log on stderr; `RUST_LOG` filters it.
    #[arg(
        long,
        env = "GATEWAY_LOG",
        default_value = "text",
        value_name = "FORMAT"
    )]
    log: Log,

    /// Send sample traffic to itself, say what became of it, and end.
    #[arg(long)]
    demo: bool,
}

/// What the flags say, checked.
pub struct Args {
    pub listen: SocketAddr,
    pub secrets: Vec<String>,
    pub secret_is_generated: bool,
    pub signature: Kind,
    pub endpoint_user: String,
    pub endpoint_password: String,
    pub endpoint_auth_is_generated: bool,
    pub store: StoreUrl,
    pub downstream: Option<Uri>,
    pub max_body: usize,
    pub log: Log,
    pub demo: bool,
}

/// The signatures that are accepted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Any,
    Base64,
    Hex,
    Standard,
    Timestamped,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Log {
    Json,
    Text,
}

impl Log {
    pub fn start(self) {
        let filter = EnvFilter::builder()
            .with_default_directive(tracing::Level::INFO.into())
            .from_env_lossy();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        match self {
            Self::Json => log.json().init(),
            Self::Text => log.init(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum StoreUrl {
    Memory,
    Sqlite(PathBuf),
}

/// A flag whose value cannot be used: the program ends with exit status 2.
pub struct Problem {
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
        eprintln!("error: {}: {}", self.flag, self.why);
        ExitCode::from(2)
    }
}

impl Args {
    /// Reads flags and environment. Ends the process where `clap` has an answer: `--help`,
    /// `--version`, an unknown flag, a value that does not parse.
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

    /// The scheme of the platform's route.
    pub fn endpoint_scheme(&self) -> Result<BasicAuth, InvalidConfig> {
        BasicAuth::new(&self.endpoint_user, self.endpoint_password.as_str())
    }

    /// What deliveries are signed with: the safe form, timestamp under the MAC.
    pub fn outgoing_scheme(&self) -> Result<Cognigy, InvalidConfig> {
        Cognigy::new(self.secret_list(), [CognigyFormat::SignedTimestamp])
    }
}

impl Flags {
    fn check(self) -> Result<Args, Problem> {
        let secret_is_generated = self.secret.is_empty();
        let secrets = if secret_is_generated {
            vec![match self.signature {
                Kind::Standard => format!("whsec_{}", data_encoding::BASE64.encode(&random()?)),
                _ => data_encoding::HEXLOWER.encode(&random()?),
            }]
        } else {
            let secrets = self.secret.into_iter();
            secrets.map(secret_text).collect::<Result<_, _>>()?
        };
        let endpoint_auth_is_generated = self.endpoint_auth.is_none();
        let (endpoint_user, endpoint_password) = match self.endpoint_auth {
            None => (
                "cognigy".to_owned(),
                data_encoding::HEXLOWER.encode(&random()?),
            ),
            Some(auth) => match auth.to_str().and_then(|auth| auth.split_once(':')) {
                Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                    (user.to_owned(), password.to_owned())
                }
                _ => return Err(Problem::new("--endpoint-auth", "must be USER:PASS")),
            },
        };
        if self.max_body == 0 {
            return Err(Problem::new("--max-body", "must be at least 1"));
        }
        let args = Args {
            listen: self.listen,
            secrets,
            secret_is_generated,
            signature: self.signature,
            endpoint_user,
            endpoint_password,
            endpoint_auth_is_generated,
            store: store_url(&self.store)?,
            downstream: self.downstream.as_deref().map(target).transpose()?,
            max_body: self.max_body,
            log: self.log,
            demo: self.demo,
        };
        let secret = |error| Problem::new("--secret", error);
        args.scheme().map_err(secret)?;
        args.outgoing_scheme().map_err(secret)?;
        args.endpoint_scheme()
            .map_err(|error| Problem::new("--endpoint-auth", error))?;
        Ok(args)
    }
}

fn store_url(text: &str) -> Result<StoreUrl, Problem> {
    match text.split_once(':') {
        Some(("memory", "")) => Ok(StoreUrl::Memory),
        // SQLite would read `:memory:` as something else than a file's name.
        Some(("sqlite", path)) if !path.is_empty() && !path.starts_with(':') => {
            Ok(StoreUrl::Sqlite(path.into()))
        }
        // What was said is not said again: a URL may have a password in it.
        _ => Err(Problem::new(
            "--store",
            "must be `memory:` or `sqlite:PATH`",
        )),
    }
}

/// A secret as text. One with a space at an end is a list that was written with spaces, and would
/// never match.
fn secret_text(secret: OsString) -> Result<String, Problem> {
    let problem = |why: &str| Problem::new("--secret", why);
    let secret = secret.into_string().map_err(|_| problem("must be UTF-8"))?;
    if secret.trim() != secret {
        return Err(problem("must not begin or end with a space"));
    }
    Ok(secret)
}

fn target(text: &str) -> Result<Uri, Problem> {
    let wrong = || Problem::new("--downstream", "must be an http or https URL");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err(wrong()),
    }
}

/// 256 random bits from the operating system.
fn random() -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new("--secret", format!("cannot be generated: {error}")))?;
    Ok(bytes)
}
