//! What becomes of deliveries that failed for good: the place that `--dead-letters` names, and how
//! its entries are sent again.

use crate::{
    args::{Args, Place, Problem},
    deliver::{Deliverer, POSTING, Stack, posting},
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
    dead_letter::{
        CallbackSink, DeadLetters, DescribeResponse, Entry, Filter, JsonlDeadLetters, LetterStore,
        MemoryDeadLetters,
        redrive::{NotSendable, Redrive, Resend},
    },
    outcome::HttpClassifier,
};
use tower_webhook_sqlite::SqliteDeadLetters;

/// The most often that an entry is sent again.
const MAX_REPLAYS: u32 = 10;

/// Entries a second, in a re-drive of many.
const RATE: f64 = 50.0;

pub type Again = Redrive<Stack, HttpClassifier, ToDownstream>;

/// Sends entries to where events go now: the address in an entry has lost its credentials.
#[derive(Clone)]
pub struct ToDownstream(Arc<Deliverer>);

impl Resend for ToDownstream {
    type Request = Request<BufferedBody>;

    fn to_request(&self, entry: &Entry) -> Result<Request<BufferedBody>, NotSendable> {
        if entry.body.is_truncated() {
            return Err(NotSendable::because("the entry has not the whole body"));
        }
        let body = entry.body.bytes().clone();
        Ok(self.0.request(body, entry.idempotency_key.as_deref()))
    }
}

impl<B> DescribeResponse<Response<B>> for ToDownstream {
    fn history<'a>(&self, response: &'a Response<B>) -> Option<&'a History> {
        response.extensions().get()
    }
}

/// The sink of the workers and, where its entries can be read again, the re-drive.
pub struct DeadLetterHandling {
    sink: DeadLetters,
    kept: Kept,
}

/// What can be done with entries that are written.
enum Kept {
    /// Nothing: they were posted away. Their number since the start.
    Away(AtomicU64),
    Here(Again),
}

impl DeadLetterHandling {
    pub fn open(
        args: &Args,
        databases: &mut Databases,
        deliverer: &Arc<Deliverer>,
    ) -> Result<Self, Problem> {
        const FLAG: &str = "--dead-letters";
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
                // The longest body, in base64 at worst, and the rest of its record.
                let longest = 2 * args.max_body + (1 << 20);
                let entries = JsonlDeadLetters::builder()
                    .max_entry_bytes(longest)
                    .max_file_bytes((2 * longest as u64).max(16 << 20))
                    .open(path)
                    .map_err(|error| unfit(error.into()))?;
                here(entries, deliverer)?
            }
            Place::Memory => here(MemoryDeadLetters::default(), deliverer)?,
            Place::Sqlite(path) => {
                let database = databases.open(FLAG, path)?;
                let entries =
                    SqliteDeadLetters::new(&database).map_err(|error| unfit(error.into()))?;
                here(entries, deliverer)?
            }
        };
        Ok(Self { sink, kept })
    }

    /// The sink of the workers.
    pub fn sink(&self) -> DeadLetters {
        self.sink.clone()
    }

    /// How entries are sent again; `None` where they are posted away.
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

    /// How many there are. Of those that are posted away: how many since the start.
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
) -> Result<(DeadLetters, Kept), Problem> {
    let again = Redrive::builder(Arc::new(entries.clone()))
        .max_replays(MAX_REPLAYS)
        .rate(RATE)
        .classifier(deliverer.classifier())
        .resend(ToDownstream(Arc::clone(deliverer)))
        .build(deliverer.patiently())
        .map_err(|error| Problem::new("--dead-letters", error))?;
    Ok((DeadLetters::new(entries), Kept::Here(again)))
}
