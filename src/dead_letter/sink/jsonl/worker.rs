//! The thread that reads and writes.

use super::{
    JsonlLettersBuilder,
    batch::{Batch, Change},
    files::{Files, Location},
    line::{self, Line},
    op::{Failed, Op},
};
use crate::{
    dead_letter::{
        Cursor, Discarded, Filter, Letter, LetterClaim, LetterId, Listing, Page, SinkError,
        SinkErrorKind, Summary,
        sink::shelf::{Claimable, Shelf},
    },
    fence::Settled,
    trace::trouble,
};
use std::{
    fs::File,
    io,
    sync::{Arc, atomic::AtomicU64, mpsc::Receiver},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Bytes after which a group is written, whatever waits.
pub(super) const GROUP_BYTES: usize = 4 << 20;
/// Operations of one group.
const GROUP: usize = 256;

/// What is known of a letter without reading it.
pub(super) struct Known {
    pub(super) summary: Summary,
    pub(super) at: Location,
}

pub(super) struct Worker {
    pub(super) with: JsonlLettersBuilder,
    pub(super) files: Files,
    pub(super) shelf: Shelf<Known>,
    epoch: Instant,
    pub(super) torn: Arc<AtomicU64>,
    /// Held as long as the files are used.
    _lock: File,
}

impl Worker {
    pub(super) fn new(
        files: Files,
        with: JsonlLettersBuilder,
        torn: Arc<AtomicU64>,
        lock: File,
    ) -> io::Result<Self> {
        let mut worker = Self {
            with,
            files,
            shelf: Shelf::new(),
            epoch: Instant::now(),
            torn,
            _lock: lock,
        };
        worker.load()?;
        worker.tidy();
        Ok(worker)
    }

    /// Works until the last handle is gone and everything accepted is done. `ended` tells whoever
    /// waits for it, by going out of scope.
    pub(super) fn work(mut self, queue: &Receiver<Op>, ended: watch::Sender<()>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            group.extend(queue.try_iter().take(GROUP - 1));
            self.serve(group);
            self.tidy();
        }
        // The lock first: whoever waits may open the files at once.
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
            // What is decided on a letter depends on what was decided before.
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
            Op::Write(letter, answer) => match self.line_of(&letter, batch.grows) {
                Ok((line, place, grows)) => {
                    batch.grows += grows;
                    let summary = Box::new(Summary::of(&letter, false));
                    let then = Ok(answer);
                    let change = Change::Put {
                        summary,
                        place,
                        then,
                    };
                    batch.add(letter.id, &line, change);
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Op::Release(token, letter, answer) => {
                if !self.shelf.holds(letter.id, token, now) {
                    return drop(answer.send(Ok(Settled::Lost)));
                }
                let place = self.shelf.reserve(letter.id);
                let line = line::letter(&letter, place);
                if line.len() > self.with.max_letter_bytes {
                    return drop(answer.send(Err(SinkError::new(SinkErrorKind::TooLarge))));
                }
                let change = Change::Put {
                    summary: Box::new(Summary::of(&letter, false)),
                    place,
                    then: Err((token, answer)),
                };
                batch.add(letter.id, &line, change);
            }
            Op::Claim(id, lease, most, answer) => {
                let found = match self.shelf.claimable(id, now, most) {
                    Claimable::Missing => LetterClaim::Missing,
                    Claimable::InProgress(lease_left) => LetterClaim::InProgress { lease_left },
                    Claimable::Spent(replays) => LetterClaim::Spent { replays },
                    Claimable::Yes(replays) => {
                        match self.letter(id) {
                            Ok(Some(mut letter)) => {
                                letter.replays = replays;
                                let change = Change::Claimed {
                                    lease,
                                    letter: Box::new(letter),
                                    answer,
                                };
                                batch.add(id, &line::claimed(id, replays), change);
                            }
                            Ok(None) => drop(answer.send(Ok(LetterClaim::Missing))),
                            Err(error) => drop(answer.send(Err(error))),
                        }
                        return;
                    }
                };
                let _ = answer.send(Ok(found));
            }
            Op::Remove(id, token, answer) => {
                if !self.shelf.holds(id, token, now) {
                    return drop(answer.send(Ok(Settled::Lost)));
                }
                let then = Ok(answer);
                batch.add(id, &line::removed(id), Change::Removed { id, then });
            }
            Op::Discard(id, answer) => match self.shelf.get(id) {
                None => drop(answer.send(Ok(Discarded::Missing))),
                Some(item) if item.in_progress(now) => {
                    drop(answer.send(Ok(Discarded::InProgress)));
                }
                Some(_) => {
                    let then = Err(answer);
                    batch.add(id, &line::removed(id), Change::Removed { id, then });
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
            Op::Get(id, answer) => drop(answer.send(self.letter(id))),
            Op::List(filter, page, answer) => drop(answer.send(Ok(self.list(&filter, &page)))),
            Op::Count(filter, answer) => {
                let count = self
                    .shelf
                    .count(|known| filter.matches_summary(&known.summary));
                let _ = answer.send(Ok(count));
            }
        }
    }

    /// The line of a letter that is to be written, its place, and by how much the letters grow.
    fn line_of(&mut self, letter: &Letter, grows: u64) -> Result<(Vec<u8>, u64, u64), SinkError> {
        let before = self.shelf.get(letter.id);
        let (size, counted) = before.map_or((0, 0), |it| (it.kept.at.length, it.replays));
        let place = self.shelf.reserve(letter.id);
        let line = if counted > letter.replays {
            let mut letter = letter.clone();
            letter.replays = counted;
            line::letter(&letter, place)
        } else {
            line::letter(letter, place)
        };
        if line.len() > self.with.max_letter_bytes {
            return Err(SinkError::new(SinkErrorKind::TooLarge));
        }
        let grows_by = (line.len() as u64).saturating_sub(size);
        if self.files.live() + grows + grows_by > self.with.max_bytes {
            return Err(SinkError::new(SinkErrorKind::Full));
        }
        Ok((line, place, grows_by))
    }

    /// Writes what was planned; then it is true, and told.
    fn flush(&mut self, batch: &mut Batch) {
        let batch = std::mem::take(batch);
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
            }
            Err(error) => {
                let error = Failed::from(error);
                trouble!(
                    "dead_letter",
                    "letters were not written to their file",
                    kind = error.kind.as_str(),
                    cause = error.cause
                );
                for (_, change) in batch.changes {
                    change.fail(&error);
                }
            }
        }
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
                letter,
                answer,
            } => {
                let id = letter.id;
                let token = self.shelf.claim(id, self.now().saturating_add(lease));
                // Nobody waits for it any more: the next one may have it.
                if answer
                    .send(Ok(LetterClaim::Claimed { token, letter }))
                    .is_err()
                {
                    self.shelf.unclaim(id, token);
                }
            }
            Change::Removed { id, then } => {
                self.take(id);
                match then {
                    Ok(answer) => drop(answer.send(Ok(Settled::Done))),
                    Err(answer) => drop(answer.send(Ok(Discarded::Done))),
                }
            }
        }
    }

    pub(super) fn put(&mut self, summary: Summary, at: Location, place: u64) {
        let (id, replays) = (summary.id, summary.replays);
        let before = self.shelf.put_at(place, id, Known { summary, at }, replays);
        if let Some(before) = before {
            self.files.died(before.at);
        }
        self.files.lives(at);
    }

    pub(super) fn take(&mut self, id: LetterId) {
        if let Some(item) = self.shelf.take(id) {
            self.files.died(item.kept.at);
        }
    }

    pub(super) fn letter(&self, id: LetterId) -> Result<Option<Letter>, SinkError> {
        let Some(item) = self.shelf.get(id) else {
            return Ok(None);
        };
        let line = self.files.read(item.kept.at);
        let line = line.map_err(|error| Failed::from(error).error())?;
        match Line::read(&line) {
            Line::Letter(mut letter, _) if letter.id == id => {
                letter.replays = item.replays;
                Ok(Some(*letter))
            }
            _ => Err(SinkError::new(SinkErrorKind::Corrupt)),
        }
    }

    fn list(&self, filter: &Filter, page: &Page) -> Listing {
        let now = self.now();
        let matches = |known: &Known| filter.matches_summary(&known.summary);
        let (found, next) = self.shelf.page(page, matches);
        let letters = found.into_iter().map(|(_, item)| {
            let mut summary = item.kept.summary.clone();
            summary.replays = item.replays;
            summary.in_progress = item.in_progress(now);
            summary
        });
        Listing {
            letters: letters.collect(),
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
