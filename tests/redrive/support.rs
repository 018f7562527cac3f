//! What the tests share.

use http::{Request, Response};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tokio::task::JoinSet;
use tower::{service_fn, util::BoxCloneSyncService};
use tower_webhook::{
    BoxError, BoxFuture, StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::{
        Cause, Discarded, Entry, EntryBody, EntryClaim, EntryId, Filter, LetterStore, Listing,
        MemoryDeadLetters, Page, Reason, Sink,
        redrive::{Redrive, RedriveBuilder, Report},
    },
    lease::{FencingToken, Settled},
    outcome::LocallyRefused,
};

pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) type Client =
    BoxCloneSyncService<Request<BufferedBody>, Response<BufferedBody>, BoxError>;

pub(crate) fn id(number: u64) -> EntryId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

pub(crate) fn entry(number: u64) -> Entry {
    let written_at = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number);
    let cause = Cause::new(Reason::RetriesExhausted).with_code(Some(503));
    let mut entry = Entry::new(id(number), "http", "a.test", cause, written_at);
    entry.method = Some("POST".to_owned());
    entry.uri = Some("https://a.test/hooks".to_owned());
    entry.idempotency_key = Some(format!("key-{number}"));
    entry.body = EntryBody::new(&number.to_string().into(), 1024);
    entry
}

pub(crate) async fn filled(entries: impl IntoIterator<Item = Entry>) -> Arc<MemoryDeadLetters> {
    let store = MemoryDeadLetters::default();
    for entry in entries {
        store.write(&Arc::new(entry)).await.unwrap();
    }
    Arc::new(store)
}

pub(crate) async fn left(store: &dyn LetterStore) -> u64 {
    store.count(&Filter::all()).await.unwrap()
}

pub(crate) async fn replays(store: &dyn LetterStore, number: u64) -> u32 {
    store.get(id(number)).await.unwrap().unwrap().replays
}

/// Without a rate, so that the tests say what they wait for.
pub(crate) fn builder(store: &Arc<MemoryDeadLetters>) -> RedriveBuilder {
    Redrive::builder(store.clone()).no_rate()
}

pub(crate) fn redrive(store: &Arc<MemoryDeadLetters>, client: Client) -> Redrive<Client> {
    builder(store).build(client).unwrap()
}

/// Runs them together, over entries that nobody sent before, and sees each sent once.
pub(crate) async fn each_once(redrives: Vec<Redrive<Client>>, peer: &Peer, entries: u64) {
    let mut runs = JoinSet::new();
    for (number, redrive) in redrives.into_iter().enumerate() {
        runs.spawn(redrive.many(Filter::all(), &format!("operator {number}")));
    }
    let reports = runs.join_all().await;
    let reports: Vec<Report> = reports.into_iter().map(Result::unwrap).collect();
    let accepted: u64 = reports.iter().map(|report| report.accepted).sum();
    assert_eq!(accepted, entries);
    let seen = peer.seen();
    assert_eq!(seen.len() as u64, entries);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    for report in reports {
        assert_eq!(report.done(), report.matched);
    }
}

/// What a peer does with a request.
pub(crate) enum Answer {
    Status(u16),
    After(Duration, u16),
    Error(BoxError),
    Panic,
    Never,
}

/// Our own side, for this long.
pub(crate) fn refuses(wait: Duration) -> Answer {
    Answer::Error(LocallyRefused::after(wait).into())
}

/// A peer that notes what it gets: the body, which is the number of the entry.
#[derive(Clone, Default)]
pub(crate) struct Peer {
    seen: Arc<Mutex<HashMap<u64, u32>>>,
    answered: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Peer {
    /// Behaves by the number of the entry, and how often it was seen, from 1.
    pub(crate) fn behaving(
        &self,
        behave: impl Fn(u64, u32) -> Answer + Send + Sync + 'static,
    ) -> Client {
        let (peer, behave) = (self.clone(), Arc::new(behave));
        BoxCloneSyncService::new(service_fn(move |req: Request<BufferedBody>| {
            let (peer, behave) = (peer.clone(), behave.clone());
            async move {
                let number = std::str::from_utf8(req.body().as_bytes())?.parse::<u64>()?;
                assert_eq!(req.headers()["idempotency-key"], format!("key-{number}"));
                let times = {
                    let mut seen = peer.seen.lock().unwrap();
                    let times = seen.entry(number).or_default();
                    *times += 1;
                    *times
                };
                let now = peer.now.fetch_add(1, Ordering::SeqCst) + 1;
                peer.most.fetch_max(now, Ordering::SeqCst);
                let _leaves = Leaves(peer.now.clone());
                let status = match behave(number, times) {
                    Answer::Status(status) => status,
                    Answer::After(time, status) => {
                        tokio::time::sleep(time).await;
                        status
                    }
                    Answer::Error(error) => return Err(error),
                    Answer::Panic => panic!("on purpose"),
                    Answer::Never => std::future::pending().await,
                };
                peer.answered.fetch_add(1, Ordering::SeqCst);
                let body = BufferedBody::default();
                Ok(Response::builder().status(status).body(body)?)
            }
        }))
    }

    /// How often each entry was seen.
    pub(crate) fn seen(&self) -> HashMap<u64, u32> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn times(&self, number: u64) -> u32 {
        self.seen().get(&number).copied().unwrap_or(0)
    }

    /// How many requests it has answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// How many it had at the same time at the most.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A store of which operations fail as often as they are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaky {
    pub(crate) inner: Arc<MemoryDeadLetters>,
    pub(crate) list: Arc<AtomicU32>,
    pub(crate) claim: Arc<AtomicU32>,
    pub(crate) renew: Arc<AtomicU32>,
    pub(crate) release: Arc<AtomicU32>,
    pub(crate) remove: Arc<AtomicU32>,
    /// Removes, and says that it failed.
    pub(crate) mute_remove: Arc<AtomicU32>,
    /// Operations take a turn of the runtime, and this long.
    pub(crate) takes: Duration,
}

impl Flaky {
    pub(crate) fn of(inner: &Arc<MemoryDeadLetters>) -> Self {
        Self {
            inner: inner.clone(),
            ..Self::default()
        }
    }

    fn or_fail<T: Send + 'static>(
        &self,
        fails: &AtomicU32,
        work: impl FnOnce(Arc<MemoryDeadLetters>) -> BoxFuture<Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let less = |fails: u32| fails.checked_sub(1);
        let failed = fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        let (inner, takes) = (self.inner.clone(), self.takes);
        Box::pin(async move {
            tokio::task::yield_now().await;
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            if failed.is_ok() {
                return Err(StoreError::new(StoreErrorKind::Unavailable));
            }
            let done = work(inner).await;
            tokio::task::yield_now().await;
            done
        })
    }
}

impl Sink for Flaky {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        self.inner.write(entry)
    }
}

impl LetterStore for Flaky {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.or_fail(&self.list, move |inner| inner.list(&filter, &page))
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        self.inner.get(id)
    }

    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>> {
        self.or_fail(&self.claim, move |inner| {
            inner.claim(id, lease, max_replays)
        })
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.or_fail(&self.renew, move |inner| inner.renew(id, token, lease))
    }

    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let entry = entry.clone();
        self.or_fail(&self.release, move |inner| inner.release(token, &entry))
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        let less = |fails: u32| fails.checked_sub(1);
        let mute = (self.mute_remove).fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        self.or_fail(&self.remove, move |inner| {
            let removed = inner.remove(id, token);
            if mute.is_err() {
                return removed;
            }
            Box::pin(async move {
                let _ = removed.await?;
                Err(StoreError::new(StoreErrorKind::Timeout))
            })
        })
    }

    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        self.inner.discard(id)
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        self.inner.count(filter)
    }
}
