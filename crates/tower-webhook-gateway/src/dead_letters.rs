//! Dead letters: the store that `--dead-letters` names, and how its entries are sent again.

use crate::{
    args::{Args, Place, Problem},
    deliver::{self, Deliverer, POSTING, Redriven, posting},
    routes::Errand,
    stores::Databases,
};
use http::{Request, Response};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tower_webhook::{
    BoxError, StoreError,
    attempt::History,
    body::BufferedBody,
    context::JudgedInside,
    dead_letter::{
        CallbackSink, DeadLetters, DescribeResponse, Entry, Filter, JsonlDeadLetters, LetterStore,
        MemoryDeadLetters,
        redrive::{NotSendable, Redrive, Resend},
    },
    lease::FencingToken,
    queue::{Queue, TaskId},
};
use tower_webhook_cognigy::routing::Routes;
use tower_webhook_sqlite::SqliteDeadLetters;

/// How many times an entry may be sent again.
const MAX_REPLAYS: u32 = 10;

/// The rate limit of a re-drive, in entries per second.
const RATE: f64 = 50.0;

pub(crate) type Again = Redrive<deliver::Again, JudgedInside, ToDownstream>;

/// Sends entries to the current downstream, because the URI in an entry has lost its credentials.
#[derive(Clone)]
pub(crate) struct ToDownstream(Arc<Deliverer>);

impl Resend for ToDownstream {
    type Request = Request<BufferedBody>;

    fn to_request(
        &self,
        entry: &Entry,
        _: FencingToken,
    ) -> Result<Request<BufferedBody>, NotSendable> {
        if entry.body.is_truncated() {
            return Err(NotSendable::because("the entry has not the whole body"));
        }
        let body = entry.body.bytes().clone();
        let mut req = self.0.request(body, entry.idempotency_key.as_deref());
        if let Some(errand) = Errand::of_entry(entry) {
            req.extensions_mut().insert(errand);
        }
        let task = TaskId::from_bytes(*entry.task_id.unwrap_or(entry.id).as_bytes());
        req.extensions_mut().insert(Redriven(task));
        Ok(req)
    }
}

impl<B> DescribeResponse<Response<B>> for ToDownstream {
    fn history<'a>(&self, response: &'a Response<B>) -> Option<&'a History> {
        response.extensions().get()
    }
}

/// The sink of the workers and, if its entries can be read, the re-drive.
pub(crate) struct DeadLetterHandling {
    sink: DeadLetters,
    kept: Kept,
}

/// How written entries can be used.
enum Kept {
    /// They were posted to a URL and cannot be read. Their number since the start.
    Away(AtomicU64),
    Here(Again),
}

impl DeadLetterHandling {
    pub fn open(
        args: &Args,
        databases: &mut Databases,
        deliverer: &Arc<Deliverer>,
        queue: &Queue,
        routes: Option<&Routes>,
    ) -> Result<Self, Problem> {
        const FLAG: &str = "--dead-letters";
        let again = || deliverer.again(routes.cloned(), queue.clone());
        let unfit = |error: BoxError| Problem::new(FLAG, error);
        let (sink, kept) = match &args.dead_letters {
            Place::Callback(url) => {
                let unfit = |error| Problem::new(FLAG, error);
                let sink = CallbackSink::new(&url.to_string(), posting(args)?)
                    .and_then(|sink| sink.time_limit(2 * POSTING))
                    .map_err(unfit)?;
                let sink = DeadLetters::new(sink).time_limit(2 * POSTING);
                (sink.map_err(unfit)?, Kept::Away(AtomicU64::default()))
            }
            Place::Jsonl(path) => {
                // The longest body, in base64 in the worst case, and the rest of its record.
                let longest = 2 * args.max_body + (1 << 20);
                let entries = JsonlDeadLetters::builder()
                    .max_entry_bytes(longest)
                    .max_bytes((4 * longest as u64).max(64 << 20))
                    .observe(deliverer.observers.clone())
                    .open(path)
                    .map_err(|error| unfit(error.into()))?;
                here(entries, deliverer, again())?
            }
            Place::Memory => here(MemoryDeadLetters::default(), deliverer, again())?,
            Place::Sqlite(path) => {
                let database = databases.open(FLAG, path)?;
                let entries =
                    SqliteDeadLetters::new(&database).map_err(|error| unfit(error.into()))?;
                here(entries, deliverer, again())?
            }
        };
        Ok(Self { sink, kept })
    }

    /// The sink of the workers.
    pub fn sink(&self) -> DeadLetters {
        self.sink.clone()
    }

    /// The re-drive; `None` if entries are posted to a URL.
    pub fn redrive(&self) -> Option<&Again> {
        match &self.kept {
            Kept::Away(_) => None,
            Kept::Here(again) => Some(again),
        }
    }

    /// Counts an entry that was written.
    pub fn written(&self) {
        if let Kept::Away(written) = &self.kept {
            written.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of entries; if they are posted to a URL, the number since the start.
    pub async fn count(&self) -> Result<u64, StoreError> {
        match &self.kept {
            Kept::Away(written) => Ok(written.load(Ordering::Relaxed)),
            Kept::Here(again) => again.store().count(&Filter::all()).await,
        }
    }
}

fn here<L: LetterStore + Clone>(
    entries: L,
    deliverer: &Arc<Deliverer>,
    again: deliver::Again,
) -> Result<(DeadLetters, Kept), Problem> {
    let again = Redrive::builder(Arc::new(entries.clone()))
        .max_replays(MAX_REPLAYS)
        .rate(RATE)
        .classifier(JudgedInside)
        .observe(deliverer.observers.clone())
        .resend(ToDownstream(Arc::clone(deliverer)))
        .build(again)
        .map_err(|error| Problem::new("--dead-letters", error))?;
    Ok((DeadLetters::new(entries), Kept::Here(again)))
}
