//! Messages to an endpoint of the official platform.

use crate::{
    api::Network,
    output::{self, Failure, Output},
};
use clap::Args;
use serde_json::{Map, Value, json};
use tower_webhook::signature::Secret;
use tower_webhook_cognigy::{
    connection::Connection,
    credential::Credential,
    platform::{EndpointClient, Message, Reply, UrlToken},
};

#[derive(Args)]
pub struct Send {
    /// Id of the user.
    #[arg(long, value_name = "ID")]
    user: String,

    /// Id of the session.
    #[arg(long, value_name = "ID")]
    session: String,

    /// Text of the message.
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    text: Option<String>,

    /// Data of the message: a JSON object.
    #[arg(long, value_name = "JSON")]
    data: Option<String>,

    /// URL of the endpoint, with its URL token, as the platform shows it.
    #[arg(
        long,
        env = "COGNIGY_ENDPOINT_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    endpoint: String,

    /// API key of the endpoint, sent as `X-Webhook-Key`.
    #[arg(
        long,
        env = "COGNIGY_WEBHOOK_KEY",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "KEY"
    )]
    webhook_key: Option<String>,

    #[command(flatten)]
    network: Network,
}

/// What is done with the message.
#[derive(Clone, Copy)]
pub enum Way {
    Inject,
    Notify,
    Send,
}

impl Send {
    fn message(&self) -> Result<Message, Failure> {
        if self.text.is_none() && self.data.is_none() {
            return Err(Failure::usage("a message needs --text or --data"));
        }
        let mut message = Message::new(&self.user, &self.session);
        if let Some(text) = &self.text {
            message = message.text(text);
        }
        if let Some(data) = &self.data {
            let data: Map<String, Value> = serde_json::from_str(data)
                .map_err(|error| Failure::usage(format!("--data: {error}")))?;
            message = message.fields(data);
        }
        Ok(message)
    }

    fn client(&self) -> Result<EndpointClient, Failure> {
        let url = self.endpoint.trim_end_matches('/');
        // The URL is not shown: its token is a secret.
        let (base, token) = url
            .rsplit_once('/')
            .ok_or_else(|| Failure::usage("--endpoint: must be the URL of an endpoint"))?;
        let token: UrlToken = token.parse()?;
        let mut connection = Connection::builder(base)
            .rules(self.network.rules())
            .transport(self.network.client()?);
        if let Some(key) = &self.webhook_key {
            let key = Secret::new(key.as_str());
            connection = connection.credential(Credential::header("X-Webhook-Key", key)?);
        }
        Ok(EndpointClient::over(connection.build()?, token))
    }

    pub async fn run(self, way: Way, output: &Output) -> Result<(), Failure> {
        let (message, client) = (self.message()?, self.client()?);
        let taken =
            |what: &'static str| output.result(&json!({"status": what}), || what.to_owned());
        match way {
            Way::Inject => {
                client.inject(&message).await?;
                taken("injected")
            }
            Way::Notify => {
                client.notify(&message).await?;
                taken("notified")
            }
            Way::Send => match client.send(&message).await? {
                Reply::Rest(reply) => output.result(&reply, || {
                    let texts = reply
                        .output_stack
                        .iter()
                        .filter_map(|one| one.text.as_deref());
                    output::plain(&texts.collect::<Vec<_>>().join("\n"))
                }),
                _ => taken("accepted"),
            },
        }
    }
}
