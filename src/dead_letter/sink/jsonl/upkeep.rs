//! Reading what is there, and giving back what is no longer needed.

use super::{
    files::{Location, Tail},
    line::{self, Line},
    worker::{GROUP_BYTES, Worker},
};
use crate::{
    dead_letter::{LetterId, Summary, sink::shelf::Shelf},
    trace::trouble,
};
use std::{io, sync::atomic::Ordering};

impl Worker {
    /// Reads everything anew: at the beginning, and when the files are not as they were left.
    pub(super) fn load(&mut self) -> io::Result<()> {
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
    pub(super) fn tidy(&mut self) {
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
