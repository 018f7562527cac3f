//! The crate's main job as one program: receive Cognigy webhooks, verify them, accept each once,
//! answer at once, deliver in the background, and say what became of them.
//!
//! ```sh
//! cargo run --release --example gateway --features gateway             # embedded defaults
//! cargo run --release --example gateway --features gateway -- --demo   # sends itself sample traffic
//! ```
//!
//! When it is ready it prints `listening on http://ADDR:PORT` on stdout and nothing else; generated
//! secrets, a signed `curl` command and the log go to stderr. `--help` lists the flags.
//!
//! Where to look: `app.rs` has the pipeline, `deliver.rs` the way out, `events.rs` what is stored.

mod app;
mod args;
mod deliver;
mod demo;
mod echo;
mod events;
mod health;
mod hints;
mod metrics;
mod server;

use crate::{
    app::App,
    args::{Args, Problem, StoreUrl},
    events::Events,
    server::Stop,
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tower_webhook::{
    idempotency::{MemoryStore, store::sqlite::SqliteStore},
    sqlite::Database,
};

/// How long everything that runs has to end, once we are asked to.
const LAST: Duration = Duration::from_secs(9);

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
    // Before anybody can know that we are here.
    let mut stop = Stop::catch().map_err(|error| Problem::new("signals", error))?;
    // Before anything is stored: an address that cannot be had is the likeliest mistake.
    let listener = server::bind(args.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Problem::new("--listen", error))?;

    let (downstream, _echo) = if let Some(url) = &args.downstream {
        (url.clone(), None)
    } else {
        let echo = echo::start().await?;
        (echo.url(), Some(echo))
    };

    let (app, router, database) = match &args.store {
        StoreUrl::Memory => {
            let app = Arc::new(App::new(&args, Events::memory(), downstream)?);
            let router = app.router(&MemoryStore::default())?;
            (app, router, None)
        }
        StoreUrl::Sqlite(path) => {
            let open = || -> Result<_, tower_webhook::BoxError> {
                let database = Database::open(path)?;
                let store = SqliteStore::new(&database)?;
                let events = Events::sqlite(&database)?;
                Ok((database, store, events))
            };
            let (database, store, events) =
                open().map_err(|error| Problem::new("--store", error))?;
            let app = Arc::new(App::new(&args, events, downstream)?);
            let router = app.router(&store)?;
            (app, router, Some(database))
        }
    };
    server::announce(address);
    hints::print(&args, address);

    let deliveries = deliver::start(app);
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
    let finishing = server::serve(listener, router, until).await;
    let ended = tokio::time::timeout(LAST, async {
        finishing.wait().await;
        deliveries.stop().await;
        if let Some(database) = database {
            database.close().await;
        }
    });
    if ended.await.is_err() {
        // Nothing that was answered is lost: it was on the disk before its answer.
        tracing::warn!("ended before everything was closed");
    }
    Ok(())
}
