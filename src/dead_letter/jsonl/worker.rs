//! The thread that decides, writes and answers.

use super::{
    Abandoned, JsonlDeadLettersBuilder,
    journal::{Journal, Snapshot},
    line::{Line, REMOVAL, line_of},
    lock,
};
use crate::{
    StoreError, StoreErrorKind,
    dead_letter::{
        Entry, EntryId, Filter, Listing, Page,
        state::{self, Change, Removed, State},
    },
};
use std::{
    collections::HashMap,
    io, mem,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The largest number of operations that share a sync, and the number of bytes after which no more join them.
const GROUP: usize = 256;
const GROUP_BYTES: u64 = 4 << 20;

/// An operation. It fails if the file cannot be read.
pub(super) type Op = Box<dyn FnOnce(Result<&mut Worker, &io::Error>) + Send>;

/// The answer of an operation, and what it changes.
pub(super) type Decided<T> = Result<(T, Option<Change>), StoreError>;

/// Answers an operation, which has failed if its line is not on the disk.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

pub(super) struct Worker {
    with: JsonlDeadLettersBuilder,
    journal: Journal,
    pub(super) state: State,
    foreign: Foreign,
    /// Answers that wait for the sync.
    answers: Vec<Answer>,
    /// The first error of this group, for observers.
    failure: Option<io::Error>,
    /// The size of the file from which on a snapshot is tried again, after one has failed.
    retry_at: u64,
    epoch: Instant,
    torn: Arc<AtomicU64>,
    abandoned: Abandoned,
}

/// Lines that a snapshot copies as they are.
#[derive(Default)]
struct Foreign {
    unreadable: Vec<Range<u64>>,
    /// Entries of a newer schema, with its version, and removals of a newer schema.
    newer: HashMap<EntryId, (Option<u32>, Range<u64>)>,
    bytes: u64,
}

impl Foreign {
    fn read(&mut self, at: Range<u64>, line: Line, state: &mut State) {
        match line {
            Line::Change(change, newer) => {
                let removed = match change {
                    Change::Remove(id) if newer => Some(id),
                    _ => None,
                };
                self.apply(state, change, at.end - at.start, Duration::ZERO);
                self.newer.extend(removed.map(|id| (id, (None, at))));
            }
            Line::Newer(id, version) => {
                state.take(id);
                self.newer.insert(id, (Some(version), at));
            }
            Line::Unreadable => self.unreadable.push(at),
        }
    }

    /// Applies a change, which is newer than any line that is copied.
    fn apply(&mut self, state: &mut State, change: Change, size: u64, now: Duration) {
        if !matches!(change, Change::Count { .. }) {
            self.newer.remove(&change.id());
        }
        state.apply(change, size, now);
    }

    fn measured(mut self) -> Self {
        let newer = self.newer.values().map(|(_, at)| at);
        let all = self.unreadable.iter().chain(newer);
        self.bytes = all.map(|at| at.end - at.start).sum();
        self
    }
}

impl Worker {
    pub(super) fn new(
        journal: Journal,
        with: JsonlDeadLettersBuilder,
        torn: Arc<AtomicU64>,
        abandoned: Abandoned,
    ) -> io::Result<Self> {
        let mut worker = Self {
            with,
            journal,
            state: State::new(0),
            foreign: Foreign::default(),
            answers: Vec::new(),
            failure: None,
            retry_at: 0,
            epoch: Instant::now(),
            torn,
            abandoned,
        };
        worker.load()?;
        worker.tidy();
        Ok(worker)
    }

    /// Works until the last handle is dropped and every accepted operation is done. Then drops `ended`, for
    /// which `close` waits.
    pub(super) fn work(mut self, queue: &Receiver<Op>, ended: watch::Sender<()>) {
        while let Ok(first) = queue.recv() {
            // Before the file is looked at: what is asked for after an answer is another group.
            let mut group = vec![first];
            group.extend(queue.try_iter().take(GROUP - 1));
            let loaded = if self.journal.is_as_left() {
                Ok(())
            } else {
                self.load()
            };
            self.take_back();
            for op in group {
                op(loaded.as_ref().map(|()| &mut self));
            }
            self.answer();
            self.tidy();
        }
        self.take_back();
        self.answer();
        // Releases the lock first: a caller of `close` may open the file again.
        drop(self);
        drop(ended);
    }

    /// Replays all lines: when the store is opened, and when another program has changed the file.
    fn load(&mut self) -> io::Result<()> {
        let room = usize::try_from(self.with.max_bytes / 8 / REMOVAL);
        let mut state = State::new(room.map_or(Removed::MOST, |room| room.min(Removed::MOST)));
        let mut foreign = Foreign::default();
        let torn = self
            .journal
            .read(|at, line| foreign.read(at, line, &mut state))?;
        state.inherit(&self.state);
        (self.state, self.foreign) = (state, foreign.measured());
        if torn {
            self.torn.fetch_add(1, Ordering::Relaxed);
            let what = "a file ended in the middle of a line, which is now in this one";
            self.with.trouble(what, &self.journal.damaged().display());
        }
        let unreadable = self.unreadable();
        if unreadable > 0 {
            let what = "lines cannot be read, and stay as they are";
            self.with.trouble(what, &unreadable);
        }
        Ok(())
    }

    /// Has an operation decided, and records what it changes. It is answered by [`answer`](Self::answer).
    pub(super) fn serve<T: Send + 'static>(
        &mut self,
        decide: impl FnOnce(&mut Self, Duration) -> Decided<T>,
        answer: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let now = self.epoch.elapsed();
        let result = decide(self, now).and_then(|(reply, change)| {
            change.map_or(Ok(()), |change| self.record(change, now))?;
            Ok(reply)
        });
        self.answers
            .push(Box::new(|synced| answer(synced.and(result))));
        if self.journal.unsynced() >= GROUP_BYTES {
            self.answer();
        }
    }

    fn record(&mut self, change: Change, now: Duration) -> Result<(), StoreError> {
        let line = line_of(&change);
        let size = line.len() as u64;
        if let Change::Put {
            entry, released, ..
        } = &change
        {
            if line.len() > self.with.max_entry_bytes {
                return Err(StoreError::new(StoreErrorKind::TooLarge));
            }
            let bytes = self.state.bytes_with(entry.id, size) + self.foreign.bytes;
            if !released && bytes > self.with.max_bytes {
                return Err(StoreError::new(StoreErrorKind::Full));
            }
        }
        let written = self.journal.append(&line);
        // The line of a claim that nobody got would only have recorded that it does not count.
        if written.is_ok() || matches!(change, Change::Count { claim: None, .. }) {
            self.foreign.apply(&mut self.state, change, size, now);
        }
        written.map_err(|error| {
            let failed = failed(&error);
            self.failure.get_or_insert(error);
            failed
        })
    }

    /// Answers the operations of a group, when their lines are on the disk.
    fn answer(&mut self) {
        let synced = self.journal.sync();
        let failure = self.failure.take();
        if let Some(error) = failure.as_ref().or(synced.as_ref().err()) {
            let what = "entries were not written to their file";
            self.with.trouble(what, error);
        }
        for answer in mem::take(&mut self.answers) {
            answer(synced.as_ref().copied().map_err(failed));
        }
    }

    /// Undoes the claims that nobody got.
    fn take_back(&mut self) {
        let abandoned = mem::take(&mut *lock(&self.abandoned));
        for (id, token) in abandoned {
            self.serve(|worker, _| Ok(((), worker.state.unclaim(id, token))), drop);
        }
    }

    /// Replaces the file by a snapshot when most of its bytes are no longer current.
    fn tidy(&mut self) {
        let removals = self.state.removed.len() as u64 * REMOVAL;
        let current = self.state.bytes + removals + self.foreign.bytes;
        let wasted = self.journal.size.saturating_sub(current);
        let slack = self.with.max_bytes / 64;
        if wasted <= current.max(slack) || self.journal.size < self.retry_at {
            return;
        }
        self.retry_at = 0;
        if let Err(error) = self.rewrite() {
            self.journal.abandon();
            self.retry_at = self.journal.size + slack;
            let what = "the file of entries could not be replaced by a shorter one";
            self.with.trouble(what, &error);
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut snapshot = self.journal.begin()?;
        let foreign = self.snapshot(&mut snapshot)?;
        self.journal.replace(snapshot)?;
        self.foreign = foreign.measured();
        Ok(())
    }

    fn snapshot(&self, to: &mut Snapshot) -> io::Result<Foreign> {
        let mut foreign = Foreign::default();
        for at in &self.foreign.unreadable {
            foreign.unreadable.push(self.journal.copy(at, to)?);
        }
        for (id, (version, at)) in &self.foreign.newer {
            if version.is_some() || self.state.removed.contains(*id) {
                let at = self.journal.copy(at, to)?;
                foreign.newer.insert(*id, (*version, at));
            }
        }
        let removed = self.state.removed.iter();
        for id in removed.filter(|id| !foreign.newer.contains_key(id)) {
            to.write(&line_of(&Change::Remove(id)))?;
        }
        for (_, item) in self.state.oldest_first() {
            to.write(&line_of(&Change::Put {
                entry: item.entry(),
                place: item.place,
                released: false,
            }))?;
        }
        Ok(foreign)
    }

    /// Fails if a newer release has written this entry.
    pub(super) fn is_known(&self, id: EntryId) -> Result<(), StoreError> {
        match self.foreign.newer.get(&id) {
            Some((Some(found), _)) => Err(StoreError::new(StoreErrorKind::NewerSchema {
                found: *found,
                known: Entry::SCHEMA_VERSION,
            })),
            _ => Ok(()),
        }
    }

    pub(super) fn list(&self, filter: &Filter, page: &Page, now: Duration) -> Listing {
        let mut listing = state::list(filter, page, |before| self.state.glance(before, now));
        if page.after.is_none() {
            listing.unreadable = self.unreadable();
        }
        listing
    }

    fn unreadable(&self) -> u64 {
        let newer = self.foreign.newer.values();
        let newer = newer.filter(|(version, _)| version.is_some()).count();
        (self.foreign.unreadable.len() + newer) as u64
    }
}

/// The error of an operation.
pub(super) fn failed(error: &io::Error) -> StoreError {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => StoreErrorKind::Full,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind).caused_by(error.to_string())
}
