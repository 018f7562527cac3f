//! The main job of `tower-webhook` as one program: receive Cognigy webhooks, verify them, accept each once,
//! answer at once, deliver in the background, and report their status.
//!
//! ```sh
//! cargo run --release -p tower-webhook-gateway             # embedded defaults
//! cargo run --release -p tower-webhook-gateway -- --demo   # sends itself sample traffic
//! ```
//!
//! When it is ready it prints `listening on http://ADDR:PORT` on stdout and nothing else; generated
//! secrets, a signed `curl` command and the log go to stderr. `--help` lists the flags.
//!
//! Where to look: `app.rs` has the receiving pipeline and the routes, `events.rs` the accepted events,
//! `deliver.rs` the worker and the delivery stack, `routes.rs` the definitions of `--routes`, `dead_letters.rs` the
//! dead letters. The operator routes are `tower-webhook-operator`.

#![warn(clippy::print_stderr, clippy::print_stdout)]

/// Writes a line to stderr. Unlike `eprintln!`, does not panic if stderr is closed, such as a pipe whose reader
/// has ended.
macro_rules! say {
    ($($line:tt)+) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($line)+);
    }};
}

mod app;
mod args;
mod credential;
mod dead_letters;
mod deliver;
mod demo;
mod echo;
mod events;
mod guesses;
mod health;
mod hints;
mod metrics;
mod peer;
mod routes;
mod server;
mod stores;

use crate::{
    app::App,
    args::{Args, Problem, target_rules},
    dead_letters::DeadLetterHandling,
    deliver::Deliverer,
    events::Events,
    health::StoreState,
    metrics::MetricsPage,
    server::Stop,
    stores::Databases,
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tower_webhook::{body::BodyBudget, observe::Observers};
use tower_webhook_operator::Operator;

/// The time limit for everything that runs to end, after a signal.
const LAST: Duration = Duration::from_secs(9);

/// The time limit for running re-drives when the gateway stops.
const REDRIVES: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(problem) => return problem.report(),
    };
    args.log.start();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => problem.report(),
    }
}

async fn run(args: Args) -> Result<(), Problem> {
    // First: a signal may arrive as soon as the address is known.
    let mut stop = Stop::catch().map_err(|error| Problem::new("signals", error))?;
    let places = server::places(deliver::handles(&args))?;
    // Before anything is stored: an address in use is the most likely mistake.
    let listener = server::bind(&args.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Problem::new("--listen", error))?;

    let routes = routes::load(&args)?;
    let (downstream, _echo) = match &args.downstream {
        Some(url) => (Some(url.clone()), None),
        None if routes.is_some() => (None, None),
        None => {
            let echo = echo::start().await?;
            (Some(echo.url()), Some(echo))
        }
    };

    let target = downstream.as_ref();
    let target = target.map_or_else(|| routes::TARGET.to_owned(), deliver::target);
    let page = MetricsPage::install()?;
    let deliverer = Arc::new(Deliverer::new(&args, downstream, &page.exporter()?)?);
    let mut databases = Databases::new(deliverer.observers.clone());
    let (queue, events) = stores::open(&args, &mut databases, &target).await?;
    let events = events.with_routes(routes.clone());
    let dead_letters =
        DeadLetterHandling::open(&args, &mut databases, &deliverer, &queue, routes.as_ref())?;
    let bodies = BodyBudget::new(args.body_budget)
        .share_by(|head| head.extensions.get::<peer::Peer>().copied());
    let operator = operator(&args, &bodies, &deliverer.observers, &dead_letters, &events)?;
    let app = Arc::new(App {
        events,
        queue,
        dead_letters,
        operator,
        deliverer,
        routes,
        page,
        degraded_at: args.degraded_at,
        bodies,
        stores: StoreState::default(),
        lookups: Semaphore::new(App::LOOKUPS),
    });
    let router = app::router(&app, &args)?;
    server::announce(address);
    hints::print(&args, address);

    let deliveries = deliver::start(&app)?;
    let probing = args.downstream.clone().map(|url| {
        let rules = target_rules(args.allow_private);
        tokio::spawn(async move { deliver::probe(&url, rules).await })
    });
    let taking_up = tokio::spawn(app.events.clone().take_up());
    let until = async {
        if args.demo {
            tokio::select! {
                () = demo::run(&args, address) => {}
                () = stop.asked() => {}
            }
        } else {
            stop.asked().await;
        }
    };
    let finishing = server::serve(
        listener,
        router,
        args.trusted_proxies.clone(),
        places,
        until,
    )
    .await;
    let ended = tokio::time::timeout(LAST, async {
        finishing.wait().await;
        app.operator.stop(REDRIVES).await;
        deliver::stop(deliveries).await;
        taking_up.abort();
        if let Some(probing) = probing {
            probing.abort();
        }
        databases.close().await;
    });
    if ended.await.is_err() {
        // Nothing is lost: every event that was answered is on the disk.
        tracing::warn!("ended before everything was closed");
    }
    Ok(())
}

/// The operator routes, over the events and dead letters of this gateway.
fn operator(
    args: &Args,
    bodies: &BodyBudget,
    observers: &Observers,
    dead_letters: &DeadLetterHandling,
    events: &Events,
) -> Result<Operator, Problem> {
    let mut operator = Operator::builder(args.operator_token.as_str())
        .max_body(args.max_body)
        .body_budget(bodies.clone())
        .loop_guard(args.loop_guard.clone().observe(observers.clone()))
        .observe(observers.clone())
        .no_dead_letters(
            "dead letters are posted to the URL of --dead-letters and not stored here: look for them there",
        )
        .events(events.clone());
    if let Some(again) = dead_letters.redrive() {
        operator = operator.redrive(again.clone());
    }
    let operator = operator.build();
    operator.map_err(|error| match error.setting() {
        "budget" => Problem::new("--body-budget", error),
        _ => Problem::new("--operator-token", error),
    })
}
