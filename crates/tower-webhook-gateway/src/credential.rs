//! What the targets know the gateway by: of the downstream in flags, of the targets of definitions in a file.

use crate::{
    args::{Problem, target_rules},
    deliver::Client,
};
use clap::Args;
use http::Uri;
use std::{
    ffi::OsString,
    fmt::Display,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use tower_webhook::InvalidConfig;
use tower_webhook_cognigy::credential::{
    ClientCredentials, Credential, CredentialLayer, CredentialName, Credentials, TokenSource,
};

const TOKEN: &str = "--downstream-token";
const TOKEN_URL: &str = "--downstream-token-url";
const CLIENT: &str = "--downstream-client";
const FILE: &str = "--credentials";

/// The name of the downstream's credential. Definitions name those of the file, which has none of this name by accident.
const DOWNSTREAM: &str = "--downstream";

/// The longest file of credentials, in bytes.
const LONGEST: u64 = 1 << 20;

#[derive(Args)]
pub(crate) struct CredentialFlags {
    /// Bearer token of deliveries. Only the host of --downstream gets it: no fallback elsewhere.
    #[arg(
        long,
        env = "DOWNSTREAM_BEARER_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "T"
    )]
    downstream_token: Option<OsString>,

    /// Endpoint that gives bearer tokens for deliveries, to the client of --downstream-client (OAuth 2.0 client
    /// credentials, in a form). They are kept, refreshed in time, and once when the downstream answers 401.
    #[arg(
        long,
        env = "GATEWAY_DOWNSTREAM_TOKEN_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    downstream_token_url: Option<String>,

    /// Client of the token endpoint, with its secret.
    #[arg(
        long,
        env = "GATEWAY_DOWNSTREAM_CLIENT",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "ID:SECRET"
    )]
    downstream_client: Option<OsString>,

    /// Scope that the tokens are asked for. Repeat the flag, or separate several with commas. Default: none is sent.
    #[arg(
        long,
        env = "GATEWAY_DOWNSTREAM_SCOPES",
        value_delimiter = ',',
        value_name = "SCOPE"
    )]
    downstream_scope: Vec<String>,

    /// File of the credentials that definitions of --routes name, each for one origin. It is read at the start.
    #[arg(long, env = "GATEWAY_CREDENTIALS", value_name = "FILE")]
    credentials: Option<PathBuf>,
}

/// The credentials of all targets.
pub(crate) struct TargetCredentials {
    pub all: Credentials,
    /// The one among them that deliveries to the downstream carry.
    pub downstream: Option<CredentialName>,
}

impl CredentialFlags {
    /// The credentials. No token is asked for before the first delivery.
    pub fn check(
        self,
        downstream: Option<&Uri>,
        allow_private: bool,
    ) -> Result<TargetCredentials, Problem> {
        let unfit = |error: InvalidConfig| Problem::new(FILE, error);
        let mut targets = TargetCredentials {
            all: match &self.credentials {
                Some(file) => read(file, allow_private)?,
                None => Credentials::new(),
            },
            downstream: None,
        };
        if let Some((flag, credential)) = self.downstream(allow_private)? {
            let Some(downstream) = downstream else {
                return Err(Problem::new(
                    flag,
                    "is for --downstream, which is not there",
                ));
            };
            // Whether the target is permitted was asked when it was read.
            let rules = target_rules(allow_private);
            let layer = CredentialLayer::with_rules(credential, &downstream.to_string(), rules);
            let name = CredentialName::new(DOWNSTREAM).map_err(unfit)?;
            targets.all = targets.all.with(name.clone(), layer.map_err(unfit)?);
            targets.downstream = Some(name);
        }
        Ok(targets)
    }

    /// The credential of the downstream, and the flag that gives it.
    fn downstream(
        self,
        allow_private: bool,
    ) -> Result<Option<(&'static str, Credential)>, Problem> {
        // Their values are not shown: they are secrets.
        let client = match (self.downstream_token_url, self.downstream_client) {
            (None, None) if self.downstream_scope.is_empty() => None,
            (Some(url), Some(client)) => Some((url, client)),
            (None, _) => {
                let why = "is missing: there is a client or a scope";
                return Err(Problem::new(TOKEN_URL, why));
            }
            (Some(_), None) => {
                let why = "is missing: there is a token endpoint";
                return Err(Problem::new(CLIENT, why));
            }
        };
        match (self.downstream_token, client) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                let why = "is one of two credentials: leave it out, or the token endpoint";
                Err(Problem::new(TOKEN, why))
            }
            (Some(token), None) => Credential::bearer(token.into_encoded_bytes())
                .map(|credential| Some((TOKEN, credential)))
                .map_err(|error| Problem::new(TOKEN, error)),
            (None, Some((url, client))) => {
                let client = client.to_str().and_then(|client| client.split_once(':'));
                let Some((id, secret)) = client else {
                    return Err(Problem::new(CLIENT, "must be ID:SECRET"));
                };
                let grant = ClientCredentials::form(id, secret).scopes(self.downstream_scope);
                TokenSource::builder(grant, url)
                    .rules(target_rules(allow_private))
                    .build(Client::new(allow_private))
                    .map(|source| Some((TOKEN_URL, Credential::token(source))))
                    .map_err(|error| Problem::new(flag_of(&error), error))
            }
        }
    }
}

/// The flag of a setting that is wrong.
fn flag_of(error: &InvalidConfig) -> &'static str {
    match error.setting() {
        "client_id" | "client_secret" => CLIENT,
        "scopes" => "--downstream-scope",
        _ => TOKEN_URL,
    }
}

fn read(file: &Path, allow_private: bool) -> Result<Credentials, Problem> {
    let problem = |why: &dyn Display| Problem::new(FILE, format!("{}: {why}", file.display()));
    let mut json = Vec::new();
    // Some files have no end.
    File::open(file)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut json))
        .map_err(|error| problem(&error))?;
    if json.len() as u64 > LONGEST {
        return Err(problem(&"is longer than 1 MiB"));
    }
    Credentials::from_json(
        &json,
        target_rules(allow_private),
        &Client::new(allow_private),
    )
    .map_err(|error| problem(&error))
}
