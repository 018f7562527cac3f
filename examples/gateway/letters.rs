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
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::task::TaskTracker;
use tower_webhook::{
    BoxError,
    attempt::History,
    body::BufferedBody,
    dead_letter::{
        CallbackSink, DeadLetters, Filter, JsonlLetters, Letter, LetterEnd, LetterId, LetterStore,
        MemoryLetters, SinkError, SqliteLetters,
        redrive::{NotSendable, ReadHistory, Redrive, Resend, Run, Stop},
    },
    metrics::Recorder,
    outcome::HttpClassifier,
};

/// A letter is sent again this often at the most.
const MAX_REPLAYS: u32 = 10;

/// Letters per second, of a re-drive of many.
const RATE: f64 = 50.0;

/// How long the letters that are being sent again have when the gateway stops.
const LAST: Duration = Duration::from_secs(1);

type Again = Redrive<Stack, HttpClassifier, ToDownstream>;

/// To where events go now: the address in the letter has no credentials any more.
#[derive(Clone)]
struct ToDownstream(Arc<Deliverer>);

impl Resend for ToDownstream {
    type Request = Request<BufferedBody>;

    fn to_request(&self, letter: &Letter) -> Result<Request<BufferedBody>, NotSendable> {
        if letter.body.is_truncated() {
            return Err(NotSendable::because("the letter has not the whole body"));
        }
        let body = letter.body.bytes().clone();
        Ok(self.0.request(body, letter.idempotency_key.as_deref()))
    }
}

impl<B> ReadHistory<Response<B>> for ToDownstream {
    fn history<'a>(&self, response: &'a Response<B>) -> Option<&'a History> {
        response.extensions().get()
    }
}

pub struct Letters {
    sink: DeadLetters,
    kept: Kept,
    stop: Stop,
    running: TaskTracker,
}

/// What is known of letters once they are written.
enum Kept {
    /// Nothing but how many: they are posted away.
    Away(Arc<AtomicU64>),
    Here(Arc<dyn LetterStore>, Again),
}

impl Letters {
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
                let letters = JsonlLetters::open(path).map_err(|error| unfit(error.into()))?;
                here(letters, deliverer)?
            }
            Place::Memory => here(MemoryLetters::default(), deliverer)?,
            Place::Sqlite(path) => {
                let database = databases.open(FLAG, path)?;
                let letters = SqliteLetters::new(&database).map_err(|error| unfit(error.into()))?;
                here(letters, deliverer)?
            }
        };
        let recorder = deliverer.recorder.clone();
        let away = match &kept {
            Kept::Away(written) => Some(Arc::clone(written)),
            Kept::Here(..) => None,
        };
        let sink = sink.on_end(move |letter, end| {
            recorder.dead_lettered(&letter.target, letter.cause.reason.as_str(), end.as_str());
            let (id, reason, end) = (letter.id, letter.cause.reason, end);
            tracing::warn!(%id, letter.event_id, %reason, end = end.as_str(), "a dead letter");
            if let Some(away) = away.as_ref().filter(|_| end != LetterEnd::Lost) {
                away.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self {
            sink,
            kept,
            stop: Stop::new(),
            running: TaskTracker::new(),
        })
    }

    /// Where the workers write.
    pub fn sink(&self) -> DeadLetters {
        self.sink.clone()
    }

    /// Where letters can be asked for, if there.
    pub fn store(&self) -> Option<&dyn LetterStore> {
        match &self.kept {
            Kept::Away(_) => None,
            Kept::Here(store, _) => Some(&**store),
        }
    }

    /// How many there are; of those that are posted away, how many were since the start.
    pub async fn count(&self) -> Result<u64, SinkError> {
        match &self.kept {
            Kept::Away(written) => Ok(written.load(Ordering::Relaxed)),
            Kept::Here(store, _) => store.count(&Filter::all()).await,
        }
    }

    /// Sends one again, in the background.
    pub fn redrive_one(&self, id: LetterId, by: &'static str) -> bool {
        let Some(again) = self.again() else {
            return false;
        };
        let sent = again.one(id, by);
        self.running.spawn(async move {
            match sent.await {
                Ok(redriven) => tracing::info!(%id, end = redriven.as_str(), "sent again"),
                Err(error) => tracing::warn!(%id, %error, "not sent again"),
            }
        });
        true
    }

    /// Sends all again that match, in the background.
    pub fn redrive_many(&self, filter: Filter, by: &'static str) -> bool {
        let Some(again) = self.again() else {
            return false;
        };
        let run = again.run(Run::new(filter, by).until(&self.stop));
        self.running.spawn(async move {
            match run.await {
                Ok(report) => tracing::info!(counts = ?report.counts, "letters were sent again"),
                Err(error) => tracing::warn!(%error, "the letters cannot be read"),
            }
        });
        true
    }

    fn again(&self) -> Option<&Again> {
        match &self.kept {
            Kept::Here(_, again) if !self.running.is_closed() => Some(again),
            _ => None,
        }
    }

    /// Ends between two letters. What is not sent by then stays.
    pub async fn stop(&self) {
        self.stop.stop();
        self.running.close();
        let _ = tokio::time::timeout(LAST, self.running.wait()).await;
    }
}

fn here<L: LetterStore + Clone>(
    letters: L,
    deliverer: &Arc<Deliverer>,
) -> Result<(DeadLetters, Kept), Problem> {
    let store: Arc<dyn LetterStore> = Arc::new(letters.clone());
    let again = Redrive::builder(Arc::clone(&store))
        .max_replays(MAX_REPLAYS)
        .rate(RATE)
        .classifier(deliverer.classifier())
        .resend(ToDownstream(Arc::clone(deliverer)))
        .build(deliverer.patiently())
        .map_err(|error| Problem::new("--dead-letters", error))?;
    Ok((DeadLetters::new(letters), Kept::Here(store, again)))
}
