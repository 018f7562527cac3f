//! What the downstream knows the gateway by: a fixed bearer token, or tokens of its own token endpoint.

use crate::{
    args::{Problem, target_rules},
    deliver::Client,
};
use clap::Args;
use http::Uri;
use std::ffi::OsString;
use tower_webhook::{InvalidConfig, target::TargetRules};
use tower_webhook_cognigy::credential::{
    ClientCredentials, Credential, CredentialLayer, TokenSource,
};

const TOKEN: &str = "--downstream-token";
const TOKEN_URL: &str = "--downstream-token-url";
const CLIENT: &str = "--downstream-client";

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
}

impl CredentialFlags {
    /// The credential. No token is asked for before the first delivery.
    pub fn check(self, allow_private: bool) -> Result<Credential, Problem> {
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
            (None, None) => Ok(Credential::none()),
            (Some(_), Some(_)) => {
                let why = "is one of two credentials: leave it out, or the token endpoint";
                Err(Problem::new(TOKEN, why))
            }
            (Some(token), None) => Credential::bearer(token.into_encoded_bytes())
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
                    .map(Credential::token)
                    .map_err(|error| Problem::new(flag_of(&error), error))
            }
        }
    }
}

/// Attaches the credential to requests to the origin of `downstream`, and to no others.
pub(crate) fn layer(
    credential: &Credential,
    downstream: &Uri,
) -> Result<CredentialLayer, InvalidConfig> {
    // Whether the target is permitted was asked when it was read; the built-in echo is in any case.
    let rules = TargetRules::new().allow_http(true).allow_private(true);
    CredentialLayer::with_rules(credential.clone(), &downstream.to_string(), rules)
}

/// The flag of a setting that is wrong.
fn flag_of(error: &InvalidConfig) -> &'static str {
    match error.setting() {
        "client_id" | "client_secret" => CLIENT,
        "scopes" => "--downstream-scope",
        _ => TOKEN_URL,
    }
}
