//! An engine of your own: a queue whose jobs are files in a folder, for one process. It is checked with the
//! contract of every engine.
//!
//! ```sh
//! cargo run --example custom_engine --features queue
//! ```
//!
//! Each job is two files, `ID.payload` and `ID.json`. A change of a job replaces its second file, so that it is
//! made as a whole or not at all. What is due next is known from an index in memory, which is made when the folder
//! is opened. The engine promises no deduplication, no FIFO groups, no limit per target and no status: the contract
//! leaves out the rules for those.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{
    BoxError, BoxFuture, StoreError, StoreErrorKind,
    clock::WallClock,
    codec,
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{
        Ask, Claim, Claims, End, Engine, Enqueued, Job, Kinds, Mark, NewJob, Promises, TaskId,
        contract,
    },
};

/// The longest wait and lease, in milliseconds: a century.
const LONGEST: u64 = 100 * 366 * 86_400_000;

/// The state of a job. A failed one waits for its dead-letter entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum State {
    Queued,
    Running,
    Failed,
    FailedAndClaimed,
}

/// What a file says of a job.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    seq: u64,
    kind: String,
    target: String,
    about: String,
    /// Kept for who does the job; the engine does not look at it.
    key: Option<(String, String)>,
    accepted: u64,
    state: State,
    /// When it is due, or when its lease ends, in milliseconds since 1970.
    at: u64,
    token: u64,
    attempts: u32,
    history: String,
    cause: Option<String>,
}

/// A place in the order of claims.
type Spot = (u64, u64, TaskId);

struct Jobs {
    folder: PathBuf,
    /// Whether what was answered is on the disk.
    is_durable: bool,
    records: HashMap<TaskId, Record>,
    order: HashMap<(State, String), BTreeSet<Spot>>,
    next: u64,
    /// The greatest token of those that were removed since it was opened.
    last_token: u64,
    /// Counts what made something claimable.
    changes: u64,
}

#[derive(Clone)]
struct FolderQueue {
    jobs: Arc<Mutex<Jobs>>,
    clock: WallClock,
    attempts: u32,
    max_jobs: usize,
}

fn full() -> StoreError {
    StoreError::new(StoreErrorKind::Full)
}

fn unavailable(error: io::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable).caused_by(error)
}

fn corrupt(error: impl Into<BoxError>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt).caused_by(error)
}

/// Writes a file so that it is there as a whole, or not at all; and on the disk, if that is asked for.
fn replace(path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    if sync {
        fs::File::open(&new)?.sync_all()?;
    }
    fs::rename(&new, path)?;
    if sync {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

impl Jobs {
    fn open(folder: PathBuf, is_durable: bool) -> Result<Self, StoreError> {
        let mut jobs = Self {
            folder,
            is_durable,
            records: HashMap::new(),
            order: HashMap::new(),
            next: 0,
            last_token: 0,
            changes: 1,
        };
        for file in fs::read_dir(&jobs.folder).map_err(unavailable)? {
            let path = file.map_err(unavailable)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let id = path
                .file_stem()
                .and_then(|name| name.to_str()?.parse().ok());
            let id = id.ok_or_else(|| corrupt(format!("{} is no job", path.display())))?;
            let text = fs::read(&path).map_err(unavailable)?;
            let record: Record = serde_json::from_slice(&text).map_err(corrupt)?;
            jobs.next = jobs.next.max(record.seq + 1);
            jobs.index(id, &record);
            jobs.records.insert(id, record);
        }
        Ok(jobs)
    }

    fn path(&self, id: TaskId, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    fn index(&mut self, id: TaskId, record: &Record) {
        let key = (record.state, record.kind.clone());
        let spot = (record.at, record.seq, id);
        self.order.entry(key).or_default().insert(spot);
    }

    fn unindex(&mut self, id: TaskId, record: &Record) {
        let key = (record.state, record.kind.clone());
        if let Some(spots) = self.order.get_mut(&key) {
            spots.remove(&(record.at, record.seq, id));
            if spots.is_empty() {
                self.order.remove(&key);
            }
        }
    }

    /// Stores a job as it is now. If it fails, the job is as it was.
    fn put(&mut self, id: TaskId, record: Record, sync: bool) -> Result<(), StoreError> {
        let text = serde_json::to_vec(&record).map_err(corrupt)?;
        let sync = sync && self.is_durable;
        replace(&self.path(id, "json"), &text, sync).map_err(unavailable)?;
        if let Some(before) = self.records.remove(&id) {
            self.unindex(id, &before);
        }
        self.index(id, &record);
        if matches!(record.state, State::Queued | State::Failed) {
            self.changes += 1;
        }
        self.records.insert(id, record);
        Ok(())
    }

    fn remove(&mut self, id: TaskId) -> Result<(), StoreError> {
        // Without its first file it is no job.
        fs::remove_file(self.path(id, "json")).map_err(unavailable)?;
        let _ = fs::remove_file(self.path(id, "payload"));
        if let Some(record) = self.records.remove(&id) {
            self.last_token = self.last_token.max(record.token + 1);
            self.unindex(id, &record);
        }
        Ok(())
    }

    fn count(&self, states: &[State]) -> usize {
        let order = self.order.iter();
        let of_states = order.filter(|((state, _), _)| states.contains(state));
        of_states.map(|(_, spots)| spots.len()).sum()
    }

    /// The first in a state, of these kinds.
    fn first(&self, state: State, kinds: &Kinds) -> Option<Spot> {
        let order = self.order.iter();
        let asked = order.filter(|((of, kind), _)| *of == state && kinds.has(kind));
        asked.filter_map(|(_, spots)| spots.first().copied()).min()
    }

    /// Ends the leases that are over.
    fn expire(&mut self, now: u64, attempts: u32) -> Result<(), StoreError> {
        for state in [State::Running, State::FailedAndClaimed] {
            while let Some((at, _, id)) = self.first(state, &Kinds::All)
                && at <= now
            {
                let Some(mut record) = self.records.get(&id).cloned() else {
                    break;
                };
                if state == State::FailedAndClaimed {
                    record.state = State::Failed;
                    record.token += 1;
                } else if record.attempts >= attempts {
                    record.state = State::Failed;
                    record.cause = Some(codec::encode(&Cause::new(Reason::WorkerLost)));
                } else {
                    record.state = State::Queued;
                }
                self.put(id, record, false)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, job: NewJob, now: u64, max: usize) -> Result<Enqueued, StoreError> {
        let id = job.id;
        let wait = job.wait(
            UNIX_EPOCH + Duration::from_millis(now),
            Duration::from_millis(LONGEST),
        )?;
        // A job that failed for good is queued again, if that is asked for.
        let before = self.records.get(&id);
        let failed = [State::Failed, State::FailedAndClaimed];
        // Greater than those of a job with this id that was removed.
        let mut token = now.max(self.last_token);
        if let Some(record) = before {
            if !(job.requeue && failed.contains(&record.state)) {
                let repeated = true;
                return Ok(Enqueued { id, repeated });
            }
            token = token.max(record.token + 1);
        }
        let live = self.count(&[State::Queued, State::Running]);
        let failed = self.count(&[State::Failed, State::FailedAndClaimed]);
        if live.max(failed) >= max {
            return Err(full());
        }
        let payload = self.path(id, "payload");
        replace(&payload, &job.payload, self.is_durable).map_err(unavailable)?;
        let record = Record {
            seq: self.next,
            about: codec::encode(&job.about),
            key: job
                .dedup_key
                .map(|key| (key.scope().to_owned(), key.id().to_owned())),
            kind: job.kind,
            target: job.target,
            accepted: now,
            state: State::Queued,
            at: now.saturating_add(millis(wait)),
            token,
            attempts: 0,
            history: String::new(),
            cause: None,
        };
        self.next += 1;
        self.put(id, record, true)?;
        let repeated = false;
        Ok(Enqueued { id, repeated })
    }

    fn take(&mut self, id: TaskId, now: u64, until: u64) -> Result<Job, StoreError> {
        let record = self.records.get(&id).cloned();
        let mut record = record.ok_or_else(|| corrupt("a job without a file"))?;
        record.token += 1;
        record.at = until;
        if record.state == State::Queued {
            record.state = State::Running;
            record.attempts += 1;
        } else {
            record.state = State::FailedAndClaimed;
        }
        let payload = fs::read(self.path(id, "payload")).map_err(unavailable)?;
        let mut new = NewJob::new(record.kind.clone(), Bytes::from(payload));
        new = new.target(record.target.clone());
        new.id = id;
        new.about = codec::decode(&record.about)?;
        let key = record
            .key
            .as_ref()
            .map(|(scope, id)| IdempotencyKey::new(scope, id));
        new.dedup_key = key.transpose().map_err(corrupt)?;
        let accepted = UNIX_EPOCH + Duration::from_millis(record.accepted);
        let age = Duration::from_millis(now.saturating_sub(record.accepted));
        let mut job = Job::new(new, FencingToken::new(record.token), accepted, age);
        job.attempt = record.attempts;
        if !record.history.is_empty() {
            job.history = codec::decode(&record.history)?;
        }
        job.cause = record.cause.as_deref().map(codec::decode).transpose()?;
        // A claim that the disk forgets is made again.
        self.put(id, record, false)?;
        Ok(job)
    }

    /// The job of this claim, unless another one came after it. A claim that was ended has left a greater token.
    fn held(&self, claim: Claim) -> Option<Record> {
        let record = self.records.get(&claim.id)?;
        let is_last = record.token == claim.token.get() && record.token > 0;
        is_last.then(|| record.clone())
    }

    fn end(&mut self, claim: Claim, end: &End, now: u64) -> Result<Settled, StoreError> {
        let Some(mut record) = self.held(claim) else {
            return Ok(Settled::Lost);
        };
        // Given up when its last lease ended, before its holder came.
        let is_given_up = record.state == State::Failed;
        let has_failed = record.state == State::FailedAndClaimed;
        record.token += 1;
        let back = if has_failed {
            State::Failed
        } else {
            State::Queued
        };
        match end {
            End::Done { .. } => {
                self.remove(claim.id)?;
                return Ok(Settled::Done);
            }
            End::Failed { cause, history } => {
                record.cause = Some(codec::encode(cause));
                record.history = codec::encode(history);
                (record.state, record.at) = (State::Failed, now);
            }
            End::Retry { .. } | End::Release { .. } if is_given_up => return Ok(Settled::Lost),
            End::Retry { after, history } => {
                record.history = codec::encode(history);
                (record.state, record.at) = (back, now.saturating_add(millis(*after)));
            }
            End::Release { after, history } => {
                record.history = codec::encode(history);
                record.attempts -= u32::from(!has_failed);
                (record.state, record.at) = (back, now.saturating_add(millis(*after)));
            }
            _ => return Ok(Settled::Lost),
        }
        self.put(claim.id, record, true)?;
        Ok(Settled::Done)
    }

    fn renew(&mut self, claim: Claim, until: u64) -> Result<Settled, StoreError> {
        match self.held(claim) {
            Some(mut record) if record.state != State::Failed => {
                if record.state == State::Queued {
                    record.state = State::Running;
                }
                record.at = until;
                self.put(claim.id, record, false)?;
                Ok(Settled::Done)
            }
            _ => Ok(Settled::Lost),
        }
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis())
        .unwrap_or(LONGEST)
        .min(LONGEST)
}

impl FolderQueue {
    fn open(
        folder: &Path,
        settings: contract::Settings,
        clock: WallClock,
        is_durable: bool,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            jobs: Arc::new(Mutex::new(Jobs::open(folder.to_owned(), is_durable)?)),
            clock,
            attempts: settings.attempts,
            max_jobs: settings.max_jobs,
        })
    }

    fn now(&self) -> u64 {
        self.clock.unix_millis()
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something has changed, or become due, since a claim.
    fn has_news(&self, seen: Mark) -> bool {
        let (now, jobs) = (self.now(), self.lock());
        let mut spots = jobs.order.values().flatten();
        jobs.changes != seen.changes() || spots.any(|(at, ..)| *at > seen.time() && *at <= now)
    }

    /// Runs an operation when its future is first polled, after the leases that are over were ended. It blocks the
    /// thread while it writes: a server would have a thread for it.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Jobs, u64) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let queue = self.clone();
        Box::pin(async move {
            let now = queue.now();
            let mut jobs = queue.lock();
            jobs.expire(now, queue.attempts)?;
            work(&mut jobs, now)
        })
    }
}

impl std::fmt::Debug for FolderQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderQueue").finish_non_exhaustive()
    }
}

impl Engine for FolderQueue {
    fn promises(&self) -> Promises {
        let mut promises = Promises::default();
        promises.due_order = true;
        promises.longest_delay = Duration::from_millis(LONGEST);
        promises.attempts = self.attempts;
        promises
    }

    fn enqueue(
        &self,
        new: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>> {
        let max = self.max_jobs;
        self.run(move |jobs, now| {
            let new = new.into_iter();
            Ok(new.map(|job| jobs.add(job, now, max)).collect())
        })
    }

    fn claim(&self, ask: Ask) -> BoxFuture<Result<Claims, StoreError>> {
        self.run(move |jobs, now| {
            let until = now.saturating_add(millis(ask.lease));
            let mut claims = Claims::default();
            for (state, most) in [(State::Queued, ask.most), (State::Failed, ask.most_failed)] {
                let most = claims.jobs.len().saturating_add(most);
                while claims.jobs.len() < most
                    && let Some((due, _, id)) = jobs.first(state, &ask.kinds)
                    && due <= now
                {
                    claims.jobs.push(jobs.take(id, now, until)?);
                }
            }
            claims.mark = Mark::new(jobs.changes, now);
            Ok(claims)
        })
    }

    fn renew(
        &self,
        claims: Vec<Claim>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.run(move |jobs, now| {
            let until = now.saturating_add(millis(lease));
            let claims = claims.into_iter();
            claims.map(|claim| jobs.renew(claim, until)).collect()
        })
    }

    fn settle(&self, ends: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.run(move |jobs, now| {
            let ends = ends.iter();
            ends.map(|(claim, end)| jobs.end(*claim, end, now))
                .collect()
        })
    }

    /// Looks every 10 ms: a wait need not be clever.
    fn wait(&self, seen: Mark, at_most: Duration) -> BoxFuture<()> {
        let queue = self.clone();
        Box::pin(async move {
            let looking = async {
                while !queue.has_news(seen) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let _ = tokio::time::timeout(at_most, looking).await;
        })
    }
}

/// Engines in folders of their own, on a clock that is moved.
struct Subject {
    root: tempfile::TempDir,
    number: AtomicU64,
    millis: Arc<AtomicU64>,
}

impl contract::Subject for Subject {
    async fn engine(&self, settings: contract::Settings) -> Arc<dyn Engine> {
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        let folder = self.root.path().join(number.to_string());
        fs::create_dir(&folder).expect("the folder of the test takes folders");
        let millis = Arc::clone(&self.millis);
        let clock = WallClock::from_fn(move || {
            UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::SeqCst))
        });
        // Nothing of a check is needed after the machine has lost its power.
        let engine = FolderQueue::open(&folder, settings, clock, false);
        Arc::new(engine.expect("an empty folder opens"))
    }

    async fn advance(&self, by: Duration) {
        self.millis.fetch_add(millis(by), Ordering::SeqCst);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let subject = Subject {
        root: tempfile::tempdir()?,
        number: AtomicU64::new(0),
        millis: Arc::new(AtomicU64::new(1_700_000_000_000)),
    };
    let grade = contract::check(&subject).await;
    println!("{} rules hold: {:?}", grade.checked.len(), grade.checked);
    println!("not promised: {:?}", grade.left_out);
    Ok(())
}
