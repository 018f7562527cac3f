//! Where entries are written, and how stores list, claim and remove them.

use super::{Cause, Entry, EntryId, Reason};
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

/// Where dead letters go.
///
/// # What it promises
///
/// - `Ok` means that the entry is there as safely as the sink's documentation says: on the disk,
///   with the server.
/// - Writing an entry whose id is there already replaces it, where it is: whoever is not sure
///   whether a write was done does it again.
/// - Where entries can be [removed](LetterStore), writing one that was is `Ok`, and writes nothing.
///   So give each entry an id of its own, and what is done once more another one than before.
///
/// # Cancel safety
///
/// A write whose future is dropped is either done or not, never half done.
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// [`StoreError`], in its future: the entry is not known to be there.
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
    /// DeadLetterDesk that match, newest first.
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>>;

    /// One entry, whole. `None` where there is none of this id.
    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>>;

    /// Claims an entry for `lease` to send it again, and counts that in
    /// [`Entry::replays`]: also where the claimer dies.
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

    /// Ends a claim and leaves the entry, as it now is: with its newest cause and history, and
    /// with the count of replays that it has here, which is less by one where nothing was sent.
    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>>;

    /// Ends a claim and removes the entry: it was accepted. Its id does not come again.
    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>>;

    /// Removes an entry that nobody wants any more, unless it is just being sent again. Its id does
    /// not come again.
    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>>;

    /// How many entries match.
    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>>;
}

/// What [`LetterStore::claim`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryClaim {
    /// The entry is the caller's until the lease ends.
    Claimed {
        /// Proof of it.
        token: FencingToken,
        /// The entry, this replay counted.
        entry: Box<Entry>,
    },
    /// Somebody else is sending it.
    InProgress {
        /// The time until their lease ends, unless they renew it.
        lease_left: Duration,
    },
    /// There is no such entry.
    Missing,
    /// It has been sent again as often as may be.
    Spent {
        /// How often that was.
        replays: u32,
    },
}

/// What [`LetterStore::discard`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The entry is gone.
    Done,
    /// It is just being sent again, and stays.
    InProgress,
    /// There was none.
    Missing,
}

/// Which entries are meant. All of them by default; every condition that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Given up for this reason.
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

    /// Those that were given up for this reason.
    #[must_use]
    pub const fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Those of this target.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Those of this event.
    #[must_use]
    pub fn event_id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = Some(event_id.into());
        self
    }

    /// Those that were written from this time on.
    #[must_use]
    pub const fn written_from(mut self, time: SystemTime) -> Self {
        self.written_from = Some(time);
        self
    }

    /// Those that were written before this time.
    #[must_use]
    pub const fn written_before(mut self, time: SystemTime) -> Self {
        self.written_before = Some(time);
        self
    }

    /// Whether an entry is meant.
    pub fn matches(&self, entry: &Entry) -> bool {
        let event_id = entry.event_id.as_deref();
        self.meets(
            entry.cause.reason,
            &entry.target,
            event_id,
            entry.written_at,
        )
    }

    /// Whether the entry that this is a summary of is meant.
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

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// How many entries at the most: 1 to [`Page::MAX`].
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

impl Page {
    /// The most entries of a page.
    pub const MAX: usize = 1_000;

    /// The first entries, this many at the most. Brought into 1 to [`Page::MAX`].
    pub fn first(limit: usize) -> Self {
        Self {
            limit: limit.clamp(1, Self::MAX),
            after: None,
        }
    }

    /// What comes after the page that ended there.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

/// A place in a list. Only its store knows what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// For stores: a place that a number names.
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
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() > 16 || !text.bytes().all(hex) {
            return Err(NotACursor);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| NotACursor)
    }
}

/// A text that no list has given out as a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACursor;

impl fmt::Display for NotACursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor that a list has given out")
    }
}

impl std::error::Error for NotACursor {}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// The entries, newest first.
    pub entries: Vec<Summary>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<Cursor>,
    /// Records of this part that cannot be read: damaged, or of a newer schema. They stay where
    /// they are.
    pub unreadable: u64,
}

/// An entry in a list: everything but headers, body and the single attempts.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Its name.
    pub id: EntryId,
    /// The kind of request.
    pub kind: String,
    /// Where it was to go.
    pub target: String,
    /// The method of an HTTP request.
    pub method: Option<String>,
    /// The URI of an HTTP request.
    pub uri: Option<String>,
    /// Why it was given up.
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
    /// How often it was tried again from here.
    pub replays: u32,
    /// Whether it is just being sent again.
    pub in_progress: bool,
}

impl Summary {
    /// What a list says of an entry.
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
