//! The thread that reads and writes the files.

use super::{
    JsonlDeadLettersBuilder,
    files::{Files, Location},
    load::{Line, claim_line, entry_line, removal_line},
    op::{Answer, Batch, Change, Failed, Op},
};
use crate::{
    StoreError, StoreErrorKind,
    dead_letter::{
        Cursor, Discarded, Entry, EntryClaim, EntryId, Filter, Listing, Page, Summary,
        index::{Claimable, Index, Removed},
    },
    lease::{FencingToken, Settled},
};
use std::{
    collections::HashMap,
    fs::File,
    io, mem,
    sync::{Arc, atomic::AtomicU64, mpsc::Receiver},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// A group of lines is written when it reaches this number of bytes, even if more operations wait.
pub(super) const GROUP_BYTES: usize = 4 << 20;
/// The largest number of operations in one group.
const GROUP: usize = 256;

const MOST_REMOVED: usize = Removed::<Location>::MOST;

/// The facts about an entry that are known without reading it.
pub(super) struct Known {
    pub(super) summary: Summary,
    pub(super) at: Location,
}

pub(super) struct Worker {
    pub(super) with: JsonlDeadLettersBuilder,
    pub(super) files: Files,
    pub(super) shelf: Index<Known>,
    /// Removed entries, and the lines that record their removal.
    pub(super) removed: Removed<Location>,
    /// Entries of a newer schema, and its version.
    pub(super) newer: HashMap<EntryId, (Location, u32)>,
    /// Claims whose caller had dropped its future when they were made.
    abandoned: Vec<(EntryId, FencingToken)>,
    epoch: Instant,
    pub(super) torn: Arc<AtomicU64>,
    /// Held as long as the files are used.
    _lock: File,
}

impl Worker {
    pub(super) fn new(
        files: Files,
        with: JsonlDeadLettersBuilder,
        torn: Arc<AtomicU64>,
        lock: File,
    ) -> io::Result<Self> {
        let mut worker = Self {
            with,
            files,
            shelf: Index::new(),
            removed: Removed::new(1),
            newer: HashMap::new(),
            abandoned: Vec::new(),
            epoch: Instant::now(),
            torn,
            _lock: lock,
        };
        worker.load()?;
        worker.tidy();
        Ok(worker)
    }

    /// Works until the last handle is dropped and every accepted operation is done. Then drops `ended`, for
    /// which `close` waits.
    pub(super) fn work(mut self, queue: &Receiver<Op>, ended: watch::Sender<()>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            group.extend(queue.try_iter().take(GROUP - 1));
            self.serve(group);
            self.tidy();
        }
        // Releases the lock first: a caller of `close` may open the files again.
        drop(self);
        drop(ended);
    }

    fn serve(&mut self, group: Vec<Op>) {
        if !self.files.is_as_left()
            && let Err(error) = self.load()
        {
            let error = Failed::from(error);
            for op in group {
                op.fail(&error);
            }
            return;
        }
        let mut batch = Batch::default();
        for op in group {
            // The decision on an entry depends on the operations before it.
            let depends = match op.id() {
                Some(id) => batch.touched.contains(&id),
                None => !batch.touched.is_empty(),
            };
            if depends || batch.lines.len() >= GROUP_BYTES {
                self.flush(&mut batch);
            }
            self.plan(op, &mut batch);
        }
        self.flush(&mut batch);
    }

    fn plan(&mut self, op: Op, batch: &mut Batch) {
        let now = self.now();
        match op {
            // A late repetition of an entry that was removed, or that a newer release has written.
            Op::Write(entry, answer)
                if self.removed.contains(entry.id) || self.newer.contains_key(&entry.id) =>
            {
                let _ = answer.send(Ok(()));
            }
            Op::Write(entry, answer) => match self.line_of(&entry, batch.grows) {
                Ok((line, place, grows)) => {
                    batch.grows += grows;
                    let summary = Box::new(Summary::of(&entry, false));
                    let then = Ok(answer);
                    let change = Change::Put {
                        summary,
                        place,
                        then,
                    };
                    batch.add(entry.id, &line, change);
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Op::Release(token, entry, answer) => {
                if !self.shelf.holds(entry.id, token, now) {
                    return drop(answer.send(Ok(Settled::Lost)));
                }
                let place = self.shelf.reserve(entry.id);
                let line = entry_line(&entry, place);
                if line.len() > self.with.max_entry_bytes {
                    return drop(answer.send(Err(StoreError::new(StoreErrorKind::TooLarge))));
                }
                let change = Change::Put {
                    summary: Box::new(Summary::of(&entry, false)),
                    place,
                    then: Err((token, answer)),
                };
                batch.add(entry.id, &line, change);
            }
            Op::Claim(id, lease, most, answer) => self.plan_claim(id, lease, most, answer, batch),
            Op::Remove(id, token, answer) => {
                if !self.shelf.holds(id, token, now) {
                    return drop(answer.send(Ok(Settled::Lost)));
                }
                let then = Ok(answer);
                batch.add(id, &removal_line(id), Change::Removed { id, then });
            }
            Op::Unclaim(id, token) => {
                if self.shelf.holds(id, token, now)
                    && let Some(item) = self.shelf.get(id)
                {
                    let replays = item.replays.saturating_sub(1);
                    let change = Change::Unclaimed { id, token };
                    batch.add(id, &claim_line(id, replays), change);
                }
            }
            Op::Discard(id, answer) => match self.shelf.get(id) {
                None if self.newer.contains_key(&id) => {
                    let then = Err(answer);
                    batch.add(id, &removal_line(id), Change::Removed { id, then });
                }
                None => drop(answer.send(Ok(Discarded::Missing))),
                Some(item) if item.in_progress(now) => {
                    drop(answer.send(Ok(Discarded::InProgress)));
                }
                Some(_) => {
                    let then = Err(answer);
                    batch.add(id, &removal_line(id), Change::Removed { id, then });
                }
            },
            Op::Renew(id, token, lease, answer) => {
                let settled = if self.shelf.holds(id, token, now) {
                    self.shelf.renew(id, now.saturating_add(lease));
                    Settled::Done
                } else {
                    Settled::Lost
                };
                let _ = answer.send(Ok(settled));
            }
            Op::Get(id, answer) => drop(answer.send(self.entry(id))),
            Op::List(filter, page, answer) => drop(answer.send(Ok(self.list(&filter, &page)))),
            Op::Count(filter, answer) => {
                let count = self
                    .shelf
                    .count(|known| filter.matches_summary(&known.summary));
                let _ = answer.send(Ok(count));
            }
        }
    }

    fn plan_claim(
        &mut self,
        id: EntryId,
        lease: Duration,
        most: u32,
        answer: Answer<EntryClaim>,
        batch: &mut Batch,
    ) {
        let now = self.now();
        let found = match self.shelf.claimable(id, now, most) {
            // The caller has dropped its future.
            _ if answer.is_closed() => return,
            Claimable::Missing if self.newer.contains_key(&id) => {
                let error = self.entry(id).map(|_| EntryClaim::Missing);
                return drop(answer.send(error));
            }
            Claimable::Missing => EntryClaim::Missing,
            Claimable::InProgress(lease_left) => EntryClaim::InProgress { lease_left },
            Claimable::Spent(replays) => EntryClaim::Spent { replays },
            Claimable::Yes(replays) => {
                match self.entry(id) {
                    Ok(Some(mut entry)) => {
                        entry.replays = replays;
                        let change = Change::Claimed {
                            lease,
                            entry: Box::new(entry),
                            answer,
                        };
                        batch.add(id, &claim_line(id, replays), change);
                    }
                    Ok(None) => drop(answer.send(Ok(EntryClaim::Missing))),
                    Err(error) => drop(answer.send(Err(error))),
                }
                return;
            }
        };
        let _ = answer.send(Ok(found));
    }

    /// Returns the line of an entry, its place, and by how many bytes the entries grow.
    fn line_of(&mut self, entry: &Entry, grows: u64) -> Result<(Vec<u8>, u64, u64), StoreError> {
        let before = self.shelf.get(entry.id);
        let (size, counted) = before.map_or((0, 0), |it| (it.kept.at.length, it.replays));
        let place = self.shelf.reserve(entry.id);
        let line = if counted > entry.replays {
            let mut entry = entry.clone();
            entry.replays = counted;
            entry_line(&entry, place)
        } else {
            entry_line(entry, place)
        };
        if line.len() > self.with.max_entry_bytes {
            return Err(StoreError::new(StoreErrorKind::TooLarge));
        }
        let grows_by = (line.len() as u64).saturating_sub(size);
        if self.files.live() + grows + grows_by > self.with.max_bytes {
            return Err(StoreError::new(StoreErrorKind::Full));
        }
        Ok((line, place, grows_by))
    }

    /// Writes the planned lines, then applies their changes and answers.
    fn flush(&mut self, batch: &mut Batch) {
        let batch = mem::take(batch);
        if batch.changes.is_empty() {
            return;
        }
        match self.files.append(&batch.lines) {
            Ok(mut at) => {
                for (length, change) in batch.changes {
                    at.length = length;
                    self.apply(at, change);
                    at.offset += length;
                }
                self.release();
            }
            Err(error) => {
                let error = Failed::from(error);
                self.with
                    .trouble("entries were not written to their file", &error.cause);
                for (_, change) in batch.changes {
                    // Its line would only have recorded that the claim does not count.
                    if let Change::Unclaimed { id, token } = change {
                        self.shelf.release(id, token);
                    } else {
                        change.fail(&error);
                    }
                }
            }
        }
    }

    /// Releases the claims whose caller had dropped its future when they were made.
    fn release(&mut self) {
        let mut batch = Batch::default();
        for (id, token) in mem::take(&mut self.abandoned) {
            self.plan(Op::Unclaim(id, token), &mut batch);
        }
        self.flush(&mut batch);
    }

    fn apply(&mut self, at: Location, change: Change) {
        match change {
            Change::Put {
                summary,
                place,
                then,
            } => {
                let (id, replays) = (summary.id, summary.replays);
                self.put(*summary, at, place);
                match then {
                    Ok(answer) => drop(answer.send(Ok(()))),
                    Err((token, answer)) => {
                        self.shelf.set_replays(id, replays);
                        self.shelf.unclaim(id, token);
                        let _ = answer.send(Ok(Settled::Done));
                    }
                }
            }
            Change::Claimed {
                lease,
                entry,
                answer,
            } => {
                let id = entry.id;
                let token = self.shelf.claim(id, self.now().saturating_add(lease));
                // The caller has dropped its future: another caller may claim the entry.
                if answer
                    .send(Ok(EntryClaim::Claimed { token, entry }))
                    .is_err()
                {
                    self.abandoned.push((id, token));
                }
            }
            Change::Unclaimed { id, token } => self.shelf.release(id, token),
            Change::Removed { id, then } => {
                self.remove(id, at);
                match then {
                    Ok(answer) => drop(answer.send(Ok(Settled::Done))),
                    Err(answer) => drop(answer.send(Ok(Discarded::Done))),
                }
            }
        }
    }

    /// The number of removed ids that are remembered.
    pub(super) fn most_removed(&self) -> usize {
        const LINE: u64 = 72;
        let room = self.with.max_bytes / 8 / LINE;
        usize::try_from(room).map_or(MOST_REMOVED, |room| room.min(MOST_REMOVED))
    }

    pub(super) fn put(&mut self, summary: Summary, at: Location, place: u64) {
        let (id, replays) = (summary.id, summary.replays);
        if let Some((newer, _)) = self.newer.remove(&id) {
            self.files.is_past(newer);
        }
        let before = self.shelf.put_at(place, id, Known { summary, at }, replays);
        if let Some(before) = before {
            self.files.died(before.at);
        }
        self.files.lives(at);
    }

    /// Forgets an entry.
    pub(super) fn take(&mut self, id: EntryId) {
        if let Some(item) = self.shelf.take(id) {
            self.files.died(item.kept.at);
        }
        if let Some((newer, _)) = self.newer.remove(&id) {
            self.files.is_past(newer);
        }
    }

    /// Removes an entry, as recorded by the line at `at`.
    pub(super) fn remove(&mut self, id: EntryId, at: Location) {
        self.take(id);
        for past in self.removed.put(id, at).into_iter().flatten() {
            self.files.forgets(past);
        }
        self.files.remembers(at);
    }

    pub(super) fn entry(&self, id: EntryId) -> Result<Option<Entry>, StoreError> {
        let Some(item) = self.shelf.get(id) else {
            return match self.newer.get(&id) {
                None => Ok(None),
                Some((_, found)) => Err(StoreError::new(StoreErrorKind::NewerSchema {
                    found: *found,
                    known: Entry::SCHEMA_VERSION,
                })),
            };
        };
        let line = self.files.read(item.kept.at);
        let line = line.map_err(|error| Failed::from(error).error())?;
        match Line::read(&line) {
            Line::Entry(mut entry, _) if entry.id == id => {
                entry.replays = item.replays;
                Ok(Some(*entry))
            }
            _ => Err(StoreError::new(StoreErrorKind::Corrupt)),
        }
    }

    fn list(&self, filter: &Filter, page: &Page) -> Listing {
        let now = self.now();
        let matches = |known: &Known| filter.matches_summary(&known.summary);
        let (found, next) = self.shelf.page(page, matches);
        let entries = found.into_iter().map(|(_, item)| {
            let mut summary = item.kept.summary.clone();
            summary.replays = item.replays;
            summary.in_progress = item.in_progress(now);
            summary
        });
        Listing {
            entries: entries.collect(),
            next: next.map(Cursor::new),
            unreadable: match page.after {
                None => self.files.unreadable(),
                Some(_) => 0,
            },
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}
