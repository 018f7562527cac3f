//! Where entries are written, and how stores list, claim and remove them.

use super::{Cause, Entry, EntryId, NotAnId, Reason};
use crate::{
    BoxFuture, StoreError,
    lease::{FencingToken, Settled},
};
use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Takes entries. Implement this alone for a place that is only written to, such as a broker.
///
/// # Guarantees
///
/// - `Ok` means that the entry is stored as safely as the sink's documentation says: on the disk, at the
///   server.
/// - Writing an entry whose id is there already replaces it: when it is unknown whether a write was done,
///   it can be repeated.
/// - In a [`LetterStore`], writing an entry that was removed is `Ok` and writes nothing. So every failure
///   needs an entry with a new id.
///
/// # Cancel safety
///
/// A write whose future is dropped is either done or not, never half done.
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// [`StoreError`], in its future: it is not known that the entry is stored.
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>>;
}

/// A sink whose entries can be listed, sent again and removed.
///
/// An entry that is to be sent again is claimed first, so that of two callers only one sends it. It is
/// removed after the peer has accepted it; when the delivery fails, the claim is released with the entry
/// as it then is. A claim that is neither released nor removed ends with its lease.
///
/// Every implementation passes [`contract`](super::contract).
///
/// # Rules
///
/// - A list is ordered by when each entry was first written. Writing it again, claiming and releasing
///   it do not move it, so pages neither repeat nor miss an entry while others write.
/// - Writing an entry again replaces it, but keeps its claim and the greater number of
///   [replays](Entry::replays): a limit on replays cannot be reset by writing.
/// - The store measures the lease of a claim.
/// - An id belongs to one entry for good. After an entry was removed or discarded, writing its id
///   succeeds and writes nothing: such a write is a late repetition of an entry that was accepted, which
///   must not be sent again. A store remembers these ids for a while: memory and files the last 10,000,
///   SQLite those of seven days.
/// - A claim whose future is dropped before it returned is released, and does not count.
///
/// # Cancel safety
///
/// An operation whose future is dropped is either done or not done, never half done. A claim that was
/// done and not returned is released by the store itself; where that fails, it ends with its lease.
pub trait LetterStore: Sink {
    /// Lists matching entries, newest first.
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>>;

    /// Reads one entry. `None` if there is none with this id.
    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>>;

    /// Claims an entry for `lease` to send it again, and counts the claim in [`Entry::replays`] at once,
    /// so that it counts even if the process dies.
    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>>;

    /// Extends a claim to `lease` from now.
    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>>;

    /// Ends a claim and replaces the entry with `entry`, which has its newest cause and history, and the
    /// number of replays: one less than claimed where nothing was sent.
    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>>;

    /// Ends a claim and removes the entry, which was accepted. Its id is not written again.
    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>>;

    /// Removes an entry without sending it, unless it is claimed. Its id is not written again.
    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>>;

    /// Counts matching entries.
    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>>;
}

/// The result of [`LetterStore::claim`].
#[derive(Clone, Debug, PartialEq)]
pub enum EntryClaim {
    /// The entry is the caller's until the lease ends.
    Claimed {
        /// The token of the claim.
        token: FencingToken,
        /// The entry, with this replay counted.
        entry: Box<Entry>,
    },
    /// Another caller has claimed it.
    InProgress {
        /// The time until that lease ends, unless it is renewed.
        lease_left: Duration,
    },
    /// There is no such entry.
    Missing,
    /// It was sent again as many times as is allowed.
    Spent {
        /// How many times.
        replays: u32,
    },
}

/// The result of [`LetterStore::discard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The entry is removed.
    Done,
    /// It is claimed, and stays.
    InProgress,
    /// There is no such entry.
    Missing,
}

/// Selects entries: every condition that is set must hold. Default: all entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Dead-lettered for this reason.
    pub reason: Option<Reason>,
    /// Of exactly this target.
    pub target: Option<String>,
    /// Of exactly this event.
    pub event_id: Option<String>,
    /// Written at this time or later.
    pub written_from: Option<SystemTime>,
    /// Written before this time.
    pub written_before: Option<SystemTime>,
}

impl Filter {
    /// Every entry.
    pub const fn all() -> Self {
        Self {
            reason: None,
            target: None,
            event_id: None,
            written_from: None,
            written_before: None,
        }
    }

    /// Selects entries with this reason.
    #[must_use]
    pub const fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Selects entries of this target.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Selects entries of this event.
    #[must_use]
    pub fn event_id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = Some(event_id.into());
        self
    }

    /// Selects entries that were written at this time or later.
    #[must_use]
    pub const fn written_from(mut self, time: SystemTime) -> Self {
        self.written_from = Some(time);
        self
    }

    /// Selects entries that were written before this time.
    #[must_use]
    pub const fn written_before(mut self, time: SystemTime) -> Self {
        self.written_before = Some(time);
        self
    }

    /// Whether an entry is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        let event_id = entry.event_id.as_deref();
        self.meets(
            entry.cause.reason,
            &entry.target,
            event_id,
            entry.written_at,
        )
    }

    /// Whether the entry of this summary is selected.
    pub fn matches_summary(&self, summary: &Summary) -> bool {
        let event_id = summary.event_id.as_deref();
        self.meets(
            summary.cause.reason,
            &summary.target,
            event_id,
            summary.written_at,
        )
    }

    fn meets(
        &self,
        reason: Reason,
        target: &str,
        event_id: Option<&str>,
        written_at: SystemTime,
    ) -> bool {
        self.reason.is_none_or(|wanted| wanted == reason)
            && self.target.as_deref().is_none_or(|wanted| wanted == target)
            && (self.event_id.is_none() || self.event_id.as_deref() == event_id)
            && self.written_from.is_none_or(|time| written_at >= time)
            && self.written_before.is_none_or(|time| written_at < time)
    }
}

/// A page of a list: its size, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The most entries: 1 to [`Page::MAX`].
    pub limit: usize,
    /// Where the previous page ended; `None` for the first page.
    pub after: Option<Cursor>,
}

impl Page {
    /// The most entries of a page.
    pub const MAX: usize = 1_000;

    /// The first page, with at most `limit` entries. `limit` is brought into 1 to [`Page::MAX`].
    pub fn first(limit: usize) -> Self {
        Self {
            limit: limit.clamp(1, Self::MAX),
            after: None,
        }
    }

    /// The page that begins at `cursor`.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

/// A place in a list. Its text is for the store that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// For stores: the place with this number.
    pub const fn new(place: u64) -> Self {
        Self(place)
    }

    /// For stores: the number.
    pub const fn place(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Cursor {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() > 16 || !text.bytes().all(hex) {
            return Err(NotAnId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAnId)
    }
}

/// A page of a list, as a store returns it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// The entries, newest first.
    pub entries: Vec<Summary>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
    /// How many records of this page cannot be read: damaged, or of a newer schema. They stay in the
    /// store.
    pub unreadable: u64,
}

/// An entry in a list: all but its headers, body and attempt records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The id.
    pub id: EntryId,
    /// The kind of request.
    pub kind: String,
    /// The peer it was for.
    pub target: String,
    /// The method of an HTTP request.
    pub method: Option<String>,
    /// The URI of an HTTP request.
    pub uri: Option<String>,
    /// Why it was dead-lettered.
    pub cause: Cause,
    /// How many attempts were made.
    pub attempts: u32,
    /// The length of the whole body, in bytes.
    pub body_length: u64,
    /// When the first attempt began.
    pub first_attempt_at: Option<SystemTime>,
    /// When the last attempt ended.
    pub last_attempt_at: Option<SystemTime>,
    /// When it was written.
    pub written_at: SystemTime,
    /// The id of the event.
    pub event_id: Option<String>,
    /// How many times it was sent again.
    pub replays: u32,
    /// Whether it is claimed.
    pub in_progress: bool,
}

impl Summary {
    /// The summary of an entry.
    pub fn of(entry: &Entry, in_progress: bool) -> Self {
        Self {
            id: entry.id,
            kind: entry.kind.clone(),
            target: entry.target.clone(),
            method: entry.method.clone(),
            uri: entry.uri.clone(),
            cause: entry.cause.clone(),
            attempts: entry.history.attempts(),
            body_length: entry.body.length(),
            first_attempt_at: entry.first_attempt_at,
            last_attempt_at: entry.last_attempt_at,
            written_at: entry.written_at,
            event_id: entry.event_id.clone(),
            replays: entry.replays,
            in_progress,
        }
    }
}
