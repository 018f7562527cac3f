//! The state machine of the memory engine. It is pure: the time is an argument.

use super::{
    bell::Bell,
    keys::{Keys, Owner},
    lanes::{Lanes, Spot},
};
use crate::{
    StoreError, StoreErrorKind,
    attempt::History,
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{
        About, Ask, Claim, Claims, Depth, End, Enqueued, Job, JobFilter, JobListing, JobSummary,
        Kinds, Mark, NewJob, Promises, Status, Task, TaskId,
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The largest number of finished tasks and of keys that one operation removes, and of due times that it handles,
/// so that no operation is slow.
const CHORES: usize = 64;

/// The settings of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) jobs: usize,
    pub(super) keys: usize,
    pub(super) bytes: usize,
    pub(super) payload: usize,
    pub(super) finished: usize,
    pub(super) results: usize,
    pub(super) attempts: u32,
    /// `u32::MAX`: no limit.
    pub(super) per_target: u32,
    pub(super) retention: Duration,
}

impl Limits {
    pub(super) fn promises(&self) -> Promises {
        Promises {
            dedup: Some(self.retention),
            due_order: true,
            fifo_groups: true,
            per_target: (self.per_target < u32::MAX).then_some(self.per_target),
            longest_delay: FAR,
            attempts: self.attempts,
            max_result: self.results,
        }
    }
}

/// Why a job is refused.
#[derive(Debug)]
pub(super) enum Refused {
    Full,
    /// Only a job with a key that is not known.
    FullOfKeys,
    TooLarge,
    NotPromised(StoreError),
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full | Refused::FullOfKeys => Self::new(StoreErrorKind::Full),
            Refused::TooLarge => Self::new(StoreErrorKind::TooLarge),
            Refused::NotPromised(error) => error,
        }
    }
}

/// The contents of a queue, with an index for each kind of query.
#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    /// Unfinished jobs, by the order in which they were added.
    jobs: BTreeMap<u64, Entry>,
    /// Finished tasks, until their retention is over.
    over: HashMap<u64, Over>,
    ids: HashMap<TaskId, u64>,
    keys: Keys,
    lanes: Lanes,
    /// Jobs of a FIFO group: the first is in its lane or runs, the others wait for it.
    orders: HashMap<String, VecDeque<u64>>,
    /// Failed jobs that are not claimed, by kind.
    failed: HashMap<String, BTreeSet<Spot>>,
    /// Claims, by the end of their leases.
    leases: BTreeSet<Spot>,
    /// The times at which queued and failed jobs become due.
    alarms: BTreeSet<Spot>,
    /// Finished tasks, by the end of their retention.
    ends: BTreeSet<Spot>,
    queued: u64,
    running: u64,
    dead_lettering: u64,
    /// Of jobs that have not failed, and of those that have.
    bytes: usize,
    failed_bytes: usize,
    result_bytes: usize,
    next_number: u64,
    next_token: u64,
    now: Instant,
    bell: Bell,
}

#[derive(Debug)]
struct Entry {
    job: NewJob,
    size: usize,
    accepted_at: SystemTime,
    accepted: Instant,
    due: Instant,
    attempts: u32,
    history: History,
    /// Set when the job has failed for good.
    cause: Option<Cause>,
    claim: Option<Granted>,
    /// The token of the last claim to do the job, if its lease has ended: its holder may still settle it, until
    /// there is another one.
    lapsed: Option<FencingToken>,
    /// Set when the job was cancelled while it ran. It keeps its claim, until its worker has let go or the lease ends.
    is_cancelled: bool,
}

/// A job that was cancelled.
#[derive(Debug)]
pub(super) struct Cancelled {
    pub(super) was_running: bool,
    pub(super) key: Option<IdempotencyKey>,
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    token: FencingToken,
    until: Instant,
}

#[derive(Debug)]
struct Over {
    task: Task,
    key: Option<[u8; 16]>,
    until: Instant,
}

impl State {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            jobs: BTreeMap::new(),
            over: HashMap::new(),
            ids: HashMap::new(),
            keys: Keys::new(now),
            lanes: Lanes::new(limits.per_target),
            orders: HashMap::new(),
            failed: HashMap::new(),
            leases: BTreeSet::new(),
            alarms: BTreeSet::new(),
            ends: BTreeSet::new(),
            queued: 0,
            running: 0,
            dead_lettering: 0,
            bytes: 0,
            failed_bytes: 0,
            result_bytes: 0,
            next_number: 0,
            next_token: 1,
            now,
            bell: Bell::default(),
        }
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) const fn bell(&mut self) -> &mut Bell {
        &mut self.bell
    }

    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        job: NewJob,
        accepted_at: SystemTime,
    ) -> Result<Enqueued, Refused> {
        let wait = job
            .admit(&self.limits.promises(), accepted_at)
            .map_err(Refused::NotPromised)?;
        self.pass(now);
        let again = job.requeue && self.has_failed(&job);
        if let Some(id) = self.first(&job)
            && !(again && id == job.id)
        {
            return Ok(Enqueued { id, repeated: true });
        }
        let size = size(&job);
        if job.payload.len() > self.limits.payload || size > self.limits.bytes {
            return Err(Refused::TooLarge);
        }
        let bytes = self.bytes.saturating_add(size);
        // Failed jobs have room of their own, as much again.
        let jobs = (self.queued + self.running).max(self.dead_lettering);
        if usize::try_from(jobs).is_ok_and(|jobs| jobs >= self.limits.jobs)
            || bytes > self.limits.bytes
            || self.failed_bytes >= self.limits.bytes
        {
            return Err(Refused::Full);
        }
        if let Some(key) = &job.dedup_key
            && self.keys.len() >= self.limits.keys
            && self.keys.get(key, self.now).is_none()
        {
            return Err(Refused::FullOfKeys);
        }
        if again {
            self.take_out(job.id);
        }

        let number = self.next_number;
        self.next_number += 1;
        self.bytes = bytes;
        self.queued += 1;
        let id = job.id;
        self.ids.insert(id, number);
        if let Some(key) = &job.dedup_key {
            self.keys.insert(key.digest(), number);
        }
        let mut is_first = true;
        if let Some(order) = &job.fifo_group {
            match self.orders.get_mut(order) {
                Some(line) => {
                    line.push_back(number);
                    is_first = false;
                }
                None => drop(self.orders.insert(order.clone(), [number].into())),
            }
        }
        let entry = Entry {
            due: after(self.now, wait),
            job,
            size,
            accepted_at,
            accepted: self.now,
            attempts: 0,
            history: History::new(),
            cause: None,
            claim: None,
            lapsed: None,
            is_cancelled: false,
        };
        self.jobs.insert(number, entry);
        if is_first {
            self.line_up(number);
        }
        Ok(Enqueued {
            id,
            repeated: false,
        })
    }

    /// The task that this job repeats: the one with its key or with its id.
    fn first(&mut self, job: &NewJob) -> Option<TaskId> {
        let of_key = job
            .dedup_key
            .as_ref()
            .and_then(|key| self.keys.get(key, self.now));
        let of_key = match of_key {
            Some(Owner::Gone { id, .. }) => return Some(id),
            Some(Owner::Task(number)) => Some(number),
            None => None,
        };
        let of_id = self.ids.get(&job.id).copied();
        for number in [of_key, of_id].into_iter().flatten() {
            if let Some(task) = self.look_up(number) {
                return Some(task.id);
            }
        }
        None
    }

    /// Whether the task of a job failed for good, or is not known: neither by its id nor by its key.
    fn has_failed(&self, job: &NewJob) -> bool {
        let Some(number) = self.ids.get(&job.id) else {
            let key = job.dedup_key.as_ref();
            return !key.is_some_and(|key| self.keys.is_done(key, job.id, self.now));
        };
        let job = self.jobs.get(number).map(|entry| entry.cause.is_some());
        job.unwrap_or_else(|| {
            let over = self.over.get(number);
            over.is_some_and(|over| over.task.status == Status::Failed)
        })
    }

    /// Removes a task that failed for good, because it is queued again. Its key stays.
    fn take_out(&mut self, id: TaskId) {
        let Some(number) = self.ids.remove(&id) else {
            return;
        };
        self.leave_failed(number);
        let key = if let Some(entry) = self.jobs.remove(&number) {
            self.failed_bytes = self.failed_bytes.saturating_sub(entry.size);
            entry.job.dedup_key.as_ref().map(IdempotencyKey::digest)
        } else {
            let over = self.over.remove(&number);
            over.and_then(|over| {
                self.ends.remove(&(over.until, number));
                over.key
            })
        };
        if let Some(key) = key {
            let end = after(self.now, self.limits.retention);
            self.keys.part(key, id, [self.now, end], false);
        }
    }

    pub(super) fn claim(&mut self, now: Instant, ask: &Ask) -> Claims {
        self.pass(now);
        let mut jobs = Vec::new();
        while jobs.len() < ask.most
            && let Some(spot) = self.lanes.first(&ask.kinds)
            && spot.0 <= self.now
            && let Some(job) = self.begin(spot, ask.lease)
        {
            jobs.push(job);
        }
        let most = jobs.len().saturating_add(ask.most_failed);
        while jobs.len() < most
            && let Some(spot) = self.first_failed(&ask.kinds)
            && spot.0 <= self.now
            && let Some(job) = self.begin_failed(spot, ask.lease)
        {
            jobs.push(job);
        }
        let mark = Mark::new(self.bell.changes(), 0);
        Claims { jobs, mark }
    }

    fn first_failed(&self, kinds: &Kinds) -> Option<Spot> {
        match kinds {
            Kinds::All => self.failed.values().filter_map(BTreeSet::first).min(),
            Kinds::Only(kinds) => {
                let failed = kinds.iter().filter_map(|kind| self.failed.get(kind));
                failed.filter_map(BTreeSet::first).min()
            }
        }
        .copied()
    }

    pub(super) fn renew(
        &mut self,
        now: Instant,
        claims: &[Claim],
        lease: Duration,
    ) -> Vec<Settled> {
        self.pass(now);
        let until = after(self.now, lease);
        let mut settled = Vec::with_capacity(claims.len());
        for claim in claims {
            settled.push(match self.holder(*claim, false) {
                Some(number) if !self.is_cancelled(number) => {
                    self.end_claim(number);
                    self.grant(number, claim.token, until);
                    Settled::Done
                }
                _ => Settled::Lost,
            });
        }
        settled
    }

    pub(super) fn settle(
        &mut self,
        now: Instant,
        ends: Vec<(Claim, End)>,
    ) -> Result<Vec<Settled>, StoreError> {
        self.pass(now);
        let length = |end: &End| match end {
            End::Done { result } => result.as_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        if ends
            .iter()
            .any(|(_, end)| length(end) > self.limits.results)
        {
            return Err(StoreError::new(StoreErrorKind::TooLarge));
        }
        let ends = ends.into_iter();
        Ok(ends
            .map(|(claim, end)| self.settle_one(claim, end))
            .collect())
    }

    fn settle_one(&mut self, claim: Claim, end: End) -> Settled {
        let is_final = matches!(end, End::Done { .. } | End::Failed { .. });
        let Some(number) = self.holder(claim, is_final) else {
            return Settled::Lost;
        };
        if self.is_cancelled(number) {
            self.let_go(number);
            return Settled::Lost;
        }
        let Some(entry) = self.jobs.get_mut(&number) else {
            return Settled::Lost;
        };
        match (entry.cause.is_some(), end) {
            (false, End::Failed { cause, history }) => {
                self.stop(number);
                self.dead_letter(number, cause, Some(history), self.now);
            }
            (true, End::Failed { cause, history }) => {
                entry.cause = Some(cause);
                self.requeue(number, true, Duration::ZERO, history, 0);
            }
            (false, End::Done { result }) => {
                self.stop(number);
                self.advance_order(number);
                self.finish(number, Status::Succeeded { result });
            }
            (true, End::Done { .. }) => {
                self.leave_failed(number);
                self.finish(number, Status::Failed);
            }
            (is_failed, End::Retry { after, history }) => {
                self.requeue(number, is_failed, after, history, 0);
            }
            (is_failed, End::Release { after, history }) => {
                self.requeue(number, is_failed, after, history, u32::from(!is_failed));
            }
        }
        Settled::Done
    }

    pub(super) fn task(&mut self, now: Instant, id: TaskId) -> Option<Task> {
        self.pass(now);
        let number = self.ids.get(&id).copied()?;
        self.look_up(number)
    }

    pub(super) fn find(&mut self, now: Instant, key: &IdempotencyKey) -> Option<Task> {
        self.pass(now);
        match self.keys.get(key, self.now)? {
            Owner::Task(number) => self.look_up(number),
            Owner::Gone { .. } => None,
        }
    }

    /// A failed task succeeds: its entry was delivered in another way.
    pub(super) fn resolve(
        &mut self,
        now: Instant,
        id: TaskId,
        result: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        self.pass(now);
        if result.as_ref().map_or(0, Bytes::len) > self.limits.results {
            return Err(StoreError::new(StoreErrorKind::TooLarge));
        }
        let Some(number) = self.ids.get(&id).copied() else {
            return Ok(false);
        };
        let status = Status::Succeeded { result };
        if let Some(entry) = self.jobs.get(&number) {
            if entry.cause.is_none() {
                return Ok(false);
            }
            self.leave_failed(number);
            self.finish(number, status);
            return Ok(true);
        }
        let is_failed = |over: &Over| over.task.status == Status::Failed && over.until > self.now;
        if !self.over.get(&number).is_some_and(is_failed) {
            return Ok(false);
        }
        if let Some(mut over) = self.over.remove(&number) {
            self.ends.remove(&(over.until, number));
            over.until = after(self.now, self.limits.retention);
            over.task.status = status;
            self.keep(number, over);
        }
        Ok(true)
    }

    /// The status of a task after it was cancelled, and what was cancelled, if it was not over.
    pub(super) fn cancel(
        &mut self,
        now: Instant,
        id: TaskId,
    ) -> Option<(Status, Option<Cancelled>)> {
        self.pass(now);
        let number = self.ids.get(&id).copied()?;
        let status = self.look_up(number)?.status;
        let Some(entry) = self.jobs.get_mut(&number) else {
            return Some((status, None));
        };
        let cancelled = Cancelled {
            was_running: status == Status::Running,
            key: entry.job.dedup_key.clone(),
        };
        match status {
            Status::Running => {
                entry.is_cancelled = true;
                let payload = mem::take(&mut entry.job.payload).len();
                entry.size = entry.size.saturating_sub(payload);
                self.bytes = self.bytes.saturating_sub(payload);
            }
            Status::Queued => {
                self.queued = self.queued.saturating_sub(1);
                let order = entry.job.fifo_group.as_ref();
                match order.and_then(|order| self.orders.get_mut(order)) {
                    Some(line) if line.front() != Some(&number) => {
                        line.retain(|one| *one != number);
                    }
                    _ => {
                        let spot = (entry.due, number);
                        self.lanes.remove(&entry.job.target, &entry.job.kind, spot);
                        self.alarms.remove(&spot);
                    }
                }
                self.advance_order(number);
                self.finish(number, Status::Cancelled);
            }
            status => return Some((status, None)),
        }
        Some((Status::Cancelled, Some(cancelled)))
    }

    fn is_cancelled(&self, number: u64) -> bool {
        self.jobs
            .get(&number)
            .is_some_and(|entry| entry.is_cancelled)
    }

    /// The worker of a cancelled job has stopped, or its lease has ended: what waits for it may run.
    fn let_go(&mut self, number: u64) {
        self.stop(number);
        self.advance_order(number);
        self.finish(number, Status::Cancelled);
    }

    pub(super) fn list(
        &mut self,
        now: Instant,
        filter: &JobFilter,
        after: Option<u64>,
        limit: usize,
    ) -> JobListing {
        self.pass(now);
        let limit = limit.clamp(1, JobListing::MOST);
        let mut listing = JobListing::default();
        // A place is that of the next job.
        let rest = self.jobs.range(after.unwrap_or_default()..);
        for (looked_at, (number, entry)) in rest.enumerate() {
            if listing.jobs.len() == limit || looked_at == JobListing::MOST {
                listing.next = Some(*number);
                break;
            }
            let age = self.now.saturating_duration_since(entry.accepted);
            let NewJob { kind, target, .. } = &entry.job;
            let is_listed = matches!(entry.status(), Status::Queued | Status::Running);
            if is_listed && filter.matches(kind, target, age) {
                listing.jobs.push(entry.summary(self.now));
            }
        }
        listing
    }

    pub(super) fn number_of_keys(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn depth(&mut self, now: Instant) -> Depth {
        self.pass(now);
        Depth::new(self.queued, self.running, self.dead_lettering)
    }

    /// Until when a waiter sleeps whose claim has seen `seen`, and that waits until `end` at most. `None` if
    /// there may be work to claim, or the wait is over.
    pub(super) fn sleep(&mut self, now: Instant, seen: Mark, end: Instant) -> Option<Instant> {
        self.pass(now);
        if self.bell.changes() != seen.changes() || self.now >= end {
            return None;
        }
        let events = self.alarms.first().into_iter().chain(self.leases.first());
        let until = events.map(|(at, _)| *at).fold(end, Instant::min);
        self.bell.sleeps(until);
        Some(until)
    }

    /// Handles everything that has become due by now.
    fn pass(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(&(end, number)) = self.leases.first()
            && end <= self.now
        {
            self.leases.remove(&(end, number));
            self.lose(number, end);
        }
        for _ in 0..CHORES {
            match self.alarms.first().copied() {
                Some(alarm) if alarm.0 <= self.now => {
                    self.alarms.remove(&alarm);
                    self.bell.news();
                }
                _ => break,
            }
        }
        for _ in 0..CHORES {
            match self.ends.first() {
                Some(&(end, number)) if end <= self.now => self.forget(number),
                _ => break,
            }
        }
        self.keys.pass(self.now, CHORES);
    }

    /// Ends a claim whose lease has ended. If it was that of the last attempt, the job has failed for good.
    fn lose(&mut self, number: u64, end: Instant) {
        if self.is_cancelled(number) {
            return self.let_go(number);
        }
        let Some(entry) = self.jobs.get_mut(&number) else {
            return;
        };
        let claim = entry.claim.take();
        entry.due = end;
        if entry.cause.is_some() {
            add(&mut self.failed, &entry.job.kind, (end, number));
            self.bell.news();
            return;
        }
        entry.lapsed = claim.map(|claim| claim.token);
        self.running = self.running.saturating_sub(1);
        self.lanes.stop(&entry.job.target, self.now);
        if entry.attempts >= self.limits.attempts {
            self.dead_letter(number, Cause::new(Reason::WorkerLost), None, end);
        } else {
            self.queued += 1;
            self.lanes
                .push(&entry.job.target, &entry.job.kind, (end, number));
            self.bell.news();
        }
    }

    /// Turns a job that is neither queued nor running into a failed job.
    fn dead_letter(&mut self, number: u64, cause: Cause, history: Option<History>, due: Instant) {
        if let Some(entry) = self.jobs.get_mut(&number) {
            self.bytes = self.bytes.saturating_sub(entry.size);
            self.failed_bytes = self.failed_bytes.saturating_add(entry.size);
            entry.cause = Some(cause);
            entry.due = due;
            if let Some(history) = history {
                entry.history = history;
            }
            add(&mut self.failed, &entry.job.kind, (due, number));
        }
        self.dead_lettering += 1;
        self.bell.news();
        self.advance_order(number);
    }

    /// Ends the run of a job, after a verdict.
    fn stop(&mut self, number: u64) {
        self.end_claim(number);
        self.running = self.running.saturating_sub(1);
        if let Some(entry) = self.jobs.get(&number)
            && self.lanes.stop(&entry.job.target, self.now)
        {
            self.bell.news();
        }
    }

    /// Queues a job or failed job again.
    fn requeue(
        &mut self,
        number: u64,
        is_failed: bool,
        wait: Duration,
        history: History,
        uncount: u32,
    ) {
        if is_failed {
            self.end_claim(number);
        } else {
            self.stop(number);
            self.queued += 1;
        }
        let due = after(self.now, wait);
        if let Some(entry) = self.jobs.get_mut(&number) {
            entry.due = due;
            entry.history = history;
            entry.attempts = entry.attempts.saturating_sub(uncount);
            if is_failed {
                add(&mut self.failed, &entry.job.kind, (due, number));
            }
        }
        if is_failed {
            self.announce((due, number));
        } else {
            self.line_up(number);
        }
    }

    /// Lets the next job of the FIFO group, if there is one, become due.
    fn advance_order(&mut self, number: u64) {
        let Some(order) = self
            .jobs
            .get(&number)
            .and_then(|entry| entry.job.fifo_group.as_ref())
        else {
            return;
        };
        let Some(line) = self.orders.get_mut(order) else {
            return;
        };
        // Another one is first if this job was given up before, when its lease ended.
        if line.front() != Some(&number) {
            return;
        }
        line.pop_front();
        match line.front().copied() {
            Some(next) => self.line_up(next),
            None => drop(self.orders.remove(order)),
        }
    }

    /// Puts a job into its lane.
    fn line_up(&mut self, number: u64) {
        if let Some(entry) = self.jobs.get(&number) {
            let spot = (entry.due, number);
            self.lanes.push(&entry.job.target, &entry.job.kind, spot);
            self.announce(spot);
        }
    }

    /// Records that work is due now, or when it will be.
    fn announce(&mut self, spot: Spot) {
        if spot.0 <= self.now {
            self.bell.news();
        } else {
            self.alarms.insert(spot);
            self.bell.alarm(spot.0);
        }
    }

    /// Claims the job at this spot.
    fn begin(&mut self, spot: Spot, lease: Duration) -> Option<Job> {
        let token = self.token();
        let until = after(self.now, lease);
        let entry = self.jobs.get_mut(&spot.1)?;
        entry.lapsed = None;
        entry.attempts = entry.attempts.saturating_add(1);
        self.lanes.start(&entry.job.target, &entry.job.kind, spot);
        let job = entry.job(token, self.now);
        self.queued = self.queued.saturating_sub(1);
        self.running += 1;
        self.grant(spot.1, token, until);
        Some(job)
    }

    fn begin_failed(&mut self, spot: Spot, lease: Duration) -> Option<Job> {
        let token = self.token();
        let until = after(self.now, lease);
        let entry = self.jobs.get_mut(&spot.1)?;
        entry.lapsed = None;
        take(&mut self.failed, &entry.job.kind, spot);
        let job = entry.job(token, self.now);
        self.grant(spot.1, token, until);
        Some(job)
    }

    fn token(&mut self) -> FencingToken {
        let token = FencingToken::new(self.next_token);
        self.next_token += 1;
        token
    }

    /// The number of the job whose last claim this is. If its lease has ended, the claim is made to hold
    /// again; once the job was given up for it, only if the claim `is_final`.
    fn holder(&mut self, claim: Claim, is_final: bool) -> Option<u64> {
        let number = *self.ids.get(&claim.id)?;
        let entry = self.jobs.get_mut(&number)?;
        if let Some(granted) = entry.claim {
            return (granted.token == claim.token).then_some(number);
        }
        entry.lapsed.filter(|last| *last == claim.token)?;
        let spot = (entry.due, number);
        if entry.cause.is_some() {
            if !is_final {
                return None;
            }
            entry.cause = None;
            self.failed_bytes = self.failed_bytes.saturating_sub(entry.size);
            self.bytes = self.bytes.saturating_add(entry.size);
            self.dead_lettering = self.dead_lettering.saturating_sub(1);
            take(&mut self.failed, &entry.job.kind, spot);
            self.lanes.enter(&entry.job.target);
        } else {
            self.lanes.start(&entry.job.target, &entry.job.kind, spot);
            self.queued = self.queued.saturating_sub(1);
        }
        self.running += 1;
        entry.lapsed = None;
        let (token, until) = (claim.token, self.now);
        entry.claim = Some(Granted { token, until });
        self.leases.insert((until, number));
        Some(number)
    }

    fn grant(&mut self, number: u64, token: FencingToken, until: Instant) {
        if let Some(entry) = self.jobs.get_mut(&number) {
            entry.claim = Some(Granted { token, until });
            self.leases.insert((until, number));
            self.bell.alarm(until);
        }
    }

    fn end_claim(&mut self, number: u64) {
        if let Some(entry) = self.jobs.get_mut(&number)
            && let Some(claim) = entry.claim.take()
        {
            self.leases.remove(&(claim.until, number));
        }
    }

    /// A failed job, claimed or not, is one of those no more.
    fn leave_failed(&mut self, number: u64) {
        self.end_claim(number);
        if let Some(entry) = self.jobs.get(&number) {
            take(&mut self.failed, &entry.job.kind, (entry.due, number));
            self.dead_lettering = self.dead_lettering.saturating_sub(1);
        }
    }

    /// Finishes a task: removes the payload, and keeps the status for the retention.
    fn finish(&mut self, number: u64, status: Status) {
        let Some(entry) = self.jobs.remove(&number) else {
            return;
        };
        let bytes = match entry.cause {
            Some(_) => &mut self.failed_bytes,
            None => &mut self.bytes,
        };
        *bytes = bytes.saturating_sub(entry.size);
        let over = Over {
            until: after(self.now, self.limits.retention),
            task: Task::new(entry.job.id, status, entry.accepted_at, entry.attempts),
            key: entry.job.dedup_key.as_ref().map(IdempotencyKey::digest),
        };
        self.keep(number, over);
    }

    /// Keeps a finished task, and removes those that are beyond the bounds.
    fn keep(&mut self, number: u64, over: Over) {
        self.result_bytes = self.result_bytes.saturating_add(over.result_len());
        self.ends.insert((over.until, number));
        self.over.insert(number, over);
        while self.over.len() > self.limits.finished || self.result_bytes > self.limits.results {
            match self.ends.first() {
                Some(&(_, number)) => self.forget(number),
                None => break,
            }
        }
    }

    /// Removes a finished task. Its key stays until its retention is over.
    fn forget(&mut self, number: u64) {
        let Some(over) = self.over.remove(&number) else {
            return;
        };
        self.ends.remove(&(over.until, number));
        self.result_bytes = self.result_bytes.saturating_sub(over.result_len());
        self.ids.remove(&over.task.id);
        if let Some(key) = over.key {
            let is_done = over.task.status != Status::Failed;
            let times = [self.now, over.until];
            self.keys.part(key, over.task.id, times, is_done);
        }
    }

    /// The task, unless its retention is over.
    fn look_up(&mut self, number: u64) -> Option<Task> {
        if let Some(entry) = self.jobs.get(&number) {
            return Some(Task::new(
                entry.job.id,
                entry.status(),
                entry.accepted_at,
                entry.attempts,
            ));
        }
        let over = self.over.get(&number)?;
        if over.until <= self.now {
            self.forget(number);
            return None;
        }
        Some(over.task.clone())
    }
}

impl Entry {
    fn job(&self, token: FencingToken, now: Instant) -> Job {
        let age = now.saturating_duration_since(self.accepted);
        let mut job = Job::new(self.job.clone(), token, self.accepted_at, age);
        job.attempt = self.attempts;
        job.history = self.history.clone();
        job.cause.clone_from(&self.cause);
        job
    }

    fn summary(&self, now: Instant) -> JobSummary {
        let NewJob {
            id, kind, target, ..
        } = &self.job;
        let mut summary = JobSummary::new(*id, kind, target, self.accepted_at);
        summary.fifo_group.clone_from(&self.job.fifo_group);
        summary.status = self.status();
        summary.attempts = self.attempts;
        if self.claim.is_none() {
            summary.due_in = self.due.saturating_duration_since(now);
        }
        summary
    }

    const fn status(&self) -> Status {
        match (&self.cause, &self.claim) {
            _ if self.is_cancelled => Status::Cancelled,
            (Some(_), _) => Status::Failed,
            (None, Some(_)) => Status::Running,
            (None, None) => Status::Queued,
        }
    }
}

impl Over {
    fn result_len(&self) -> usize {
        match &self.task.status {
            Status::Succeeded {
                result: Some(result),
            } => result.len(),
            _ => 0,
        }
    }
}

type Spots = HashMap<String, BTreeSet<Spot>>;

fn add(failed: &mut Spots, kind: &str, spot: Spot) {
    if let Some(spots) = failed.get_mut(kind) {
        spots.insert(spot);
    } else {
        failed.insert(kind.to_owned(), [spot].into());
    }
}

fn take(failed: &mut Spots, kind: &str, spot: Spot) {
    if let Some(spots) = failed.get_mut(kind) {
        spots.remove(&spot);
        if spots.is_empty() {
            failed.remove(kind);
        }
    }
}

/// The size of a job within the limit of bytes: its payload and all its texts.
fn size(job: &NewJob) -> usize {
    let About {
        event_id,
        event_time: _,
        idempotency_key,
        hops,
        replay_of,
        replays: _,
        trace_id,
        entry_id: _,
    } = &job.about;
    let about = [event_id, idempotency_key, hops, replay_of, trace_id];
    let texts = about.into_iter().chain([&job.fifo_group]).flatten();
    let key = job.dedup_key.as_ref();
    texts
        .map(String::len)
        .chain(key.map(|key| key.scope().len() + key.id().len()))
        .chain([job.payload.len(), job.kind.len(), job.target.len()])
        .fold(0, usize::saturating_add)
}

/// The longest wait: thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns `now + wait`, at most [`FAR`] from now.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(FAR)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        jobs: 1_000,
        keys: 1_000,
        bytes: 1 << 20,
        payload: 1 << 10,
        finished: 1_000,
        results: 1 << 20,
        attempts: 3,
        per_target: 5,
        retention: Duration::from_secs(1),
    };

    /// However jobs end, nothing of them is left when their retention is over.
    #[test]
    fn what_is_over_leaves_nothing_behind() {
        let (mut now, second) = (Instant::now(), Duration::from_secs(1));
        let mut state = State::new(LIMITS, now);
        let ids: Vec<_> = (0..300)
            .map(|number| {
                let mut job = NewJob::new("test", vec![7; 100])
                    .target(format!("target-{}", number % 7))
                    .delay(second * (number % 3));
                if number % 2 == 0 {
                    job = job.fifo_group(format!("order-{}", number % 5));
                }
                if number % 3 == 0 {
                    match IdempotencyKey::new("test", &number.to_string()) {
                        Ok(key) => job = job.dedup_key(key),
                        Err(error) => panic!("{error}"),
                    }
                }
                state.enqueue(now, job, SystemTime::UNIX_EPOCH).unwrap().id
            })
            .collect();
        for id in ids.iter().step_by(11) {
            assert_eq!(state.cancel(now, *id).unwrap().0, Status::Cancelled);
        }
        let mut round = 0_u32;
        while state.depth(now).unfinished() > 0 {
            now += second;
            let claims = state.claim(now, &Ask::new(40, second * 2));
            for job in &claims.jobs {
                round += 1;
                let history = History::new();
                let end = match (round % 6, job.cause.is_some()) {
                    // It dies.
                    (0, _) => {
                        if round.is_multiple_of(4) {
                            state.cancel(now, job.id);
                        }
                        continue;
                    }
                    (1, _) => End::Retry {
                        after: second,
                        history,
                    },
                    (2, _) => End::Release {
                        after: second,
                        history,
                    },
                    (_, true) => End::Done { result: None },
                    (3, false) => End::Failed {
                        cause: Cause::new(Reason::Rejected),
                        history,
                    },
                    (_, false) => End::Done {
                        result: Some(vec![7; 10].into()),
                    },
                };
                let settled = state.settle(now, vec![(job.claim(), end)]);
                assert_eq!(settled.unwrap(), [Settled::Done]);
            }
        }
        for _ in 0..10 {
            now += second;
            assert_eq!(state.depth(now), Depth::new(0, 0, 0));
        }
        assert!(ids.iter().all(|id| state.task(now, *id).is_none()));
        let left = [
            state.jobs.len(),
            state.over.len(),
            state.ids.len(),
            state.keys.len(),
            state.lanes.len(),
            state.orders.len(),
            state.failed.len(),
            state.leases.len(),
            state.alarms.len(),
            state.ends.len(),
            state.bytes,
            state.failed_bytes,
            state.result_bytes,
        ];
        assert_eq!(left, [0; 13]);
    }

    /// A waiter that cannot use the remaining work sleeps, and does not spin.
    #[test]
    fn who_can_use_nothing_sleeps() {
        let now = Instant::now();
        let end = now + Duration::from_secs(60);
        let limits = Limits {
            per_target: 1,
            ..LIMITS
        };
        let mut state = State::new(limits, now);
        for _ in 0..3 {
            let job = NewJob::new("test", "payload").target("full");
            state.enqueue(now, job, SystemTime::UNIX_EPOCH).unwrap();
        }
        let ask = Ask::new(10, Duration::from_secs(600));
        assert_eq!(state.claim(now, &ask).jobs.len(), 1);
        let claims = state.claim(now, &ask);
        assert!(claims.jobs.is_empty());
        assert!(state.sleep(now, claims.mark, end).is_some());
        assert!(state.sleep(now, Mark::default(), end).is_none());
    }
}
