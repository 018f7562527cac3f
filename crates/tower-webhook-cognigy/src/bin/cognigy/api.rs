//! The flags that say where an API is and who asks.

use crate::output::{self, Failure};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use tower_webhook::{signature::Secret, target::TargetRules};
use tower_webhook_cognigy::{
    connection::Connection,
    credential::{ClientCredentials, Credential, TokenSource},
    documents::Webhooks,
    https::HttpsClient,
    rate_limit::RateLimitLayer,
};

/// Where requests may be sent.
#[derive(Args)]
pub struct Network {
    /// Permit http, loopback and private addresses.
    #[arg(long)]
    pub allow_private: bool,

    /// Trust the certificates in this PEM file too.
    #[arg(long, value_name = "FILE")]
    pub root_certificates: Option<PathBuf>,
}

impl Network {
    pub fn rules(&self) -> TargetRules {
        TargetRules::new()
            .allow_http(self.allow_private)
            .allow_private(self.allow_private)
    }

    pub fn roots(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.root_certificates
            .as_deref()
            .map(output::read)
            .transpose()
    }

    pub fn client(&self) -> Result<HttpsClient, Failure> {
        let client = HttpsClient::builder().rules(self.rules());
        Ok(match self.roots()? {
            Some(pem) => client.root_certificates(&pem)?,
            None => client,
        }
        .build())
    }
}

/// How a token is asked for.
#[derive(Clone, Copy, ValueEnum)]
enum Grant {
    /// S0: Basic header, form body.
    BasicForm,
    /// S1: Basic header, JSON body.
    BasicJson,
    /// S4: all in the form body.
    Form,
}

/// The documents' API.
#[derive(Args)]
pub struct Api {
    /// Address of the API.
    #[arg(
        long,
        env = "COGNIGY_BASE_URL",
        hide_env_values = true,
        default_value = "https://api.cognigy.ai",
        value_name = "URL"
    )]
    api: String,

    /// API key, sent as `X-API-Key`.
    #[arg(
        long,
        env = "COGNIGY_API_KEY",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "KEY"
    )]
    api_key: Option<String>,

    /// Secret of the API key: both are exchanged for a token, as in S1.
    #[arg(
        long,
        env = "COGNIGY_API_SECRET",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "SECRET",
        requires = "api_key"
    )]
    api_secret: Option<String>,

    /// Id of a client whose token is used in place of an API key.
    #[arg(
        long,
        env = "COGNIGY_CLIENT_ID",
        value_name = "ID",
        conflicts_with = "api_key"
    )]
    client_id: Option<String>,

    /// Secret of the client.
    #[arg(
        long,
        env = "COGNIGY_CLIENT_SECRET",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "SECRET",
        requires = "client_id"
    )]
    client_secret: Option<String>,

    /// How the client asks for a token.
    #[arg(long, default_value = "basic-form")]
    grant: Grant,

    /// Scope that tokens are asked for, such as `webhooks:write`. Repeat the flag for several. Default: those of the document.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,

    #[command(flatten)]
    network: Network,
}

impl Api {
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The client of the API.
    pub fn webhooks(self) -> Result<Webhooks, Failure> {
        let client = self.network.client()?;
        let rules = self.network.rules();
        let connection = Connection::builder(&self.api)
            .rules(rules)
            .transport(client.clone())
            .rate_limit(RateLimitLayer::documents());
        let token = |mut grant: ClientCredentials| {
            if !self.scope.is_empty() {
                grant = grant.scopes(&self.scope);
            }
            let tokens = TokenSource::builder(grant, &self.api).rules(rules);
            tokens.build(client).map(Credential::token)
        };
        let id_and_secret = self.client_id.zip(self.client_secret);
        let credential = match (self.api_key, self.api_secret, id_and_secret) {
            (Some(key), None, _) => Credential::api_key(key)?,
            (Some(key), Some(secret), _) => {
                token(ClientCredentials::basic_json(key, Secret::new(secret)))?
            }
            (None, _, Some((id, secret))) => {
                let secret = Secret::new(secret);
                token(match self.grant {
                    Grant::BasicForm => ClientCredentials::basic_form(id, secret),
                    Grant::BasicJson => ClientCredentials::basic_json(id, secret),
                    Grant::Form => ClientCredentials::form(id, secret),
                })?
            }
            (None, _, None) => {
                return Err(Failure::usage(
                    "give --api-key, or --client-id and --client-secret, or COGNIGY_API_KEY in the environment",
                ));
            }
        };
        Ok(Webhooks::over(connection.credential(credential).build()?))
    }
}
