//! Sinks, to which entries are written, and stores, which also list, claim and remove them.

use super::{Cause, Entry, EntryId, NotAnId, Reason};
use crate::{
    BoxFuture, StoreError,
    lease::{FencingToken, Settled},
};
use std::{
    any::Any,
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Takes entries. Implement only this trait for a sink that is never read back, such as a broker.
///
/// # Guarantees
///
/// - `Ok` means that the entry is stored as safely as the sink's documentation says: on the disk, at the
///   server.
/// - Writing an entry with an existing id replaces it, so that a write with an unknown result can be
///   repeated.
/// - In a [`LetterStore`], writing an entry that was removed returns `Ok` and writes nothing. Every
///   failure therefore needs an entry with a new id.
///
/// # Cancel safety
///
/// A write whose future is dropped is either done or not, never half done.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no dead-letter sink",
    label = "needs a dead-letter sink",
    note = "`MemoryDeadLetters::default()` is one, `JsonlDeadLetters::open(path)?`, and `SqliteDeadLetters` of `tower-webhook-sqlite`; of a `Result`, take what is in it with `?`",
    note = "for a sink of your own, implement `Sink`"
)]
pub trait Sink: Any + fmt::Debug + Send + Sync {
    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// [`StoreError`], in the future: the entry may not be stored.
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>>;
}

/// A sink whose entries can be listed, sent again and removed.
///
/// A caller claims an entry before it sends it again, so that only one of two callers sends it. It
/// removes the entry after the peer has accepted it. If the delivery fails, it releases the claim with
/// the updated entry. When the lease of a claim ends, another caller can claim the entry.
///
/// Every implementation passes [`contract`](super::contract).
///
/// # Rules
///
/// - A list is ordered by when each entry was first written. Writing it again, claiming it and releasing
///   it do not move it, so that pages neither repeat nor miss an entry while others write.
/// - Writing an entry again replaces it, but keeps its claim and the greater number of
///   [replays](Entry::replays): a write cannot reset the limit on replays.
/// - The store measures the lease of a claim. A holder whose lease has ended can still renew, release or remove,
///   as long as nobody has claimed the entry since, because every change compares the
///   [token](crate::lease) alone. What counts as [in progress](Summary::in_progress), and is neither claimed nor
///   discarded by others, is decided by the lease.
/// - An id belongs to one entry for good. After an entry was removed or discarded, writing its id
///   succeeds and writes nothing: such a write is a late repetition of an entry that was accepted, which
///   must not be sent again. A store remembers these ids for a while: the memory and file stores the
///   last 10,000, SQLite those of seven days.
/// - A claim whose future is dropped before it returned is released, and does not count.
///
/// # Cancel safety
///
/// If the future of an operation is dropped, the operation is done or not done, never half done. The
/// store itself releases a claim that was made and not returned; if that fails, the claim ends with its
/// lease.
#[diagnostic::on_unimplemented(
    message = "the entries of `{Self}` cannot be listed and claimed",
    note = "to send entries again, use `MemoryDeadLetters`, `JsonlDeadLetters`, or `SqliteDeadLetters` of `tower-webhook-sqlite`; a broker is written to alone",
    note = "for a store of your own, implement `LetterStore`, and run `dead_letter::contract`"
)]
pub trait LetterStore: Sink {
    /// Lists matching entries, newest first.
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>>;

    /// Reads one entry. `None` if there is none with this id.
    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>>;

    /// Claims an entry for `lease` to send it again. The claim itself increases [`Entry::replays`], so that
    /// it counts even if the process dies.
    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>>;

    /// Extends a claim, whose lease then ends `lease` from now. [`Settled::Lost`]: another has claimed the entry
    /// since, the claim was ended, or the entry is gone.
    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>>;

    /// Ends a claim and replaces the entry with `entry`, which has its newest cause and history, and the
    /// number of replays: one less than claimed if nothing was sent. [`Settled::Lost`] as for
    /// [`renew`](Self::renew): the entry stays as it is.
    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>>;

    /// Ends a claim and removes the accepted entry. Its id is not written again. [`Settled::Lost`] as for
    /// [`renew`](Self::renew): the entry stays as it is.
    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>>;

    /// Removes an entry without sending it, unless it is claimed. Its id is not written again.
    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>>;

    /// Counts matching entries.
    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>>;
}

/// The result of [`LetterStore::claim`].
#[derive(Clone, Debug, PartialEq)]
pub enum EntryClaim {
    /// The entry is claimed by the caller until the lease ends.
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
    /// The entry has been sent again as often as is allowed.
    Spent {
        /// The number of replays.
        replays: u32,
    },
}

/// The result of [`LetterStore::discard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The entry is removed.
    Done,
    /// Another caller has claimed the entry. It is not removed.
    InProgress,
    /// There is no such entry.
    Missing,
}

/// Selects entries: every condition that is set must hold. Default: all entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// The reason of the entry.
    pub reason: Option<Reason>,
    /// The target of the entry, exactly.
    pub target: Option<String>,
    /// The event id of the entry, exactly.
    pub event_id: Option<String>,
    /// The earliest time of writing, inclusive.
    pub written_from: Option<SystemTime>,
    /// The latest time of writing, exclusive.
    pub written_before: Option<SystemTime>,
}

impl Filter {
    /// Selects every entry.
    pub const fn all() -> Self {
        Self {
            reason: None,
            target: None,
            event_id: None,
            written_from: None,
            written_before: None,
        }
    }

    /// Selects entries with this reason. Default: any.
    #[must_use]
    pub const fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Selects entries of this target. Default: any.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Selects entries of the event with this id. Default: any.
    #[must_use]
    pub fn event_id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = Some(event_id.into());
        self
    }

    /// Selects entries that were written at this time or later. Default: any time.
    #[must_use]
    pub const fn written_from(mut self, time: SystemTime) -> Self {
        self.written_from = Some(time);
        self
    }

    /// Selects entries that were written before this time. Default: any time.
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

    /// Whether the entry with this summary is selected.
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

/// A page of a list: its size and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The largest number of entries: 1 to [`Page::MAX`].
    pub limit: usize,
    /// The end of the previous page; `None` for the first page.
    pub after: Option<Cursor>,
}

impl Page {
    /// The largest number of entries of a page.
    pub const MAX: usize = 1_000;

    /// The first page, with at most `limit` entries. `limit` is clamped to 1 to [`Page::MAX`].
    pub fn first(limit: usize) -> Self {
        Self {
            limit: limit.clamp(1, Self::MAX),
            after: None,
        }
    }

    /// Sets the cursor at which the page begins. Default: the newest entry.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

/// A position in a list. Its text form is for the store that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// For stores: makes the cursor of this number.
    pub const fn new(place: u64) -> Self {
        Self(place)
    }

    /// For stores: returns the number.
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
    /// The beginning of the next page; `None` at the end of the list.
    pub next: Option<Cursor>,
    /// The number of records of this page that cannot be read: damaged, or of a newer schema. They stay
    /// in the store.
    pub unreadable: u64,
}

/// An entry in a list: all of it except headers, body and attempt records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The id.
    pub id: EntryId,
    /// The kind of request.
    pub kind: String,
    /// The peer of the delivery.
    pub target: String,
    /// The method of an HTTP request.
    pub method: Option<String>,
    /// The URI of an HTTP request.
    pub uri: Option<String>,
    /// Why it was dead-lettered.
    pub cause: Cause,
    /// The number of attempts.
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
    /// The number of times that it was sent again.
    pub replays: u32,
    /// Whether it is claimed.
    pub in_progress: bool,
}

impl Summary {
    /// Makes the summary of an entry.
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
