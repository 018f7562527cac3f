//! An engine of your own: a queue whose jobs are files in a folder, for one process. It is checked with the
//! contract of every engine.
//!
//! ```sh
//! cargo run --example custom_engine --features queue
//! ```
//!
//! Each job is a file and, until it ends, in memory too: a line of JSON, and then the payload. A change of a job replaces
//! its file, so that it is made as a whole or not at all: what was answered outlives a kill, and may be lost with the
//! power.
//!
//! The engine promises no deduplication, no FIFO groups, no limit per target and no status. A job that asks for one of
//! the first two is refused, and the contract leaves out the rules for all.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{
    BoxError, BoxFuture, StoreError, StoreErrorKind,
    attempt::History,
    clock::WallClock,
    codec,
    dead_letter::{Cause, Reason},
    lease::{FencingToken, Settled},
    queue::{
        Ask, Claim, Claims, End, Engine, Enqueued, Job, Kinds, Mark, NewJob, Promises, TaskId,
        contract,
    },
};

/// The longest wait and lease: a century.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A job, as its file says. Times are in milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    #[serde(skip)]
    payload: Bytes,
    /// Its place among those that are due at the same time.
    number: u64,
    kind: String,
    target: String,
    about: String,
    accepted: u64,
    is_claimed: bool,
    /// When it is due, or when its lease ends.
    at: u64,
    /// The token of the last claim. Zero if that was settled.
    token: u64,
    attempts: u32,
    history: String,
    /// Set if it has failed for good, and waits for its dead-letter entry.
    cause: Option<String>,
}

/// Jobs of a kind that are claimed or not, and have failed or not.
type Lane = (bool, bool, String);

impl Record {
    fn lane(&self) -> Lane {
        (self.is_claimed, self.cause.is_some(), self.kind.clone())
    }
}

struct Jobs {
    folder: PathBuf,
    clock: WallClock,
    promises: Promises,
    max_jobs: usize,
    records: HashMap<TaskId, Record>,
    /// Of each lane, the jobs by the time at which something is to be done, and by number.
    order: BTreeMap<Lane, BTreeSet<(u64, u64, TaskId)>>,
    last_number: u64,
    /// Counts what made something claimable.
    changes: u64,
}

fn failed(error: impl Into<BoxError>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable).caused_by(error)
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.min(LONGEST).as_millis()).unwrap_or(u64::MAX)
}

impl Jobs {
    fn open(
        folder: PathBuf,
        clock: WallClock,
        settings: contract::Settings,
    ) -> Result<Self, StoreError> {
        let mut promises = Promises::default();
        promises.due_order = true;
        promises.longest_delay = LONGEST;
        promises.attempts = settings.attempts;
        let mut jobs = Self {
            folder,
            clock,
            promises,
            max_jobs: settings.max_jobs,
            records: HashMap::new(),
            order: BTreeMap::new(),
            last_number: 0,
            changes: 1,
        };
        for file in fs::read_dir(&jobs.folder).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            // Others were written in part.
            if let Some(id) = name.and_then(|name| name.parse().ok()) {
                let file = Bytes::from(fs::read(&path).map_err(failed)?);
                let line = file.iter().position(|byte| *byte == b'\n');
                let record = line.map(|line| serde_json::from_slice::<Record>(&file[..line]));
                let (Some(line), Some(Ok(mut record))) = (line, record) else {
                    eprintln!(
                        "{} is no job that can be read, and stays there",
                        path.display()
                    );
                    continue;
                };
                record.payload = file.slice(line + 1..);
                jobs.last_number = jobs.last_number.max(record.number).max(record.token);
                jobs.index(id, record);
            }
        }
        Ok(jobs)
    }

    /// A number that is greater than all before, also those of jobs that were removed before a restart.
    fn number(&mut self, now: u64) -> u64 {
        self.last_number = (self.last_number + 1).max(now);
        self.last_number
    }

    fn index(&mut self, id: TaskId, record: Record) {
        let jobs = self.order.entry(record.lane()).or_default();
        jobs.insert((record.at, record.number, id));
        self.records.insert(id, record);
    }

    fn unindex(&mut self, id: TaskId) {
        if let Some(record) = self.records.remove(&id) {
            let jobs = self.order.entry(record.lane()).or_default();
            jobs.remove(&(record.at, record.number, id));
        }
    }

    /// Stores a job as it is now. If it fails, the job is as it was.
    fn put(&mut self, id: TaskId, record: Record) -> Result<(), StoreError> {
        let mut file = serde_json::to_vec(&record).map_err(failed)?;
        file.push(b'\n');
        file.extend_from_slice(&record.payload);
        let path = self.folder.join(id.to_string());
        let new = path.with_extension("new");
        let written = fs::write(&new, file).and_then(|()| fs::rename(&new, &path));
        written.map_err(failed)?;
        self.changes += u64::from(!record.is_claimed);
        self.unindex(id);
        self.index(id, record);
        Ok(())
    }

    /// The first job in the lanes of these kinds, if its time has come.
    fn first(&self, of: (bool, bool), kinds: &Kinds, now: u64) -> Option<(TaskId, Record)> {
        let lanes = self.order.iter().filter(|(lane, _)| (lane.0, lane.1) == of);
        let asked = lanes.filter(|(lane, _)| kinds.has(&lane.2));
        let first = asked.filter_map(|(_, jobs)| jobs.first()).min();
        let (_, _, id) = first.filter(|(at, ..)| *at <= now)?;
        Some((*id, self.records.get(id)?.clone()))
    }

    /// Ends the leases that are over.
    fn expire(&mut self, now: u64) -> Result<(), StoreError> {
        for failed in [false, true] {
            while let Some((id, mut record)) = self.first((true, failed), &Kinds::All, now) {
                record.is_claimed = false;
                if failed {
                    // An entry that is written late is the same entry: the claim is void.
                    record.token = 0;
                } else if record.attempts >= self.promises.attempts {
                    record.cause = Some(codec::encode(&Cause::new(Reason::WorkerLost)));
                }
                self.put(id, record)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, job: NewJob, now: u64) -> Result<Enqueued, StoreError> {
        let clock = UNIX_EPOCH + Duration::from_millis(now);
        let wait = job.admit(&self.promises, clock)?;
        let id = job.id;
        // A job that failed for good is queued again, if that is asked for.
        let before = self.records.get(&id);
        if before.is_some_and(|record| !job.requeue || record.cause.is_none()) {
            let repeated = true;
            return Ok(Enqueued { id, repeated });
        }
        let count = |failed: bool| {
            let lanes = self.order.iter().filter(|(lane, _)| lane.1 == failed);
            lanes.map(|(_, jobs)| jobs.len()).sum::<usize>()
        };
        // Failed jobs have room of their own.
        if count(false).max(count(true)) >= self.max_jobs {
            return Err(StoreError::new(StoreErrorKind::Full));
        }
        let record = Record {
            payload: job.payload,
            number: self.number(now),
            about: codec::encode(&job.about),
            kind: job.kind,
            target: job.target,
            accepted: now,
            is_claimed: false,
            at: now + millis(wait),
            token: 0,
            attempts: 0,
            history: codec::encode(&History::new()),
            cause: None,
        };
        self.put(id, record)?;
        let repeated = false;
        Ok(Enqueued { id, repeated })
    }

    fn take(
        &mut self,
        (id, mut record): (TaskId, Record),
        now: u64,
        lease: Duration,
    ) -> Result<Job, StoreError> {
        record.is_claimed = true;
        record.token = self.number(now);
        record.at = now + millis(lease);
        record.attempts += u32::from(record.cause.is_none());
        let mut new = NewJob::new(&record.kind, record.payload.clone()).target(&record.target);
        new.id = id;
        // What a newer release wrote, or a damaged file has, must not hold up the jobs behind it.
        new.about = codec::decode(&record.about).unwrap_or_default();
        let accepted = UNIX_EPOCH + Duration::from_millis(record.accepted);
        let age = Duration::from_millis(now.saturating_sub(record.accepted));
        let mut job = Job::new(new, FencingToken::new(record.token), accepted, age);
        job.attempt = record.attempts;
        job.history = codec::decode(&record.history).unwrap_or_default();
        let cause = record.cause.as_deref().map(codec::decode);
        job.cause = cause.map(|cause| cause.unwrap_or(Cause::new(Reason::WorkerLost)));
        self.put(id, record)?;
        Ok(job)
    }

    /// The job of a claim, unless that was settled or another one came after it.
    fn held(&self, claim: Claim) -> Option<Record> {
        let record = self.records.get(&claim.id)?;
        let is_last = record.token == claim.token.get() && record.token > 0;
        is_last.then(|| record.clone())
    }

    fn end(&mut self, claim: Claim, end: &End, now: u64) -> Result<Settled, StoreError> {
        let Some(mut record) = self.held(claim) else {
            return Ok(Settled::Lost);
        };
        let has_failed = record.cause.is_some();
        // Its last lease ended before its holder came, who may only say how it ended.
        let is_given_up = has_failed && !record.is_claimed;
        let (after, history) = match end {
            End::Done { .. } => {
                fs::remove_file(self.folder.join(claim.id.to_string())).map_err(failed)?;
                self.unindex(claim.id);
                return Ok(Settled::Done);
            }
            End::Failed { cause, history } => {
                record.cause = Some(codec::encode(cause));
                (Duration::ZERO, history)
            }
            End::Retry { after, history } if !is_given_up => (*after, history),
            End::Release { after, history } if !is_given_up => {
                record.attempts -= u32::from(!has_failed);
                (*after, history)
            }
            _ => return Ok(Settled::Lost),
        };
        record.history = codec::encode(history);
        record.at = now + millis(after);
        (record.is_claimed, record.token) = (false, 0);
        self.put(claim.id, record)?;
        Ok(Settled::Done)
    }

    fn renew(&mut self, claim: Claim, until: u64) -> Result<Settled, StoreError> {
        let held = self.held(claim);
        let held = held.filter(|record| record.is_claimed || record.cause.is_none());
        let Some(mut record) = held else {
            return Ok(Settled::Lost);
        };
        (record.is_claimed, record.at) = (true, until);
        self.put(claim.id, record)?;
        Ok(Settled::Done)
    }
}

#[derive(Clone)]
struct FolderQueue(Arc<Mutex<Jobs>>);

impl FolderQueue {
    fn with<T>(&self, work: impl FnOnce(&mut Jobs, u64) -> T) -> T {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = jobs.clock.unix_millis();
        work(&mut jobs, now)
    }

    /// Runs an operation when its future is first polled, after the leases that are over were ended. It blocks the
    /// thread while it writes: a server would have a thread for it.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Jobs, u64) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let queue = self.clone();
        Box::pin(async move {
            queue.with(|jobs, now| {
                jobs.expire(now)?;
                work(jobs, now)
            })
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
        self.with(|jobs, _| jobs.promises.clone())
    }

    fn enqueue(
        &self,
        new: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>> {
        self.run(move |jobs, now| Ok(new.into_iter().map(|job| jobs.add(job, now)).collect()))
    }

    fn claim(&self, ask: Ask) -> BoxFuture<Result<Claims, StoreError>> {
        self.run(move |jobs, now| {
            let mut claims = Claims::default();
            for (failed, most) in [(false, ask.most), (true, ask.most_failed)] {
                for _ in 0..most {
                    let Some(first) = jobs.first((false, failed), &ask.kinds, now) else {
                        break;
                    };
                    claims.jobs.push(jobs.take(first, now, ask.lease)?);
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
            let renew = |claim| jobs.renew(claim, now + millis(lease));
            claims.into_iter().map(renew).collect()
        })
    }

    fn settle(&self, ends: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.run(move |jobs, now| {
            let end = |(claim, end): &(Claim, End)| jobs.end(*claim, end, now);
            ends.iter().map(end).collect()
        })
    }

    /// Looks every 10 ms: a wait need not be clever.
    fn wait(&self, seen: Mark, at_most: Duration) -> BoxFuture<()> {
        let queue = self.clone();
        Box::pin(async move {
            // Something has changed, or become due, since the claim.
            let has_news = |jobs: &mut Jobs, now| {
                let mut times = jobs.order.values().flatten().map(|(at, ..)| *at);
                jobs.changes != seen.changes() || times.any(|at| at > seen.time() && at <= now)
            };
            let looking = async {
                while !queue.with(has_news) {
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
    millis: Arc<AtomicU64>,
}

impl contract::Subject for Subject {
    async fn engine(&self, settings: contract::Settings) -> Arc<dyn Engine> {
        let folder = self.root.path().join(TaskId::random().to_string());
        fs::create_dir(&folder).expect("the folder of the test takes folders");
        let millis = Arc::clone(&self.millis);
        let clock = WallClock::from_fn(move || {
            UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::SeqCst))
        });
        let jobs = Jobs::open(folder, clock, settings).expect("an empty folder opens");
        Arc::new(FolderQueue(Arc::new(Mutex::new(jobs))))
    }

    async fn advance(&self, by: Duration) {
        self.millis.fetch_add(millis(by), Ordering::SeqCst);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let subject = Subject {
        root: tempfile::tempdir()?,
        millis: Arc::new(AtomicU64::new(1_700_000_000_000)),
    };
    let grade = contract::check(&subject).await;
    println!("{} rules hold: {:?}", grade.checked.len(), grade.checked);
    println!("not promised: {:?}", grade.left_out);
    Ok(())
}
