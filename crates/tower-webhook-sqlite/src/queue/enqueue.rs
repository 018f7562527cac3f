//! Enqueuing a job, and looking up a task.

use super::{
    Limits, failed, keys,
    ledger::Counts,
    schema::{self, state},
    time,
};
use crate::{database::Transaction, stored};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;
use tower_webhook::{
    StoreError, StoreErrorKind,
    clock::WallClock,
    codec,
    idempotency::IdempotencyKey,
    observe::{Event, Id},
    queue::{About, Depth, Enqueued, NewJob, Status, Task, TaskId},
};

/// The longest encoded `about`, in bytes.
const LONGEST_ABOUT: usize = 64 * 1024;

/// The result, or why the job was refused; then nothing is changed.
pub(super) type Admitted = Result<Enqueued, StoreError>;

pub(super) fn enqueue(
    transaction: &Transaction<'_>,
    clock: &WallClock,
    limits: &Limits,
    job: &NewJob,
) -> rusqlite::Result<Admitted> {
    let connection = transaction.connection();
    let about = (job.about != About::default()).then(|| codec::encode(&job.about));
    let wait = match check(clock, limits, job, about.as_deref()) {
        Ok(wait) => wait,
        Err(error) => return Ok(Err(error)),
    };
    let now = time::now(transaction)?;
    let digest = job.dedup_key.as_ref().map(IdempotencyKey::digest);
    let known = match &digest {
        Some(digest) => keys::known(transaction, digest, now)?,
        None => None,
    };
    let again = Again::find(connection, job, digest.as_ref())?;
    // First, because a repetition is to change nothing.
    if let Some(id) = known
        && (id != job.id || matches!(again, Again::No))
    {
        return Ok(Ok(repeated(id)));
    }
    let has_new_key = digest.is_some() && known.is_none();
    let has_room = |counts: &Counts| !has_new_key || counts.keys < limits.max_keys;
    let counts = Counts::of(transaction)?;
    let jobs = (counts.queued + counts.running).max(counts.dead_lettering);
    if jobs >= limits.max_jobs || !has_room(&counts) {
        if !matches!(again, Again::Failed(_))
            && let Some(known) = first(transaction, job, now)?
        {
            return Ok(Ok(known));
        }
        if !has_room(&Counts::of(transaction)?) {
            limits.tell("as many deduplication keys are kept as may be, and a job with a new key was refused");
        }
        return Ok(Err(StoreError::new(StoreErrorKind::Full)));
    }
    let token = match &again {
        Again::Failed(task) => {
            let end = stored::until(now, limits.rules.retention);
            failed::take_out(transaction, task, digest.as_ref(), [now, end])?
        }
        Again::New | Again::No => 0,
    };
    let due = stored::until(now, wait);
    let held = match &job.fifo_group {
        Some(order) => connection
            .prepare_cached(schema::FIRST_IN_ORDER)?
            .exists([order])?,
        None => false,
    };
    if !insert(connection, clock, job, digest.as_ref(), due, held)? {
        if let Some(known) = first(transaction, job, now)? {
            return Ok(Ok(known));
        }
        // The row in the way was that of a task whose retention is over, and was just removed.
        if !insert(connection, clock, job, digest.as_ref(), due, held)? {
            return Err(rusqlite::Error::StatementChangedRows(0));
        }
    }
    let seq = connection.last_insert_rowid();
    if let Some(digest) = &digest {
        match known {
            Some(_) => keys::own(connection, digest)?,
            None => keys::add(connection, digest, job.id)?,
        }
    }
    failed::set_token(connection, seq, token)?;
    let key = job.dedup_key.as_ref();
    connection
        .prepare_cached(schema::INSERT_PAYLOAD)?
        .execute(params![
            seq,
            about,
            &job.payload[..],
            key.map(IdempotencyKey::scope),
            key.map(IdempotencyKey::id),
        ])?;
    let mut counts = Counts::of(transaction)?;
    if counts.lanes {
        let next = (!held).then_some((due, seq));
        connection
            .prepare_cached(schema::JOIN_LANE)?
            .execute(params![
                job.target,
                next.map(|(due, _)| due),
                next.map(|(_, seq)| seq),
                job.kind
            ])?;
    }
    counts.queued += 1;
    counts.changes += 1;
    counts.clock.last = now;
    counts.keys += i64::from(has_new_key);
    counts.set(transaction);
    if has_new_key && counts.keys == limits.max_keys - limits.max_keys / 10 {
        limits.tell("nine tenths of the deduplication keys that may be are kept");
    }
    transaction.ring();
    Ok(Ok(Enqueued {
        id: job.id,
        repeated: false,
    }))
}

impl Limits {
    fn tell(&self, what: &'static str) {
        self.observers.tell(|| Event::Trouble {
            part: "queue",
            what,
            detail: Some(Id::new(&self.max_keys)),
        });
    }
}

/// Checks the bounds of a job. Returns its wait before the first attempt.
fn check(
    clock: &WallClock,
    limits: &Limits,
    job: &NewJob,
    about: Option<&str>,
) -> Result<Duration, StoreError> {
    let fits = job.payload.len() <= limits.max_payload
        && about.is_none_or(|about| about.len() <= LONGEST_ABOUT);
    if !fits {
        return Err(StoreError::new(StoreErrorKind::TooLarge));
    }
    job.admit(&limits.promises(), clock.now())
}

fn insert(
    connection: &Connection,
    clock: &WallClock,
    job: &NewJob,
    digest: Option<&keys::Digest>,
    due: i64,
    held: bool,
) -> rusqlite::Result<bool> {
    let inserted = connection.prepare_cached(schema::INSERT)?.execute(params![
        job.id.as_bytes(),
        digest,
        if held { state::HELD } else { state::QUEUED },
        due,
        stored::now(clock),
        job.target,
        job.fifo_group,
        job.kind,
    ])?;
    Ok(inserted == 1)
}

/// Whether a job is queued again.
enum Again {
    /// This task has failed for good.
    Failed(Known),
    /// There is no task with its id, and its key does not say that there was one that did not fail.
    New,
    /// It is not to be, or the task has not failed.
    No,
}

impl Again {
    fn find(
        connection: &Connection,
        job: &NewJob,
        digest: Option<&keys::Digest>,
    ) -> rusqlite::Result<Self> {
        if !job.requeue {
            return Ok(Self::No);
        }
        if let Some(task) = get(connection, job.id)? {
            let has_failed = task.has_failed();
            return Ok(if has_failed {
                Self::Failed(task)
            } else {
                Self::No
            });
        }
        Ok(match digest {
            Some(digest) if keys::is_done(connection, digest, job.id)? => Self::No,
            _ => Self::New,
        })
    }
}

const fn repeated(id: TaskId) -> Enqueued {
    Enqueued { id, repeated: true }
}

/// The job with the id of this one. Removes it if its retention is over.
fn first(
    transaction: &Transaction<'_>,
    job: &NewJob,
    now: i64,
) -> rusqlite::Result<Option<Enqueued>> {
    match get(transaction.connection(), job.id)? {
        Some(known) if known.is_over(now) => {
            forget(transaction, known.seq, now)?;
            Ok(None)
        }
        known => Ok(known.map(|known| repeated(known.id))),
    }
}

/// Removes a finished task. Its key goes with it, or stays until the end of its retention.
pub(super) fn remove(transaction: &Transaction<'_>, seq: i64, now: i64) -> rusqlite::Result<()> {
    let (digest, end, is_done) = transaction
        .connection()
        .prepare_cached(schema::DELETE)?
        .query_row([seq], |row| {
            let digest: Option<keys::Digest> = row.get(0)?;
            Ok((digest, row.get(1)?, row.get(3)?))
        })?;
    match digest {
        Some(digest) => keys::part(transaction, &digest, [now, end], is_done),
        None => Ok(()),
    }
}

/// Removes a task whose retention is over, and counts it.
pub(super) fn forget(transaction: &Transaction<'_>, seq: i64, now: i64) -> rusqlite::Result<()> {
    remove(transaction, seq, now)?;
    let mut counts = Counts::of(transaction)?;
    counts.finished -= 1;
    counts.set(transaction);
    Ok(())
}

/// What a task is made of.
pub(super) struct Known {
    pub(super) seq: i64,
    id: TaskId,
    pub(super) state: i64,
    pub(super) at: i64,
    accepted: i64,
    attempts: u32,
    pub(super) result: Option<Bytes>,
}

impl Known {
    /// The result of a job that was cancelled.
    pub(super) const CANCELLED: &'static [u8] = b"";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            id: TaskId::from_bytes(row.get(1)?),
            state: row.get(2)?,
            at: row.get(3)?,
            accepted: row.get(4)?,
            attempts: row.get(5)?,
            result: row.get::<_, Option<Vec<u8>>>(6)?.map(Bytes::from),
        })
    }

    /// Whether it has failed for good. A cancelled task has not.
    pub(super) const fn has_failed(&self) -> bool {
        match self.state {
            state::FAILED => self.result.is_none(),
            state::DEAD_LETTERING_DUE | state::DEAD_LETTERING_CLAIMED => true,
            _ => false,
        }
    }

    pub(super) const fn is_over(&self, now: i64) -> bool {
        self.state >= state::SUCCEEDED && self.at <= now
    }

    fn status(self, now: i64) -> Status {
        match self.state {
            state::SUCCEEDED => Status::Succeeded {
                result: self.result,
            },
            _ if self.has_failed() => Status::Failed,
            state::FAILED | state::RUNNING if self.result.is_some() => Status::Cancelled,
            state::RUNNING if self.at > now => Status::Running,
            _ => Status::Queued,
        }
    }

    pub(super) fn into_task(self, now: i64) -> Option<Task> {
        if self.is_over(now) {
            return None;
        }
        let (id, attempts) = (self.id, self.attempts);
        let accepted_at = time::system_time(self.accepted);
        Some(Task::new(id, self.status(now), accepted_at, attempts))
    }
}

pub(super) fn get(connection: &Connection, id: TaskId) -> rusqlite::Result<Option<Known>> {
    connection
        .prepare_cached(schema::BY_ID)?
        .query_row([id.as_bytes()], Known::read)
        .optional()
}

pub(super) fn find(
    connection: &Connection,
    key: &IdempotencyKey,
) -> rusqlite::Result<Option<Known>> {
    connection
        .prepare_cached(schema::BY_KEY)?
        .query_row([key.digest()], Known::read)
        .optional()
}

/// The stored counts, corrected by the leases that have ended since the last claim, which are few and
/// found by an index.
pub(super) fn depth(connection: &Connection, now: i64) -> rusqlite::Result<Depth> {
    let (lost, cancelled): (i64, i64) = connection
        .prepare_cached(schema::COUNT_EXPIRED)?
        .query_row([now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let counts = Counts::read(connection)?;
    let count = |of: i64| of.max(0).unsigned_abs();
    let queued = count(counts.queued + lost - cancelled);
    let running = count(counts.running - lost);
    Ok(Depth::new(queued, running, count(counts.dead_lettering)))
}
