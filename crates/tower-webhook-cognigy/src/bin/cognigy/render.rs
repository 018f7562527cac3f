//! Rendering a template against an event from a file.

use crate::{
    api::Network,
    output::{self, Failure, Output},
};
use clap::Args;
use serde_json::{Map, Value, json};
use std::{path::PathBuf, sync::Arc};
use tower::Layer;
use tower_webhook::cognigy::{CognigyEvent, WebhookDelivery};
use tower_webhook_cognigy::{
    credential::Credentials,
    routing::{Definition, Input, LoadError, RouteError, Routes},
};

#[derive(Args)]
pub struct Render {
    /// File with a definition, or a folder of definitions.
    #[arg(value_name = "DEFINITION")]
    definition: PathBuf,

    /// File with an event, as JSON: of the documents, of the platform, or any object. `-` is stdin.
    #[arg(value_name = "EVENT")]
    event: PathBuf,

    /// Render definitions too whose conditions the event does not meet.
    #[arg(long)]
    all: bool,

    /// File of the credentials that definitions name, as the gateway reads it. Nothing is sent to a target; lookups are sent
    /// with theirs. Default: names are not checked, and lookups are sent without.
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,

    #[command(flatten)]
    network: Network,
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::usage(output::with_causes(&error))
    }
}

/// Reads an event in the form that it has.
fn input(bytes: Vec<u8>) -> Result<Input, RouteError> {
    if let Ok(event) = CognigyEvent::from_bytes(bytes.clone()) {
        return Input::try_from(&event);
    }
    match WebhookDelivery::from_bytes(bytes.clone()) {
        Ok(delivery) => Input::try_from(&delivery),
        Err(_) => Input::trigger(bytes),
    }
}

impl Render {
    fn routes(&self) -> Result<Routes, Failure> {
        let (rules, client) = (self.network.rules(), self.network.client()?);
        let routes = Routes::builder().targets(rules);
        let routes = match &self.credentials {
            None => routes.http(client),
            Some(file) => {
                let json = output::read(file)?;
                let credentials = Credentials::from_json(&json, rules, &client);
                let credentials = credentials
                    .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
                routes
                    .credentials(credentials.clone())
                    .http(credentials.layer(client))
            }
        };
        // A pipe is read as it is: there is nothing beside it.
        if self.definition.is_dir() || self.definition.is_file() {
            return Ok(routes.load(&self.definition)?);
        }
        let name = self.definition.display();
        let definition = Definition::from_json(&output::read(&self.definition)?)
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        let routes = routes.build([definition]);
        routes.map_err(|error| Failure::usage(format!("{name}: {error}")))
    }

    pub async fn run(self, output: &Output) -> Result<(), Failure> {
        let routes = self.routes()?;
        let name = self.event.display();
        let input = input(output::read(&self.event)?)
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        let definitions: Vec<Arc<Definition>> = if self.all {
            routes.definitions()
        } else {
            routes.matching(&input)
        };
        if definitions.is_empty() {
            return Err(Failure::Refused(
                "the event meets the conditions of no definition".to_owned(),
            ));
        }
        let mut failed = 0;
        for definition in &definitions {
            let name = definition.name();
            match routes.render(definition, &input).await {
                Ok(req) => {
                    let body = String::from_utf8_lossy(req.body().as_bytes());
                    let headers = req.headers().iter().map(|(name, value)| {
                        let value = String::from_utf8_lossy(value.as_bytes());
                        (name.to_string(), Value::from(value))
                    });
                    let json = json!({
                        "definition": name,
                        "method": req.method().as_str(),
                        "url": req.uri().to_string(),
                        "headers": headers.collect::<Map<_, _>>(),
                        "body": body,
                    });
                    output.result(&json, || body.into_owned())?;
                }
                Err(error) => {
                    failed += 1;
                    let json = json!({"definition": name, "error": error.to_string()});
                    let why = output::with_causes(&error);
                    output.result(&json, || format!("failed\t{name}\t{why}"))?;
                }
            }
        }
        match failed {
            0 => Ok(()),
            failed => Err(Failure::Some {
                failed,
                of: definitions.len(),
            }),
        }
    }
}
