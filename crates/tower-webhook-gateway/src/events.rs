//! Accepted events: in a file by `tower-webhook-sqlite`, or in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    idempotency::IdempotencyKey,
    queue::{Enqueued, NewJob, Queue},
};
use tower_webhook_operator::{EventLog, Trigger};
use tower_webhook_sqlite::{AcceptedEvent, AcceptedEvents};

const HOUR: u64 = 60 * 60;

/// How long a repeat is recognised at least. An event is accepted until its timestamp is a day less than this
/// old, 7 days, and from a day before.
pub const KEPT: Duration = Duration::from_secs(8 * 24 * HOUR);

/// How long an event and the status of its task are kept: a little longer, so that a clock that is corrected
/// leaves no gap in which an event is still recent and its key forgotten.
pub const RETENTION: Duration = KEPT.saturating_add(Duration::from_secs(HOUR));

/// The largest number of events in memory, and of the bytes of their bodies. When it is exceeded, the oldest
/// are removed: they are still delivered, but cannot be replayed.
const MAX_IN_MEMORY: usize = 100_000;
const MAX_BYTES_IN_MEMORY: usize = 128 << 20;

/// The queue counts as full for this long after it refused an event.
const FULL: Duration = Duration::from_secs(10);

/// The kind of all jobs.
const KIND: &str = "event";

/// The scope of the keys of events that have an id of their own.
pub const EVENT: &str = "cognigy/event";

/// The name of an event: downstream, in dead letters, and for operators. An event with an id of its own has
/// that as its name; any other has its key with the scope, which is never the id of an event.
fn name(key: &IdempotencyKey) -> String {
    match IdempotencyKey::new("", key.id()) {
        Ok(plain) if key.scope() == EVENT => plain.to_text(),
        _ => key.to_text(),
    }
}

/// The key of the event with this name.
fn named(name: &str) -> Option<IdempotencyKey> {
    match IdempotencyKey::from_text(name).ok()? {
        plain if plain.scope().is_empty() => IdempotencyKey::new(EVENT, plain.id()).ok(),
        key => Some(key),
    }
}

#[derive(Clone)]
pub(crate) struct Events {
    kept: Kept,
    queue: Queue,
    /// The target of all jobs: the downstream's host.
    target: Arc<str>,
    full: Arc<Mutex<Option<Instant>>>,
    /// When an event was stored last.
    stored: Arc<Mutex<Option<Instant>>>,
}

#[derive(Clone)]
enum Kept {
    Memory(Arc<Mutex<Memory>>),
    Stored(AcceptedEvents),
}

#[derive(Default)]
struct Memory {
    next_row: u64,
    events: BTreeMap<u64, AcceptedEvent>,
    by_key: HashMap<IdempotencyKey, u64>,
    bytes: usize,
}

impl Events {
    /// Events in memory.
    pub fn memory(queue: Queue, target: &str) -> Self {
        Self::new(Kept::Memory(Arc::default()), queue, target)
    }

    /// Events in a file.
    pub fn stored(events: AcceptedEvents, queue: Queue, target: &str) -> Self {
        Self::new(Kept::Stored(events), queue, target)
    }

    fn new(kept: Kept, queue: Queue, target: &str) -> Self {
        Self {
            kept,
            queue,
            target: target.into(),
            full: Arc::default(),
            stored: Arc::default(),
        }
    }

    /// The delivery of an event.
    pub fn job(&self, event: &AcceptedEvent) -> NewJob {
        self.named(event.job(KIND), event)
    }

    fn named(&self, mut job: NewJob, event: &AcceptedEvent) -> NewJob {
        let name = name(&event.key);
        job.about.idempotency_key = Some(name.clone());
        job.about.event_id = Some(name);
        job.target(&*self.target)
    }

    /// Stores an event and queues its delivery. A repeat gets the first one's task.
    pub async fn accept(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        let accepted = match &self.kept {
            Kept::Memory(memory) => self.accept_in_memory(memory, job).await,
            Kept::Stored(events) => events.accept(job).await,
        };
        self.noted(accepted)
    }

    /// Like [`accept`](Self::accept), for an operator, whose action is recorded before or with it.
    async fn accept_by(
        &self,
        job: NewJob,
        action: &'static str,
        subject: String,
    ) -> Result<Enqueued, StoreError> {
        log_action(action, &subject);
        let accepted = match &self.kept {
            Kept::Memory(memory) => self.accept_in_memory(memory, job).await,
            Kept::Stored(events) => events.accept_by(job, action, subject).await,
        };
        self.noted(accepted)
    }

    fn noted(&self, accepted: Result<Enqueued, StoreError>) -> Result<Enqueued, StoreError> {
        let now = Some(Instant::now());
        match &accepted {
            Ok(_) => *lock(&self.stored) = now,
            Err(error) if error.kind() == StoreErrorKind::Full => *lock(&self.full) = now,
            Err(_) => {}
        }
        accepted
    }

    async fn accept_in_memory(
        &self,
        memory: &Mutex<Memory>,
        job: NewJob,
    ) -> Result<Enqueued, StoreError> {
        let event = job
            .dedup_key
            .clone()
            .map(|key| AcceptedEvent::new(key, job.payload.clone()));
        // The queue first: an event that it refuses takes no place from those that it accepts.
        let accepted = self.queue.enqueue(job).await?;
        if let Some(event) = event {
            lock(memory).insert(event);
        }
        Ok(accepted)
    }

    /// Whether an event was refused in the last seconds because there is no room.
    pub fn was_full(&self) -> bool {
        lock(&self.full).is_some_and(|when| when.elapsed() < FULL)
    }

    /// Whether an event was stored since then.
    pub fn were_accepted_since(&self, then: Instant) -> bool {
        lock(&self.stored).is_some_and(|when| when >= then)
    }

    /// Whether events can be stored.
    pub async fn probe(&self) -> Result<(), StoreError> {
        match &self.kept {
            Kept::Memory(_) => Ok(()),
            Kept::Stored(events) => events.probe().await,
        }
    }

    /// Marks an event whose delivery is over.
    pub fn finished(&self, key: &IdempotencyKey) {
        if let Kept::Stored(events) = &self.kept {
            events.finished(key);
        }
    }

    /// Enqueues the events of earlier starts that are not finished.
    pub async fn take_up(self) {
        if let Kept::Stored(events) = &self.kept {
            let taken = events.take_up(|event| self.job(event)).await;
            if taken > 0 {
                tracing::info!(taken, "events of the run before are in the queue");
            }
        }
    }

    async fn find(&self, key: &IdempotencyKey) -> Result<Option<AcceptedEvent>, StoreError> {
        match &self.kept {
            Kept::Memory(memory) => Ok(lock(memory).find(key)),
            Kept::Stored(events) => events.find(key).await,
        }
    }
}

/// The operations of operators on events.
impl EventLog for Events {
    fn replay(&self, event_id: &str) -> BoxFuture<Result<Option<Enqueued>, StoreError>> {
        let (this, key) = (self.clone(), named(event_id));
        Box::pin(async move {
            // Text that names no key names no event.
            let Some(key) = key else {
                return Ok(None);
            };
            let Some(event) = this.find(&key).await? else {
                return Ok(None);
            };
            let job = this.named(event.replay(KIND), &event);
            let queued = this.accept_by(job, "replay", name(&key)).await;
            queued.map(Some)
        })
    }

    fn trigger(&self, trigger: Trigger) -> BoxFuture<Result<Enqueued, StoreError>> {
        let this = self.clone();
        let subject = name(&trigger.key);
        let mut job = self.job(&AcceptedEvent::new(trigger.key, trigger.payload));
        if trigger.event_id.is_some() {
            job.about.event_id = trigger.event_id;
        }
        Box::pin(async move { this.accept_by(job, "trigger", subject).await })
    }

    fn audit(&self, action: &'static str, subject: &str) -> BoxFuture<Result<(), StoreError>> {
        log_action(action, subject);
        let (kept, subject) = (self.kept.clone(), subject.to_owned());
        Box::pin(async move {
            match kept {
                Kept::Memory(_) => Ok(()),
                Kept::Stored(events) => events.audit(action, subject).await,
            }
        })
    }
}

/// The line in the log outlives the process, also where the events are in memory.
fn log_action(action: &'static str, subject: &str) {
    tracing::info!(target: "gateway::audit", action, subject, "an operator acts");
}

impl Memory {
    fn insert(&mut self, event: AcceptedEvent) {
        if self.by_key.contains_key(&event.key) {
            return;
        }
        self.bytes += event.body.len();
        self.next_row += 1;
        self.by_key.insert(event.key.clone(), self.next_row);
        self.events.insert(self.next_row, event);
        while self.events.len() > MAX_IN_MEMORY || self.bytes > MAX_BYTES_IN_MEMORY {
            let Some((_, oldest)) = self.events.pop_first() else {
                return;
            };
            self.bytes -= oldest.body.len();
            self.by_key.remove(&oldest.key);
        }
    }

    fn find(&self, key: &IdempotencyKey) -> Option<AcceptedEvent> {
        self.events.get(self.by_key.get(key)?).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_webhook::queue::MemoryQueue;

    #[tokio::test]
    async fn a_full_queue_refuses_an_event_and_is_known_to_be_full() {
        let queue = MemoryQueue::builder().max_jobs(1).build();
        let events = Events::memory(Queue::new(queue.expect("limits")), "target");
        let job = |id: &str| {
            let key = IdempotencyKey::new("cognigy/event", id).expect("a key");
            events.job(&AcceptedEvent::new(key, "{}"))
        };
        let before = Instant::now();
        events.accept(job("one")).await.expect("room for one");
        assert!(events.were_accepted_since(before) && !events.was_full());
        let after = Instant::now();
        let refused = events.accept(job("two")).await.expect_err("no room");
        assert_eq!(refused.kind(), StoreErrorKind::Full);
        assert!(events.was_full() && !events.were_accepted_since(after));
        // A repeat of the one that is there is no new job.
        assert!(events.accept(job("one")).await.expect("known").repeated);
    }
}
