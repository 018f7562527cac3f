//! The thread that reads and writes.

use super::{
    JsonlLettersBuilder,
    files::{Files, Location, Tail},
    line::{self, Line},
};
use crate::{
    dead_letter::{
        Cursor, Discarded, Filter, Letter, LetterClaim, LetterId, Listing, Page, SinkError,
        SinkErrorKind, Summary,
        sink::shelf::{Claimable, Shelf},
    },
    fence::{Settled, Token},
    trace::trouble,
};
use std::{
    collections::HashSet,
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// Bytes after which a group is written, whatever waits.
const GROUP_BYTES: usize = 4 << 20;
/// Operations of one group.
const GROUP: usize = 256;

pub(super) type Answer<T> = oneshot::Sender<Result<T, SinkError>>;

pub(super) enum Op {
    Write(Arc<Letter>, Answer<()>),
    List(Filter, Page, Answer<Listing>),
    Get(LetterId, Answer<Option<Letter>>),
    Claim(LetterId, Duration, u32, Answer<LetterClaim>),
    Renew(LetterId, Token, Duration, Answer<Settled>),
    Release(Token, Arc<Letter>, Answer<Settled>),
    Remove(LetterId, Token, Answer<Settled>),
    Discard(LetterId, Answer<Discarded>),
    Count(Filter, Answer<u64>),
}

/// What is known of a letter without reading it.
struct Known {
    summary: Summary,
    at: Location,
}

pub(super) struct Worker {
    with: JsonlLettersBuilder,
    files: Files,
    shelf: Shelf<Known>,
    epoch: Instant,
    torn: Arc<AtomicU64>,
    /// Held as long as the files are used.
    _lock: File,
}

/// Lines that are to be written, and what is true when they are.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    changes: Vec<(u64, Change)>,
    touched: HashSet<LetterId>,
    /// Bytes by which the letters grow.
    grows: u64,
}

enum Change {
    Put {
        summary: Box<Summary>,
        place: u64,
        /// The claim that ends with it.
        then: Result<Answer<()>, (Token, Answer<Settled>)>,
    },
    Claimed {
        lease: Duration,
        letter: Box<Letter>,
        answer: Answer<LetterClaim>,
    },
    Removed {
        id: LetterId,
        then: Result<Answer<Settled>, Answer<Discarded>>,
    },
}

impl Op {
    /// The letter that it is about. `None` where it is about all.
    fn id(&self) -> Option<LetterId> {
        match self {
            Self::Write(letter, _) | Self::Release(_, letter, _) => Some(letter.id),
            Self::Get(id, _)
            | Self::Claim(id, ..)
            | Self::Renew(id, ..)
            | Self::Remove(id, ..)
            | Self::Discard(id, _) => Some(*id),
            Self::List(..) | Self::Count(..) => None,
        }
    }

    fn fail(self, error: &Failed) {
        match self {
            Self::Write(_, answer) => error.tell(answer),
            Self::List(_, _, answer) => error.tell(answer),
            Self::Get(_, answer) => error.tell(answer),
            Self::Claim(_, _, _, answer) => error.tell(answer),
            Self::Renew(_, _, _, answer)
            | Self::Release(_, _, answer)
            | Self::Remove(_, _, answer) => error.tell(answer),
            Self::Discard(_, answer) => error.tell(answer),
            Self::Count(_, answer) => error.tell(answer),
        }
    }
}

/// One failure, which is told to several.
struct Failed {
    kind: SinkErrorKind,
    cause: String,
}

impl Failed {
    fn tell<T>(&self, answer: Answer<T>) {
        let _ = answer.send(Err(self.error()));
    }

    fn error(&self) -> SinkError {
        SinkError::new(self.kind).caused_by(self.cause.clone())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => SinkErrorKind::Full,
            _ => SinkErrorKind::Unavailable,
        };
        Self {
            kind,
            cause: error.to_string(),
        }
    }
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

    fn put(&mut self, summary: Summary, at: Location, place: u64) {
        let (id, replays) = (summary.id, summary.replays);
        let before = self.shelf.put_at(place, id, Known { summary, at }, replays);
        if let Some(before) = before {
            self.files.died(before.at);
        }
        self.files.lives(at);
    }

    fn take(&mut self, id: LetterId) {
        if let Some(item) = self.shelf.take(id) {
            self.files.died(item.kept.at);
        }
    }

    fn letter(&self, id: LetterId) -> Result<Option<Letter>, SinkError> {
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

    /// Reads everything anew: at the beginning, and when the files are not as they were left.
    fn load(&mut self) -> io::Result<()> {
        self.files.find()?;
        let earlier = std::mem::replace(&mut self.shelf, Shelf::new());
        if let Err(error) = self.load_all() {
            // The next look tries again, and must still know who holds what.
            self.shelf = earlier;
            self.files.forget();
            return Err(error);
        }
        self.shelf.inherit(&earlier);
        Ok(())
    }

    fn load_all(&mut self) -> io::Result<()> {
        for index in 0..self.files.segments.len() {
            let mut lines = Vec::new();
            let whole = |line: &[u8]| !matches!(Line::read(line), Line::Unreadable);
            let each = |at: Location, line: &[u8]| lines.push((at, Seen::of(line)));
            let tail = self.files.scan(index, each, whole)?;
            for (at, seen) in lines {
                match seen {
                    Seen::Letter(summary, place) => {
                        let (id, replays) = (summary.id, summary.replays);
                        self.put(*summary, at, place.unwrap_or(0));
                        // Lines are in the order of what happened: one after a claim counts it, or
                        // takes it back.
                        self.shelf.set_replays(id, replays);
                    }
                    Seen::Claimed(id, replays) => self.shelf.count_replays(id, replays),
                    Seen::Removed(id) => self.take(id),
                    Seen::Unreadable => self.files.cannot_read(at),
                    Seen::Blank => {}
                }
            }
            if let Some(Tail::Torn) = tail {
                self.torn.fetch_add(1, Ordering::Relaxed);
                trouble!(
                    "dead_letter",
                    "a line that was cut is now in the file beside that ends in .damaged"
                );
            }
        }
        let unreadable = self.files.unreadable();
        if unreadable > 0 {
            trouble!(
                "dead_letter",
                "lines cannot be read and stay as they are",
                lines = unreadable
            );
        }
        Ok(())
    }

    /// Gives back what is no longer needed: deletes the oldest files of which nothing counts, and,
    /// where more than half of everything does not count, moves what does out of the oldest.
    fn tidy(&mut self) {
        for _ in 0..self.files.segments.len() {
            if self.files.segments.len() < 2 {
                return;
            }
            let (size, live) = (self.files.size(), self.files.live());
            let wasted = size.saturating_sub(live);
            let result = if self.files.segments[0].live == 0 {
                self.files.delete_oldest()
            } else if wasted > live.max(self.with.max_file_bytes) {
                self.move_out().and_then(|()| self.files.delete_oldest())
            } else {
                return;
            };
            if let Err(error) = result {
                trouble!(
                    "dead_letter",
                    "an old file of letters was not cleared",
                    cause = error
                );
                return;
            }
        }
    }

    /// Writes what counts in the oldest file to the newest. What is there twice after a crash is
    /// one letter.
    fn move_out(&mut self) -> io::Result<()> {
        let Some(oldest) = self.files.segments.first() else {
            return Ok(());
        };
        let number = oldest.number;
        let unreadable = oldest.unreadable.clone();
        let ids = self.shelf.oldest_first();
        let ids: Vec<_> = ids
            .filter(|(_, item)| item.kept.at.segment == number)
            .map(|(id, item)| (id, item.kept.at, item.place))
            .collect();
        let mut lines = Vec::new();
        let mut moved = Vec::new();
        let damaged = unreadable.into_iter().map(|at| (None, at, 0));
        let counting = ids.into_iter().map(|(id, at, place)| (Some(id), at, place));
        for (id, at, place) in counting.chain(damaged) {
            let mut line = self.files.read(at)?;
            match id.map(|id| self.letter(id)) {
                Some(Ok(Some(letter))) => line = line::letter(&letter, place),
                // As it is, but a line.
                _ if line.last() != Some(&b'\n') => line.push(b'\n'),
                _ => {}
            }
            moved.push((id, line.len() as u64));
            lines.extend(line);
            if lines.len() >= GROUP_BYTES {
                self.move_lines(&mut lines, &mut moved)?;
            }
        }
        self.move_lines(&mut lines, &mut moved)
    }

    fn move_lines(
        &mut self,
        lines: &mut Vec<u8>,
        moved: &mut Vec<(Option<LetterId>, u64)>,
    ) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut at = self.files.append(lines)?;
        lines.clear();
        for (id, length) in moved.drain(..) {
            at.length = length;
            match id {
                None => self.files.cannot_read(at),
                Some(id) => {
                    if let Some(known) = self.shelf.kept_mut(id) {
                        let before = std::mem::replace(&mut known.at, at);
                        self.files.died(before);
                        self.files.lives(at);
                    }
                }
            }
            at.offset += length;
        }
        Ok(())
    }
}

/// What is remembered of a line while a file is read.
enum Seen {
    Letter(Box<Summary>, Option<u64>),
    Claimed(LetterId, u32),
    Removed(LetterId),
    Unreadable,
    Blank,
}

impl Seen {
    fn of(line: &[u8]) -> Self {
        if line.trim_ascii().is_empty() && line.len() < 3 {
            return Self::Blank;
        }
        match Line::read(line) {
            Line::Letter(letter, place) => {
                Self::Letter(Box::new(Summary::of(&letter, false)), place)
            }
            Line::Claimed(id, replays) => Self::Claimed(id, replays),
            Line::Removed(id) => Self::Removed(id),
            Line::Unreadable => Self::Unreadable,
        }
    }
}

impl Batch {
    fn add(&mut self, id: LetterId, line: &[u8], change: Change) {
        self.lines.extend_from_slice(line);
        self.changes.push((line.len() as u64, change));
        self.touched.insert(id);
    }
}

impl Change {
    fn fail(self, error: &Failed) {
        match self {
            Self::Put { then, .. } => match then {
                Ok(answer) => error.tell(answer),
                Err((_, answer)) => error.tell(answer),
            },
            Self::Claimed { answer, .. } => error.tell(answer),
            Self::Removed { then, .. } => match then {
                Ok(answer) => error.tell(answer),
                Err(answer) => error.tell(answer),
            },
        }
    }
}
