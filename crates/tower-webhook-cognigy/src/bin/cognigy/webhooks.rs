//! The commands about webhooks of the documents' API, and the probe.

use crate::{
    api::{Api, Network},
    output::{self, Failure, Output},
};
use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt};
use http::Uri;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    pin::pin,
};
use tower_webhook::target::TargetRules;
use tower_webhook_cognigy::{
    documents::{BackoffStrategy, NewWebhook, PolicyUpdate, RetryPolicy},
    probe::Probe,
};

#[derive(Args)]
pub struct Register {
    /// Files with a webhook, or an array of webhooks, as JSON. `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Do not ask the targets first whether they can be reached with TLS 1.2 or 1.3.
    #[arg(long)]
    no_probe: bool,

    /// Registrations at the same time.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    concurrency: u16,

    #[command(flatten)]
    api: Api,
}

fn webhooks(path: &Path, rules: TargetRules) -> Result<Vec<NewWebhook>, Failure> {
    let name = path.display();
    let read: Value = serde_json::from_slice(&output::read(path)?)
        .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    let many = match read {
        Value::Array(many) => many,
        one => vec![one],
    };
    let read = many.iter().enumerate().map(|(index, one)| {
        let at = index + 1;
        NewWebhook::from_json(one, rules)
            .map_err(|error| Failure::usage(format!("{name}: webhook {at}: {error}")))
    });
    read.collect()
}

impl Register {
    pub async fn run(self, output: &Output) -> Result<(), Failure> {
        let mut all = Vec::new();
        for file in &self.files {
            all.extend(webhooks(file, self.api.network().rules())?);
        }
        let count = all.len();
        let probe = if self.no_probe {
            None
        } else {
            Some(prober(self.api.network())?)
        };
        let api = self.api.webhooks()?;
        let mut failed = 0;
        let mut reachable = Vec::new();
        let bar = output.progress(count);
        if let Some(probe) = probe {
            bar.set_message("probed");
            for webhook in all {
                let report = probe.check(webhook.url()).await;
                bar.inc(1);
                if report.is_reachable() && (report.has_accepted_tls() || is_plain(webhook.url())) {
                    reachable.push(webhook);
                    continue;
                }
                failed += 1;
                let why = match report.error() {
                    Some(error) => error.to_string(),
                    None => "TLS 1.2 or 1.3 is needed".to_owned(),
                };
                let item = json!({"endpoint": webhook.name(), "success": false, "error": why});
                bar.suspend(|| {
                    output.result(&item, || format!("failed\t{}\t{why}", webhook.name()))
                })?;
            }
        } else {
            reachable = all;
        }
        bar.reset();
        bar.set_length(reachable.len() as u64);
        bar.set_message("registered");
        let mut items = pin!(api.register_all(reachable, self.concurrency.into()));
        while let Some(item) = items.next().await {
            bar.inc(1);
            failed += usize::from(item.result.is_err());
            bar.suspend(|| {
                output.result(&item, || match &item.result {
                    Ok(registered) => {
                        let id = registered.id().escape_debug();
                        format!("registered\t{}\t{id}", item.name)
                    }
                    Err(error) => {
                        let why = output::with_causes(error);
                        format!("failed\t{}\t{why}", item.name)
                    }
                })
            })?;
        }
        bar.finish_and_clear();
        if failed > 0 {
            return Err(Failure::Some { failed, of: count });
        }
        Ok(())
    }
}

/// Whether a target has no TLS, which `--allow-private` permits.
fn is_plain(uri: &Uri) -> bool {
    uri.scheme_str() == Some("http")
}

fn prober(network: &Network) -> Result<Probe, Failure> {
    let probe = Probe::new().rules(network.rules());
    Ok(match network.roots()? {
        Some(pem) => probe.root_certificates(pem)?,
        None => probe,
    })
}

#[derive(Args)]
pub struct List {
    /// Id of the bot.
    bot: String,

    #[command(flatten)]
    api: Api,
}

impl List {
    pub async fn run(self, output: &Output) -> Result<(), Failure> {
        let api = self.api.webhooks()?;
        let mut hooks = pin!(api.list(&self.bot));
        while let Some(hook) = hooks.try_next().await? {
            output.result(&hook, || {
                let text = |text: Option<&str>| text.unwrap_or("-").escape_debug().to_string();
                format!("{}\t{}", text(hook.id()), text(hook.name()))
            })?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Strategy {
    Exponential,
    Linear,
}

#[derive(Args)]
pub struct Patch {
    /// Id of the bot.
    bot: String,

    /// Id of the webhook.
    webhook: String,

    /// Idempotency key: the same one sends the same policy again without effect.
    #[arg(long, value_name = "KEY")]
    key: String,

    /// Attempts, the first included: 1 to 10.
    #[arg(long, default_value_t = 3, value_name = "N")]
    max_attempts: u32,

    /// How delays grow.
    #[arg(long, default_value = "exponential")]
    backoff: Strategy,

    /// First delay, in milliseconds.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    base_delay_ms: u64,

    /// Longest delay, in milliseconds.
    #[arg(long, default_value_t = 30_000, value_name = "MS")]
    max_delay_ms: u64,

    /// Time in which retries begin, in seconds: 1 to 86400.
    #[arg(long, default_value_t = 3600, value_name = "S")]
    max_retry_window_seconds: u64,

    #[command(flatten)]
    api: Api,
}

impl Patch {
    pub async fn run(self, output: &Output) -> Result<(), Failure> {
        let policy = RetryPolicy::builder()
            .max_attempts(self.max_attempts)
            .backoff(match self.backoff {
                Strategy::Exponential => BackoffStrategy::Exponential,
                Strategy::Linear => BackoffStrategy::Linear,
            })
            .base_delay_ms(self.base_delay_ms)
            .max_delay_ms(self.max_delay_ms)
            .max_retry_window_seconds(self.max_retry_window_seconds)
            .build()?;
        let api = self.api.webhooks()?;
        let update = api.set_retry_policy(&self.bot, &self.webhook, &policy, &self.key);
        let update = update.await?;
        output.result(&update, || match &update {
            PolicyUpdate::Skipped => "skipped".to_owned(),
            _ => format!("updated\t{}", self.webhook),
        })
    }
}

#[derive(Args)]
pub struct Targets {
    /// URLs to ask.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,

    #[command(flatten)]
    network: Network,
}

impl Targets {
    pub async fn run(self, output: &Output) -> Result<(), Failure> {
        let probe = prober(&self.network)?;
        // None is shown that is refused: it may have a password in it.
        let parse = |(index, url): (usize, &String)| {
            let refused = |why| Failure::usage(format!("target {}: {why}", index + 1));
            let url: Uri = url.parse().map_err(|_| refused("is no URL"))?;
            match url.authority() {
                Some(authority) if authority.as_str().contains('@') => {
                    Err(refused("must have no user and no password"))
                }
                _ => Ok(url),
            }
        };
        let urls = self.urls.iter().enumerate().map(parse);
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let mut failed = 0;
        for (text, url) in self.urls.iter().zip(&urls) {
            let report = probe.check(url).await;
            let good = report.is_reachable() && (report.has_accepted_tls() || is_plain(url));
            failed += usize::from(!good);
            let mut json = serde_json::to_value(&report).unwrap_or_default();
            json["url"] = json!(text);
            output.result(&json, || {
                let verdict = if good { "reachable" } else { "refused" };
                let tls = report
                    .tls_version()
                    .map_or("none", |version| version.as_str());
                let status = report.status().map_or(0, |status| status.as_u16());
                let mut line = format!("{verdict}\t{text}\t{tls}\t{status}");
                if let Some(error) = report.error() {
                    line.push('\t');
                    line.push_str(&error.to_string());
                }
                line
            })?;
        }
        match failed {
            0 => Ok(()),
            failed => Err(Failure::Some {
                failed,
                of: urls.len(),
            }),
        }
    }
}
