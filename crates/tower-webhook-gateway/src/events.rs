//! Accepted events: in a file by `tower-webhook-sqlite`, or in memory.

use crate::routes::{self, Routed};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    idempotency::IdempotencyKey,
    observe::{Event, Id, Observers},
    queue::{Enqueued, NewJob, Queue, Status, Task},
};
use tower_webhook_cognigy::routing::Routes;
use tower_webhook_operator::{EventDelivery, EventLog, EventStatus, Trigger};
use tower_webhook_sqlite::{AcceptedEvent, AcceptedEvents};

const HOUR: u64 = 60 * 60;

/// How long a repeat is recognised at least. An event is accepted until its timestamp is a day less than this
/// old, 7 days, and from a day before.
pub const KEPT: Duration = Duration::from_secs(8 * 24 * HOUR);

/// How long an event and the status of its task are kept: a little longer, so that a clock that is corrected
/// leaves no gap in which an event is still recent and its key forgotten.
pub const RETENTION: Duration = KEPT.saturating_add(Duration::from_secs(HOUR));

/// The largest number of events in memory, and of the bytes of their bodies by default. When it is exceeded, the
/// oldest are removed: they are still delivered, but cannot be replayed.
const MAX_IN_MEMORY: usize = 100_000;
const MAX_BYTES_IN_MEMORY: usize = 128 << 20;

/// The queue counts as full for this long after it refused an event.
const FULL: Duration = Duration::from_secs(10);

/// The kind of the jobs of events.
pub const KIND: &str = "event";

/// The scope of the keys of events that have an id of their own.
pub const EVENT: &str = "cognigy/event";

/// The name of an event: downstream, in dead letters, and for operators. An event with an id of its own has
/// that as its name; any other has its key with the scope, which is never the id of an event.
pub fn name(key: &IdempotencyKey) -> String {
    match IdempotencyKey::new("", key.id()) {
        Ok(plain) if key.scope() == EVENT => plain.to_text(),
        _ => key.to_text(),
    }
}

/// The key of the event with this name.
pub fn named(name: &str) -> Option<IdempotencyKey> {
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
    routes: Option<Routes>,
    full: Arc<Mutex<Option<Instant>>>,
    /// When an event was stored last.
    stored: Arc<Mutex<Option<Instant>>>,
}

#[derive(Clone)]
enum Kept {
    Memory(Arc<Mutex<Memory>>, Observers),
    Stored(AcceptedEvents),
}

struct Memory {
    max_bytes: usize,
    next_row: u64,
    events: BTreeMap<u64, AcceptedEvent>,
    by_key: HashMap<IdempotencyKey, u64>,
    bytes: usize,
    /// The number of events that were removed because there was no room.
    removed: u64,
}

impl Events {
    /// Events in memory, whose bodies take so many bytes at most. The observers hear when one is removed before
    /// its time.
    pub fn memory(
        queue: Queue,
        target: &str,
        max_bytes: Option<u64>,
        observers: Observers,
    ) -> Self {
        let max_bytes = max_bytes.map_or(MAX_BYTES_IN_MEMORY, |bytes| {
            usize::try_from(bytes).unwrap_or(usize::MAX)
        });
        let memory = Mutex::new(Memory::new(max_bytes));
        Self::new(Kept::Memory(memory.into(), observers), queue, target)
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
            routes: None,
            full: Arc::default(),
            stored: Arc::default(),
        }
    }

    /// Where events go beside the downstream.
    pub fn with_routes(mut self, routes: Option<Routes>) -> Self {
        self.routes = routes;
        self
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
            Kept::Memory(memory, observers) => self.accept_in_memory(memory, observers, job).await,
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
            Kept::Memory(memory, observers) => self.accept_in_memory(memory, observers, job).await,
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
        observers: &Observers,
        job: NewJob,
    ) -> Result<Enqueued, StoreError> {
        let event = job
            .dedup_key
            .clone()
            .map(|key| AcceptedEvent::new(key, job.payload.clone()));
        // The queue first: an event that it refuses takes no place from those that it accepts.
        let accepted = self.queue.enqueue(job).await?;
        if let Some(event) = event {
            // A repeat of one that was removed is not kept again.
            let removed = (!accepted.repeated).then(|| lock(memory).insert(event));
            if let Some(Some(removed)) = removed {
                observers.tell(|| Event::Trouble {
                    part: "accepted_events",
                    what: "events take more than may be: the oldest were removed before their time",
                    detail: Some(Id::new(&removed)),
                });
            }
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
            Kept::Memory(..) => Ok(()),
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
            Kept::Memory(memory, _) => Ok(lock(memory).find(key)),
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
        job.about.hops = trigger.hops.map(|hops| hops.to_string());
        Box::pin(async move { this.accept_by(job, "trigger", subject).await })
    }

    fn status(&self, event_id: &str) -> BoxFuture<Result<Option<EventStatus>, StoreError>> {
        let (this, key) = (self.clone(), named(event_id));
        Box::pin(async move {
            let Some(key) = key else {
                return Ok(None);
            };
            let task = this.queue.find(key.clone()).await?;
            let recorded = task.as_ref().and_then(Routed::of_task);
            if let Some(routed) = recorded {
                let own = task.filter(|_| !routed.alone).map(EventDelivery::new);
                let routed = routed.deliveries(&this.queue).await?;
                let all: Vec<_> = own.into_iter().chain(routed).collect();
                return Ok(Some(all.into()));
            }
            let event = match (&task, &this.routes) {
                (Some(_), None) => None,
                // Without a task it is stored, and its delivery is not in the queue yet.
                _ => this.find(&key).await?,
            };
            if task.is_none() && event.is_none() {
                return Ok(None);
            }
            // Where there is no downstream, nothing was sent by the one that routed it.
            let routed = |task: &Task| {
                &*this.target == routes::TARGET && matches!(task.status, Status::Succeeded { .. })
            };
            let task = task.filter(|task| !routed(task));
            let mut deliveries: Vec<_> = task.map(EventDelivery::new).into_iter().collect();
            if let (Some(routes), Some(event)) = (&this.routes, event) {
                deliveries.extend(routes::deliveries(routes, &this.queue, &key, event.body).await?);
            }
            Ok(Some(deliveries.into()))
        })
    }

    fn audit(&self, action: &'static str, subject: &str) -> BoxFuture<Result<(), StoreError>> {
        log_action(action, subject);
        let (kept, subject) = (self.kept.clone(), subject.to_owned());
        Box::pin(async move {
            match kept {
                Kept::Memory(..) => Ok(()),
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
    fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            next_row: 0,
            events: BTreeMap::new(),
            by_key: HashMap::new(),
            bytes: 0,
            removed: 0,
        }
    }

    /// Keeps an event. If others had to leave, the number of all that have left so far.
    fn insert(&mut self, event: AcceptedEvent) -> Option<u64> {
        if self.by_key.contains_key(&event.key) {
            return None;
        }
        let before = self.removed;
        self.bytes += event.body.len();
        self.next_row += 1;
        self.by_key.insert(event.key.clone(), self.next_row);
        self.events.insert(self.next_row, event);
        while self.events.len() > MAX_IN_MEMORY || self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.events.pop_first() else {
                break;
            };
            self.bytes -= oldest.body.len();
            self.by_key.remove(&oldest.key);
            self.removed += 1;
        }
        (self.removed > before).then_some(self.removed)
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
        let queue = Queue::new(queue.expect("limits"));
        let events = Events::memory(queue, "target", None, Observers::none());
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

    #[test]
    fn the_bodies_in_memory_are_bounded_and_those_that_leave_are_counted() {
        let mut memory = Memory::new(4000);
        let event = |id: u64| {
            let key = IdempotencyKey::new(EVENT, &id.to_string()).expect("a key");
            AcceptedEvent::new(key, vec![b' '; 1000])
        };
        let removed: Vec<_> = (0..6).map(|id| memory.insert(event(id))).collect();
        assert_eq!(removed, [None, None, None, None, Some(1), Some(2)]);
        assert_eq!(memory.insert(event(5)), None, "it is there");
        assert!(memory.find(&event(1).key).is_none());
        assert!(memory.find(&event(2).key).is_some());
    }
}
