//! Claims due jobs, and ends leases that are over.

use super::{
    Rules,
    ledger::{self, Ledger},
    schema::{self, state},
    settle::{self, Held, Hold},
    time,
};
use crate::{
    database::{Database, DatabaseError, Durability, Granting, Release, Transaction},
    stored::{self, count},
};
use bytes::Bytes;
use rusqlite::{
    Connection, OptionalExtension, Row, ToSql, params,
    types::{ToSqlOutput, ValueRef},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt,
    sync::Arc,
};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    attempt::History,
    clock::WallClock,
    codec::{self, Encoded},
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    lease::FencingToken,
    observe::{Event, Id},
    queue::{About, Ask, Claim, Claims, Job, Kinds, Mark, NewJob, TaskId},
};

/// The largest number of jobs in a claim, whatever its terms, so that the transaction stays short.
const MOST: usize = 4096;
/// A claim takes no more jobs after this many bytes of payloads.
const MOST_BYTES: usize = 64 << 20;
/// The largest number of leases that one claim ends. The next claim ends more.
const MOST_EXPIRED: usize = 1024;
/// The largest number of jobs of a newer release that one claim delays. The next claim delays more.
const MOST_PUT_OFF: usize = 1024;
/// The delay of such a job, in milliseconds.
const PUT_OFF: i64 = 60_000;

/// The result of a claim.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) claims: Claims,
    /// The due time of each job, for its release.
    pub(super) dues: Vec<i64>,
    /// The jobs that were delayed, because a newer release wrote a part of them.
    pub(super) newer: Vec<TaskId>,
    /// The numbers of jobs that were delayed, because they cannot be read.
    pub(super) unreadable: Vec<i64>,
}

/// [`Engine::claim`](tower_webhook::queue::Engine::claim). If its future is dropped before it returned
/// the jobs, they are released.
pub(super) fn ask(
    database: &Database,
    ask: Ask,
    rules: Rules,
    durability: Durability,
) -> BoxFuture<Result<Claims, StoreError>> {
    let jobs = Jobs {
        database: database.clone(),
    };
    let clock = database.clock().clone();
    let work = move |transaction: &Transaction<'_>| claim(transaction, &clock, &ask, rules);
    let granting = Granting::ask(database, durability, jobs, work);
    Box::pin(async move { Ok(granting.await?.claims) })
}

/// What is needed to release jobs.
#[derive(Clone)]
struct Jobs {
    database: Database,
}

impl Release<Taken> for Jobs {
    fn committed(&self, taken: &Taken) {
        if !taken.newer.is_empty() {
            let jobs = PutOff(&taken.newer);
            self.database.observers().tell(|| Event::Trouble {
                part: "queue",
                what: "jobs wait for a program of the newer release that wrote them",
                detail: Some(Id::new(&jobs)),
            });
        }
        if !taken.unreadable.is_empty() {
            let rows = PutOff(&taken.unreadable);
            self.database.observers().tell(|| Event::Trouble {
                part: "queue",
                what: "jobs cannot be read, and wait: see these rows of `tower_webhook_jobs`, by `seq`",
                detail: Some(Id::new(&rows)),
            });
        }
    }

    fn release(&self, taken: &Taken) {
        let jobs = taken.claims.jobs.iter().map(Job::claim);
        let given: Vec<(Claim, i64)> = jobs.zip(taken.dues.iter().copied()).collect();
        if given.is_empty() {
            return;
        }
        // If it fails, the claims end with their leases.
        drop(
            self.database
                .write_relaxed(move |transaction| release(transaction, &given)),
        );
    }
}

/// The jobs that were put off, of which there may be many.
struct PutOff<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for PutOff<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [only] => only.fmt(f),
            [first, others @ ..] => write!(f, "{first} and {} more", others.len()),
            [] => Ok(()),
        }
    }
}

/// Claims what is asked for.
fn claim(
    transaction: &Transaction<'_>,
    clock: &WallClock,
    ask: &Ask,
    rules: Rules,
) -> Result<Taken, DatabaseError> {
    let driver = DatabaseError::from_driver;
    if rules.per_target < u32::MAX {
        // They are there, unless another process with other settings shares the file.
        ledger::use_lanes(transaction, true).map_err(driver)?;
    }
    let mut ledger = Ledger::open(transaction).map_err(driver)?;
    let now = ledger.now;
    let all = expire(&mut ledger, rules).map_err(driver)?;
    let mut taking = Taking {
        taken: Taken::default(),
        cut: !all,
        bytes: 0,
        until: stored::until(now, ask.lease),
        nanos: stored::nanos(clock),
        owner: transaction.owner(),
    };
    jobs(transaction, &mut ledger, ask, rules.per_target, &mut taking)?;
    failed_jobs(transaction, &ledger, ask, &mut taking)?;
    let Taken {
        claims,
        newer,
        unreadable,
        ..
    } = &taking.taken;
    if !(claims.jobs.is_empty() && newer.is_empty() && unreadable.is_empty()) {
        ledger.granted();
    }
    let changes = ledger.close(transaction).map_err(driver)?.changes;
    if !taking.cut {
        taking.taken.claims.mark = Mark::new(changes.cast_unsigned(), now.cast_unsigned());
    }
    Ok(taking.taken)
}

/// Releases jobs that no caller got. Everything but the tokens is as it was before the claim.
fn release(transaction: &Transaction<'_>, given: &[(Claim, i64)]) -> Result<(), DatabaseError> {
    let back = || {
        let mut ledger = Ledger::open(transaction)?;
        for (claim, due) in given {
            let held = Held::find(&ledger, *claim)?;
            if let Some(held) = held.filter(|held| matches!(held.hold, Hold::Job | Hold::Failed)) {
                settle::again(&mut ledger, &held, *due, true, None, true)?;
            }
        }
        ledger.close(transaction).map(drop)
    };
    back().map_err(DatabaseError::from_driver)
}

/// Ends leases that are over. Returns whether these were all.
pub(super) fn expire(ledger: &mut Ledger<'_>, rules: Rules) -> rusqlite::Result<bool> {
    let mut all = true;
    for failed in [false, true] {
        if !(if failed {
            ledger.has_failed()
        } else {
            ledger.has_running()
        }) {
            continue;
        }
        let over = expired(ledger, failed)?;
        all &= over.len() < MOST_EXPIRED;
        for (held, end) in over {
            if held.hold == Hold::Cancelled {
                settle::let_go(ledger, &held, rules.retention)?;
            } else if !failed && held.attempts >= rules.attempts {
                let lost = codec::encode(&Cause::new(Reason::WorkerLost));
                settle::dead_letter(ledger, &held, end, None, Some(&lost), false)?;
            } else {
                // An entry that is written late is the same entry: its claim is void.
                settle::again(ledger, &held, end, false, None, failed)?;
            }
        }
    }
    Ok(all)
}

/// The claims whose leases are over, with their ends.
fn expired(ledger: &Ledger<'_>, failed: bool) -> rusqlite::Result<Vec<(Held, i64)>> {
    let state = if failed {
        state::DEAD_LETTERING_CLAIMED
    } else {
        state::RUNNING
    };
    let mut over = ledger.connection.prepare_cached(schema::EXPIRED)?;
    over.query_map(params![state, ledger.now, count(MOST_EXPIRED)], |row| {
        Ok((Held::read(row)?, row.get(7)?))
    })?
    .collect()
}

/// The position of a job in the order of claims: its due time and its number.
type Place = (i64, i64);

/// A lane with a due job: its due time, the number of the job, its target, its kind, and how many jobs of the
/// target ran before this claim. Where the file has no lanes, all jobs of a kind are one, which has no target.
type Lane = Reverse<(i64, i64, Option<String>, Arc<str>, u32)>;

/// A claim in progress.
struct Taking {
    taken: Taken,
    /// Whether the bounds of a claim left out work that was asked for.
    cut: bool,
    bytes: usize,
    until: i64,
    nanos: i64,
    owner: Option<i64>,
}

impl Taking {
    fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES
            || self.taken.newer.len() + self.taken.unreadable.len() >= MOST_PUT_OFF
    }

    /// Leaves a job where it is. Returns its row, which is then [delayed](put_off).
    fn leave(&mut self, left: &Left) -> i64 {
        // It may have taken the place of a job that can be claimed.
        self.cut = true;
        match *left {
            Left::Newer { seq, id } => {
                self.taken.newer.push(id);
                seq
            }
            Left::Unreadable { seq } => {
                self.taken.unreadable.push(seq);
                seq
            }
        }
    }
}

/// Makes these jobs due later. Nothing else of them changes.
fn put_off(ledger: &Ledger<'_>, rows: Vec<i64>) -> rusqlite::Result<()> {
    let due = ledger.now.saturating_add(PUT_OFF);
    for seq in rows {
        let mut put_off = ledger.connection.prepare_cached(schema::PUT_OFF)?;
        put_off.execute([seq, due])?;
    }
    Ok(())
}

/// Claims the job that is due first among the lanes that have room, until the claim is full: a merge of the
/// due jobs of the lanes.
fn jobs(
    transaction: &Transaction<'_>,
    ledger: &mut Ledger<'_>,
    ask: &Ask,
    per_target: u32,
    taking: &mut Taking,
) -> Result<(), DatabaseError> {
    let driver = DatabaseError::from_driver;
    let most = ask.most.min(MOST);
    if most == 0 || !ledger.has_queued() {
        return Ok(());
    }
    let mut lanes = lanes(ledger, ask, per_target, most).map_err(driver)?;
    let mut found = 0;
    // What this claim takes of each target, and the lanes that it takes from.
    let mut running: BTreeMap<String, i64> = BTreeMap::new();
    let mut changed: BTreeSet<(String, Arc<str>)> = BTreeSet::new();
    while let Some(Reverse((_, _, target, kind, runs))) = lanes.pop() {
        let left = most - found;
        if left == 0 || taking.is_full() {
            break;
        }
        let room = target.as_ref().map_or(Some(left), |target| {
            let taken = running.get(target).copied().unwrap_or_default();
            let room = i64::from(per_target) - i64::from(runs) - taken;
            room.try_into().ok()
        });
        let Some(room) = room else {
            continue;
        };
        let bound = lanes.peek().map(|Reverse((due, seq, ..))| (*due, *seq));
        let due = due_of(
            transaction,
            ledger,
            target.as_deref(),
            &kind,
            left.min(room),
            bound,
            taking,
        )?;
        put_off(ledger, due.newer).map_err(driver)?;
        found += due.found.len();
        if let Some(target) = &target {
            *running.entry(target.clone()).or_default() += count(due.found.len());
            changed.insert((target.clone(), Arc::clone(&kind)));
        }
        // At once: this lane may be read again.
        take(ledger, due.found, state::RUNNING, taking).map_err(driver)?;
        if let Some((due, seq)) = due.next {
            lanes.push(Reverse((due, seq, target, kind, runs)));
        }
    }
    ledger.queued -= count(found);
    ledger.running += count(found);
    for (target, kind) in changed {
        ledger.renew_lane(&target, &kind).map_err(driver)?;
    }
    for (target, more) in running {
        ledger.run_in_lane(&target, more).map_err(driver)?;
    }
    taking.cut |= ask.most > MOST && taking.taken.claims.jobs.len() == MOST || taking.is_full();
    Ok(())
}

/// The lanes that have room. Of each kind at most as many as jobs are asked for, because each has at least one;
/// of a target with lanes of several kinds, all but the first may have no room left when their turn comes.
fn lanes(
    ledger: &Ledger<'_>,
    ask: &Ask,
    per_target: u32,
    most: usize,
) -> rusqlite::Result<BinaryHeap<Lane>> {
    let mut found = BinaryHeap::new();
    if !ledger.has_lanes() {
        let kinds = kinds(ledger.connection, &ask.kinds, schema::NEXT_KIND)?;
        // Which is due first is found when they are read.
        found.extend(
            kinds
                .into_iter()
                .map(|kind| Reverse((i64::MIN, i64::MIN, None, kind, 0))),
        );
        return Ok(found);
    }
    for kind in kinds(ledger.connection, &ask.kinds, schema::NEXT_KIND_OF_LANES)? {
        let mut lanes = ledger.connection.prepare_cached(schema::LANES)?;
        let mut rows = lanes.query(params![ledger.now, per_target, count(most), &*kind])?;
        while let Some(row) = rows.next()? {
            let (Ok(target), due, head) = (row.get(0), row.get(1)?, row.get(2)?) else {
                // A target that is no text. No job of this queue has it.
                continue;
            };
            let lane = (due, head, Some(target), Arc::clone(&kind), row.get(3)?);
            found.push(Reverse(lane));
        }
    }
    Ok(found)
}

/// The kinds that are asked for. If these are all, `next` finds those that there are.
pub(super) fn kinds(
    connection: &Connection,
    asked: &Kinds,
    next: &str,
) -> rusqlite::Result<Vec<Arc<str>>> {
    let mut kinds: Vec<Arc<str>> = Vec::new();
    match asked {
        Kinds::Only(only) => {
            for kind in only.iter() {
                if !kinds.iter().any(|known| **known == **kind) {
                    kinds.push(kind.as_str().into());
                }
            }
        }
        Kinds::All => {
            let mut next = connection.prepare_cached(next)?;
            let mut last = RawText(Vec::new());
            kinds.push("".into());
            let raw = |row: &Row<'_>| Ok(RawText(row.get_ref(0)?.as_bytes()?.to_vec()));
            while let Some(kind) = next.query_row([&last], raw).optional()? {
                last = kind;
                // What is no text is a kind that nobody asks for.
                kinds.extend(str::from_utf8(&last.0).ok().map(Arc::from));
            }
        }
    }
    Ok(kinds)
}

/// A text as it is in the file, which may be none.
struct RawText(Vec<u8>);

impl ToSql for RawText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// The due jobs of a lane.
#[derive(Default)]
struct Due {
    found: Vec<Found>,
    /// The rows of jobs that are left to a newer release.
    newer: Vec<i64>,
    /// The position at which the lane continues, if it may. No remaining job comes before it.
    next: Option<Place>,
}

/// Reads up to `most` jobs of a lane that are due before `bound`.
fn due_of(
    transaction: &Transaction<'_>,
    ledger: &Ledger<'_>,
    target: Option<&str>,
    kind: &str,
    most: usize,
    bound: Option<Place>,
    taking: &mut Taking,
) -> Result<Due, DatabaseError> {
    let driver = DatabaseError::from_driver;
    let (connection, most) = (ledger.connection, count(most));
    let sql = target.map_or(schema::DUE, |_| schema::DUE_IN_LANE);
    let mut query = connection.prepare_cached(sql).map_err(driver)?;
    let rows = match target {
        Some(target) => query.query(params![kind, ledger.now, most, target]),
        None => query.query(params![kind, ledger.now, most]),
    };
    let mut rows = rows.map_err(driver)?;
    let mut due = Due::default();
    while let Some(row) = rows.next().map_err(driver)? {
        let place = (row.get(1).map_err(driver)?, row.get(0).map_err(driver)?);
        if bound.is_some_and(|bound| place > bound) || taking.is_full() {
            due.next = Some(place);
            break;
        }
        match Found::read(row, transaction)? {
            Ok(row) => {
                taking.bytes = taking.bytes.saturating_add(row.job.payload.len());
                due.found.push(row);
            }
            Err(newer) => {
                due.newer.push(taking.leave(&newer));
                due.next = Some(place);
            }
        }
    }
    Ok(due)
}

fn failed_jobs(
    transaction: &Transaction<'_>,
    ledger: &Ledger<'_>,
    ask: &Ask,
    taking: &mut Taking,
) -> Result<(), DatabaseError> {
    let driver = DatabaseError::from_driver;
    let most = ask.most_failed.min(MOST);
    if most == 0 || !ledger.has_failed() {
        return Ok(());
    }
    let (mut found, mut newer) = (Vec::new(), Vec::new());
    let kinds = kinds(ledger.connection, &ask.kinds, schema::NEXT_FAILED_KIND).map_err(driver)?;
    for kind in kinds {
        let mut due = ledger
            .connection
            .prepare_cached(schema::DUE_FAILED_JOBS)
            .map_err(driver)?;
        let mut rows = due
            .query(params![ledger.now, count(most), &*kind])
            .map_err(driver)?;
        while !taking.is_full()
            && let Some(row) = rows.next().map_err(driver)?
        {
            match Found::read(row, transaction)? {
                Ok(failed_job) => {
                    taking.bytes = taking.bytes.saturating_add(failed_job.job.payload.len());
                    found.push(failed_job);
                }
                Err(row) => newer.push(taking.leave(&row)),
            }
        }
    }
    // The first of all kinds.
    found.sort_by_key(|row| (row.due, row.seq));
    found.truncate(most);
    taking.cut |= ask.most_failed > MOST && found.len() == MOST || taking.is_full();
    put_off(ledger, newer).map_err(driver)?;
    take(ledger, found, state::DEAD_LETTERING_CLAIMED, taking).map_err(driver)
}

/// Claims jobs, with one statement for all.
fn take(
    ledger: &Ledger<'_>,
    found: Vec<Found>,
    state: i64,
    taking: &mut Taking,
) -> rusqlite::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let counted = u32::from(state == state::RUNNING);
    let rows = stored::list(found.iter().map(|row| row.seq));
    let (until, nanos, owner) = (taking.until, taking.nanos, taking.owner);
    ledger
        .connection
        .prepare_cached(schema::CLAIM)?
        .execute(params![rows, state, until, nanos, counted, owner])?;
    for Found { due, mut job, .. } in found {
        let before = i64::try_from(job.token.get()).unwrap_or(i64::MAX);
        let token = nanos.max(before.saturating_add(1));
        job.token = FencingToken::new(token.unsigned_abs());
        job.attempt = job.attempt.saturating_add(counted);
        taking.taken.dues.push(due);
        taking.taken.claims.jobs.push(job);
    }
    Ok(())
}

/// A job that can be claimed.
struct Found {
    seq: i64,
    due: i64,
    /// The job before this claim: token and attempt are those of the claim before.
    job: Job,
}

/// A job that is not claimed.
enum Left {
    /// A newer release wrote a part of it.
    Newer { seq: i64, id: TaskId },
    /// Its id cannot be read. Nobody but a foreign program can have written that.
    Unreadable { seq: i64 },
}

/// Reads a stored JSON value. `None` if a newer release wrote it. A damaged value is left out, because the
/// payload matters more.
fn decode<T: Encoded>(text: Option<&str>, otherwise: impl FnOnce() -> T) -> Option<T> {
    match text.map(codec::decode) {
        Some(Ok(value)) => Some(value),
        Some(Err(error)) if matches!(error.kind(), StoreErrorKind::NewerSchema { .. }) => None,
        Some(Err(_)) | None => Some(otherwise()),
    }
}

impl Found {
    /// The job of a row of [`schema::DUE`], [`schema::DUE_IN_LANE`] or [`schema::DUE_FAILED_JOBS`].
    fn read(
        row: &Row<'_>,
        transaction: &Transaction<'_>,
    ) -> Result<Result<Self, Left>, DatabaseError> {
        let read = || {
            let seq = row.get(0)?;
            let Ok(id) = row.get(2).map(TaskId::from_bytes) else {
                return Ok((None, Err(Left::Unreadable { seq })));
            };
            // Whatever else is damaged is left out: one row must not fail the claim.
            let text = |column: usize| stored::text_or_null(row, column);
            let (history, about) = (text(8)?, text(10)?);
            let is_failed = row.as_ref().column_count() > 14;
            let cause = if is_failed { text(14)? } else { None };
            let cause = decode(cause.as_deref(), || Cause::new(Reason::NotRetryable));
            // A job that failed for a reason that is damaged was not done, and is not tried again.
            let (Some(history), Some(about), Some(cause)) = (
                decode(history.as_deref(), History::new),
                decode(about.as_deref(), About::default),
                cause,
            ) else {
                return Ok((None, Err(Left::Newer { seq, id })));
            };
            // A job whose payload is gone must not block the queue: it runs, and fails where an operator sees
            // it.
            let payload = row.get_ref(11)?.as_bytes_or_null().ok().flatten();
            let payload = Bytes::copy_from_slice(payload.unwrap_or_default());
            let mut new = NewJob::new(stored::text(row, 9)?, payload);
            new.id = id;
            new.target = stored::text(row, 12)?;
            new.fifo_group = text(13)?;
            new.about = about;
            let token = u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
            let accepted = row.get(7)?;
            let (accepted_at, age) = (time::system_time(accepted), transaction.age(accepted));
            let mut job = Job::new(new, FencingToken::new(token), accepted_at, age);
            job.attempt = stored::number(row, 4)?;
            job.history = history;
            job.cause = is_failed.then_some(cause);
            let due = row.get(1)?;
            let found = Self { seq, due, job };
            let whole = |column: usize| row.get::<_, String>(column).ok();
            Ok((whole(5).zip(whole(6)), Ok(found)))
        };
        let (key, mut found) = read().map_err(DatabaseError::from_driver)?;
        if let (Some((scope, id)), Ok(found)) = (key, &mut found) {
            // Without it, if an older release took something for a key that is none now: the job is not lost.
            found.job.dedup_key = IdempotencyKey::new(&scope, &id).ok();
        }
        Ok(found)
    }
}
