//! Where what could not be delivered is kept, and how it is sent again.

use crate::{
    args::{Args, Place, Problem},
    deliver::{Deliverer, POSTING, Stack, posting},
    stores::Databases,
};
use http::{Request, Response};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_webhook::{
    BoxError, StoreError,
    attempt::History,
    body::BufferedBody,
    dead_letter::{
        CallbackSink, DeadLetters, DescribeResponse, Entry, EntryId, Filter, JsonlDeadLetters,
        LetterStore, MemoryDeadLetters,
        redrive::{NotSendable, Redrive, Redriven, Resend, Run, Stop},
    },
    observe::{Event, observer_fn},
    outcome::HttpClassifier,
};
use tower_webhook_sqlite::SqliteDeadLetters;

/// An entry is sent again this often at the most.
const MAX_REPLAYS: u32 = 10;

/// DeadLetterDesk per second, of a re-drive of many.
const RATE: f64 = 50.0;

/// How long the entries that are being sent again have when the gateway stops.
const LAST: Duration = Duration::from_secs(1);

/// DeadLetterDesk that are being given back have this long.
const GIVING_BACK: Duration = Duration::from_millis(200);

/// How long a re-drive of one is waited for, to say whether it is made at all.
const AT_ONCE: Duration = Duration::from_millis(100);

type Again = Redrive<Stack, HttpClassifier, ToDownstream>;

/// To where events go now: the address in the entry has no credentials any more.
#[derive(Clone)]
struct ToDownstream(Arc<Deliverer>);

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

pub struct DeadLetterDesk {
    sink: DeadLetters,
    kept: Kept,
    stop: Stop,
    running: TaskTracker,
    /// Ends what does not end by itself.
    cut: CancellationToken,
    /// A run over many is under way.
    many: Arc<AtomicBool>,
}

/// What is known of entries once they are written.
enum Kept {
    /// Nothing but how many: they are posted away.
    Away(Arc<AtomicU64>),
    Here(Arc<dyn LetterStore>, Again),
}

impl DeadLetterDesk {
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
                (sink.map_err(unfit)?, Kept::Away(Arc::default()))
            }
            Place::Jsonl(path) => {
                // The longest body, as text or in base64, and the rest of its record.
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
        let away = match &kept {
            Kept::Away(written) => Some(Arc::clone(written)),
            Kept::Here(..) => None,
        };
        let sink = sink.observe(observer_fn(move |event| {
            if let (Event::DeadLettered { .. }, Some(away)) = (event, &away) {
                away.fetch_add(1, Ordering::Relaxed);
            }
        }));
        Ok(Self {
            sink,
            kept,
            stop: Stop::new(),
            running: TaskTracker::new(),
            cut: CancellationToken::new(),
            many: Arc::default(),
        })
    }

    /// Where the workers write.
    pub fn sink(&self) -> DeadLetters {
        self.sink.clone()
    }

    /// Where entries can be asked for, if there.
    pub fn store(&self) -> Option<&dyn LetterStore> {
        match &self.kept {
            Kept::Away(_) => None,
            Kept::Here(store, _) => Some(&**store),
        }
    }

    /// How many there are; of those that are posted away, how many were since the start.
    pub async fn count(&self) -> Result<u64, StoreError> {
        match &self.kept {
            Kept::Away(written) => Ok(written.load(Ordering::Relaxed)),
            Kept::Here(store, _) => store.count(&Filter::all()).await,
        }
    }

    /// Sends one again, in the background. `false` where that is not done: somebody else is sending
    /// it, it is gone, or has been sent again as often as may be.
    pub async fn redrive_one(&self, id: EntryId, by: &'static str) -> bool {
        let Some(again) = self.again() else {
            return false;
        };
        let sent = again.one(id, by);
        let cut = self.cut.clone();
        let mut sending = self.running.spawn(async move {
            let sent = cut.run_until_cancelled(sent).await;
            match &sent {
                None => {}
                Some(Ok(redriven)) => tracing::info!(%id, end = redriven.as_str(), "a re-drive"),
                Some(Err(error)) => tracing::warn!(%id, %error, "a re-drive cannot begin"),
            }
            sent
        });
        // What is refused is refused at once; a delivery takes its time.
        match tokio::time::timeout(AT_ONCE, &mut sending).await {
            Err(_) => true,
            Ok(Ok(Some(Ok(redriven)))) => matches!(
                redriven,
                Redriven::Accepted | Redriven::Failed { .. } | Redriven::NotRemoved { .. }
            ),
            Ok(_) => false,
        }
    }

    /// Sends all again that match, in the background. `false` where a run is under way: presses
    /// add up to no more than one.
    pub fn redrive_many(&self, filter: Filter, by: &'static str) -> bool {
        let Some(again) = self.again() else {
            return false;
        };
        if self.many.swap(true, Ordering::SeqCst) {
            return false;
        }
        let run = again.run(Run::new(filter, by).until(&self.stop));
        let (cut, many) = (self.cut.clone(), Arc::clone(&self.many));
        self.running.spawn(async move {
            match cut.run_until_cancelled(run).await {
                None => {}
                Some(Ok(report)) => tracing::info!(?report, "a run of re-drives"),
                Some(Err(error)) => tracing::warn!(%error, "the entries cannot be read"),
            }
            many.store(false, Ordering::SeqCst);
        });
        true
    }

    fn again(&self) -> Option<&Again> {
        match &self.kept {
            Kept::Here(_, again) if !self.running.is_closed() => Some(again),
            _ => None,
        }
    }

    /// Ends between two entries. What is not sent by then stays.
    pub async fn stop(&self) {
        self.stop.stop();
        self.running.close();
        if tokio::time::timeout(LAST, self.running.wait())
            .await
            .is_err()
        {
            // What is dropped gives its entries back, for the next start.
            self.cut.cancel();
            self.running.wait().await;
            tokio::time::sleep(GIVING_BACK).await;
        }
    }
}

fn here<L: LetterStore + Clone>(
    entries: L,
    deliverer: &Arc<Deliverer>,
) -> Result<(DeadLetters, Kept), Problem> {
    let store: Arc<dyn LetterStore> = Arc::new(entries.clone());
    let again = Redrive::builder(Arc::clone(&store))
        .max_replays(MAX_REPLAYS)
        .rate(RATE)
        .classifier(deliverer.classifier())
        .resend(ToDownstream(Arc::clone(deliverer)))
        .build(deliverer.patiently())
        .map_err(|error| Problem::new("--dead-letters", error))?;
    Ok((DeadLetters::new(entries), Kept::Here(store, again)))
}
