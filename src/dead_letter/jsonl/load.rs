//! Parses lines, reads all files, and moves current lines out of old files.

use super::{
    files::{Location, Tail},
    worker::{GROUP_BYTES, Worker},
};
use crate::dead_letter::{
    Entry, EntryId, Summary,
    index::{Index, Removed},
    json,
};
use serde::Deserialize;
use std::{collections::HashMap, io, mem, sync::atomic::Ordering};

pub(super) enum Line {
    /// An entry, and its place in the list if the line says it.
    Entry(Box<Entry>, Option<u64>),
    /// A claim of an entry, with its number of replays.
    Claimed(EntryId, u32),
    /// The removal of an entry.
    Removed(EntryId),
    /// An entry of a newer schema, with its version. It is not changed.
    Newer(EntryId, u32),
    /// A damaged line, or one of a newer schema without an id. It is not changed.
    Unreadable,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    id: Option<String>,
    claimed: Option<String>,
    removed: Option<String>,
    replays: Option<u32>,
    place: Option<u64>,
}

impl Line {
    pub(super) fn read(line: &[u8]) -> Self {
        Self::known(line).unwrap_or(Self::Unreadable)
    }

    fn known(line: &[u8]) -> Option<Self> {
        let outline: Outline = serde_json::from_slice(line).ok()?;
        let id = |id: &String| id.parse().ok();
        if let Some(schema @ 1..) = outline.schema_version {
            // Valid, whatever else a newer release adds to it.
            if let Some(removed) = &outline.removed {
                return Some(Self::Removed(id(removed)?));
            }
            if let Some(claimed) = &outline.claimed {
                return Some(Self::Claimed(id(claimed)?, outline.replays?));
            }
            if schema > u64::from(Entry::SCHEMA_VERSION) {
                let found = u32::try_from(schema).unwrap_or(u32::MAX);
                return Some(Self::Newer(id(outline.id.as_ref()?)?, found));
            }
        }
        let entry = json::from_json(line).ok()?;
        Some(Self::Entry(Box::new(entry), outline.place))
    }
}

pub(super) fn entry_line(entry: &Entry, place: u64) -> Vec<u8> {
    let mut line = json::to_json(entry);
    // The form allows further members.
    line.pop();
    format!("{line},\"place\":{place}}}\n").into_bytes()
}

pub(super) fn claim_line(id: EntryId, replays: u32) -> Vec<u8> {
    format!("{{\"schemaVersion\":1,\"claimed\":\"{id}\",\"replays\":{replays}}}\n").into_bytes()
}

pub(super) fn removal_line(id: EntryId) -> Vec<u8> {
    format!("{{\"schemaVersion\":1,\"removed\":\"{id}\"}}\n").into_bytes()
}

impl Worker {
    /// Reads all files: when the store is opened, and when another program has changed them.
    pub(super) fn load(&mut self) -> io::Result<()> {
        self.files.find()?;
        let earlier = mem::replace(&mut self.shelf, Index::new());
        self.removed = Removed::new(self.most_removed());
        self.newer.clear();
        if let Err(error) = self.load_all() {
            // The next operation tries again, and needs the claims.
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
                    Seen::Entry(summary, place) => {
                        let (id, replays) = (summary.id, summary.replays);
                        // Its removal had been forgotten when it was written, or somebody restored the line.
                        if let Some(removal) = self.removed.forget(id) {
                            self.files.forgets(removal);
                        }
                        self.put(*summary, at, place.unwrap_or(0));
                        // Lines are in order: an entry after a claim has the current count.
                        self.shelf.set_replays(id, replays);
                    }
                    Seen::Claimed(id, replays) => self.shelf.set_replays(id, replays),
                    Seen::Removed(id) => self.remove(id, at),
                    Seen::Newer(id, found) => {
                        self.take(id);
                        self.files.cannot_read(at);
                        self.newer.insert(id, (at, found));
                    }
                    Seen::Unreadable => self.files.cannot_read(at),
                    Seen::Blank => {}
                }
            }
            if let Some(Tail::Torn) = tail {
                self.torn.fetch_add(1, Ordering::Relaxed);
                let what = "a file ended in the middle of a line, which is now in this one";
                self.with.trouble(what, &self.files.damaged().display());
            }
        }
        let unreadable = self.files.unreadable();
        if unreadable > 0 {
            self.with
                .trouble("lines cannot be read, and stay as they are", &unreadable);
        }
        Ok(())
    }

    /// Deletes the oldest files while none of their lines is current. If more than half of all bytes are not
    /// current, first moves the current lines out of the oldest file.
    pub(super) fn tidy(&mut self) {
        for _ in 0..self.files.segments.len() {
            if self.files.segments.len() < 2 {
                return;
            }
            let (size, counts) = (self.files.size(), self.files.live() + self.files.gone());
            let wasted = size.saturating_sub(counts);
            let oldest = &self.files.segments[0];
            let result = if oldest.live == 0 && oldest.gone == 0 {
                self.files.delete_oldest()
            } else if wasted > counts.max(self.with.max_file_bytes) {
                self.move_out().and_then(|()| self.files.delete_oldest())
            } else {
                return;
            };
            if let Err(error) = result {
                self.with
                    .trouble("an old file of entries was not deleted", &error);
                return;
            }
        }
    }

    /// Copies the current lines of the oldest file to the newest. An entry that exists twice after a crash
    /// is one entry.
    fn move_out(&mut self) -> io::Result<()> {
        let Some(oldest) = self.files.segments.first() else {
            return Ok(());
        };
        let number = oldest.number;
        let newer = self.newer.iter().map(|(id, (at, _))| (*at, *id));
        let newer: HashMap<_, _> = newer.filter(|(at, _)| at.segment == number).collect();
        let unreadable = oldest.unreadable.iter();
        let mut moves: Vec<_> = unreadable
            .map(|at| (*at, Moved::Unreadable(*at, newer.get(at).copied())))
            .collect();
        let removed = self.removed.iter();
        let removed = removed.filter(|(_, at)| at.segment == number);
        moves.extend(removed.map(|(id, at)| (*at, Moved::Removal(id))));
        let entries = self.shelf.oldest_first();
        let entries = entries.filter(|(_, item)| item.kept.at.segment == number);
        moves.extend(entries.map(|(id, item)| (item.kept.at, Moved::Entry(id, item.place))));

        let mut lines = Vec::new();
        let mut moved = Vec::new();
        for (at, what) in moves {
            let mut line = match &what {
                Moved::Removal(id) if at.length == removal_line(*id).len() as u64 => {
                    removal_line(*id)
                }
                _ => self.files.read(at)?,
            };
            let entry = match &what {
                Moved::Entry(id, place) => self.entry(*id).map(|it| it.map(|it| (it, *place))),
                _ => Ok(None),
            };
            match entry {
                Ok(Some((entry, place))) => line = entry_line(&entry, place),
                // Unchanged, except for a line break.
                _ if line.last() != Some(&b'\n') => line.push(b'\n'),
                _ => {}
            }
            moved.push((what, line.len() as u64));
            lines.extend(line);
            if lines.len() >= GROUP_BYTES {
                self.move_lines(&mut lines, &mut moved)?;
            }
        }
        self.move_lines(&mut lines, &mut moved)
    }

    fn move_lines(&mut self, lines: &mut Vec<u8>, moved: &mut Vec<(Moved, u64)>) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut at = self.files.append(lines)?;
        lines.clear();
        for (what, length) in moved.drain(..) {
            at.length = length;
            match what {
                Moved::Entry(id, _) => {
                    if let Some(known) = self.shelf.kept_mut(id) {
                        let before = mem::replace(&mut known.at, at);
                        self.files.died(before);
                        self.files.lives(at);
                    }
                }
                Moved::Removal(id) => {
                    if let Some(known) = self.removed.known_mut(id) {
                        let before = mem::replace(known, at);
                        self.files.forgets(before);
                        self.files.remembers(at);
                    }
                }
                Moved::Unreadable(before, id) => {
                    self.files.is_past(before);
                    self.files.cannot_read(at);
                    if let Some((known, _)) = id.and_then(|id| self.newer.get_mut(&id)) {
                        *known = at;
                    }
                }
            }
            at.offset += length;
        }
        Ok(())
    }
}

/// A line that moves to the newest file.
enum Moved {
    /// An entry, and its place.
    Entry(EntryId, u64),
    Removal(EntryId),
    /// Its old position, and its id if it is an entry of a newer schema.
    Unreadable(Location, Option<EntryId>),
}

/// The facts about a line that are kept while a file is read.
enum Seen {
    Entry(Box<Summary>, Option<u64>),
    Claimed(EntryId, u32),
    Removed(EntryId),
    Newer(EntryId, u32),
    Unreadable,
    Blank,
}

impl Seen {
    fn of(line: &[u8]) -> Self {
        if line.trim_ascii().is_empty() && line.len() < 3 {
            return Self::Blank;
        }
        match Line::read(line) {
            Line::Entry(entry, place) => Self::Entry(Box::new(Summary::of(&entry, false)), place),
            Line::Claimed(id, replays) => Self::Claimed(id, replays),
            Line::Removed(id) => Self::Removed(id),
            Line::Newer(id, found) => Self::Newer(id, found),
            Line::Unreadable => Self::Unreadable,
        }
    }
}
