//! Letters in this process's memory: what is kept dies with the process.
//!
//! Bounded by letters and by bytes. When it is full it refuses ([`SinkErrorKind::Full`]), so that
//! whoever writes knows that the letter is not kept; or, where that was
//! [chosen](MemoryLettersBuilder::drop_oldest), the oldest letters make room and are
//! [counted](MemoryLetters::dropped).
//!
//! The ids of the last 10,000 letters that were removed or discarded are remembered, and are not
//! written again.
//!
//! # Cancel safety
//!
//! Every operation but a claim is done when its future is made, and the future is ready. A claim is
//! done when its future is polled, which then is ready: dropped before, there is none.

use super::{
    Discarded, Filter, LetterClaim, LetterStore, Listing, Page, Sink, SinkError, SinkErrorKind,
    Summary,
    removed::Removed,
    shelf::{Claimable, Item, Shelf},
};
use crate::{
    BoxFuture, InvalidConfig,
    dead_letter::{Letter, LetterId},
    fence::{Settled, Token},
    trace::trouble,
};
use std::{
    fmt,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Letters in memory. See the [module docs](self). Clones share what they keep.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::{Duration, SystemTime}};
/// use tower_webhook::dead_letter::{
///     Cause, Filter, Letter, LetterClaim, LetterId, LetterStore, MemoryLetters, Page, Reason, Sink,
/// };
///
/// # tokio_test::block_on(async {
/// let letters = MemoryLetters::default();
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let letter = Letter::new(LetterId::random(), "http", "peer.test", cause, SystemTime::now());
/// letters.write(&Arc::new(letter.clone())).await?;
///
/// let listing = letters.list(&Filter::all().reason(Reason::Rejected), &Page::first(50)).await?;
/// assert_eq!(listing.letters[0].id, letter.id);
///
/// let claim = letters.claim(letter.id, Duration::from_secs(60), 5).await?;
/// assert!(matches!(claim, LetterClaim::Claimed { .. }));
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryLetters {
    shared: Arc<Shared>,
}

struct Shared {
    with: MemoryLettersBuilder,
    epoch: Instant,
    state: Mutex<State>,
}

struct State {
    shelf: Shelf<Kept>,
    removed: Removed<()>,
    bytes: usize,
    dropped: u64,
}

struct Kept {
    letter: Arc<Letter>,
    weight: usize,
}

impl MemoryLetters {
    /// Settings, all with defaults.
    pub const fn builder() -> MemoryLettersBuilder {
        MemoryLettersBuilder {
            max_letters: 10_000,
            max_bytes: 64 << 20,
            drop_oldest: false,
        }
    }

    /// How many letters it has.
    pub fn len(&self) -> usize {
        self.state().shelf.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many letters have made room for others, unseen.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a poisoned lock has the last whole state.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }

    fn put(&self, letter: &Arc<Letter>) -> Result<(), SinkError> {
        let with = &self.shared.with;
        let weight = weight(letter);
        if weight > with.max_bytes {
            return Err(SinkError::new(SinkErrorKind::TooLarge));
        }
        let now = self.now();
        let mut state = self.state();
        let state = &mut *state;
        if state.removed.contains(letter.id) {
            return Ok(());
        }
        let present = state.shelf.get(letter.id);
        let (new, before) = present.map_or((1, 0), |item| (0, item.kept.weight));
        let mut letters = state.shelf.len() + new;
        let mut bytes = (state.bytes - before).saturating_add(weight);
        let mut leaving = Vec::new();
        for (id, item) in state.shelf.oldest_first() {
            if letters <= with.max_letters && bytes <= with.max_bytes || !with.drop_oldest {
                break;
            }
            if id != letter.id && !item.in_progress(now) {
                letters -= 1;
                bytes -= item.kept.weight;
                leaving.push(id);
            }
        }
        if letters > with.max_letters || bytes > with.max_bytes {
            return Err(SinkError::new(SinkErrorKind::Full));
        }
        for id in &leaving {
            state.shelf.take(*id);
        }
        if !leaving.is_empty() {
            state.dropped = state.dropped.saturating_add(leaving.len() as u64);
            trouble!(
                "dead_letter",
                "the oldest letters were dropped",
                letters = leaving.len()
            );
        }
        let kept = Kept {
            letter: letter.clone(),
            weight,
        };
        state.shelf.put(letter.id, kept, letter.replays);
        state.bytes = bytes;
        Ok(())
    }
}

impl MemoryLetters {
    fn take_claim(&self, id: LetterId, lease: Duration, max_replays: u32) -> LetterClaim {
        let now = self.now();
        let mut state = self.state();
        match state.shelf.claimable(id, now, max_replays) {
            Claimable::Missing => LetterClaim::Missing,
            Claimable::InProgress(lease_left) => LetterClaim::InProgress { lease_left },
            Claimable::Spent(replays) => LetterClaim::Spent { replays },
            Claimable::Yes(_) => {
                let token = state.shelf.claim(id, now.saturating_add(lease));
                match state.shelf.get(id).map(Item::letter) {
                    Some(letter) => LetterClaim::Claimed {
                        token,
                        letter: Box::new(letter),
                    },
                    None => LetterClaim::Missing,
                }
            }
        }
    }
}

impl State {
    /// Removes a letter for good.
    fn remove(&mut self, id: LetterId) {
        if let Some(item) = self.shelf.take(id) {
            self.bytes -= item.kept.weight;
        }
        self.removed.put(id, ());
    }
}

impl Item<Kept> {
    fn letter(&self) -> Letter {
        let mut letter = (*self.kept.letter).clone();
        letter.replays = self.replays;
        letter
    }
}

/// About what a letter takes in memory.
fn weight(letter: &Letter) -> usize {
    let texts = [
        &letter.method,
        &letter.uri,
        &letter.cause.class,
        &letter.cause.message,
        &letter.event_id,
        &letter.idempotency_key,
        &letter.replay_of,
        &letter.trace_id,
    ];
    let texts = texts.into_iter().flatten().map(String::len);
    let headers = letter.headers.iter();
    let headers =
        headers.map(|(name, value)| size_of::<(String, bytes::Bytes)>() + name.len() + value.len());
    let records = size_of_val(letter.history.records());
    // The letter, its item, its share of a map and a tree.
    size_of::<Letter>()
        + 256
        + letter.kind.len()
        + letter.target.len()
        + letter.body.bytes().len()
        + records
        + texts.sum::<usize>()
        + headers.sum::<usize>()
}

fn done<T: Send + 'static>(result: Result<T, SinkError>) -> BoxFuture<Result<T, SinkError>> {
    Box::pin(ready(result))
}

impl Sink for MemoryLetters {
    fn write(&self, letter: &Arc<Letter>) -> BoxFuture<Result<(), SinkError>> {
        done(self.put(letter))
    }
}

impl LetterStore for MemoryLetters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, SinkError>> {
        let now = self.now();
        let state = self.state();
        let (found, next) = state.shelf.page(page, |kept| filter.matches(&kept.letter));
        let letters = found.into_iter().map(|(_, item)| {
            let mut summary = Summary::of(&item.kept.letter, item.in_progress(now));
            summary.replays = item.replays;
            summary
        });
        done(Ok(Listing {
            letters: letters.collect(),
            next: next.map(super::Cursor::new),
            unreadable: 0,
        }))
    }

    fn get(&self, id: LetterId) -> BoxFuture<Result<Option<Letter>, SinkError>> {
        done(Ok(self.state().shelf.get(id).map(Item::letter)))
    }

    fn claim(
        &self,
        id: LetterId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<LetterClaim, SinkError>> {
        let letters = self.clone();
        Box::pin(async move { Ok(letters.take_claim(id, lease, max_replays)) })
    }

    fn renew(
        &self,
        id: LetterId,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, SinkError>> {
        let now = self.now();
        let mut state = self.state();
        if !state.shelf.holds(id, token, now) {
            return done(Ok(Settled::Lost));
        }
        state.shelf.renew(id, now.saturating_add(lease));
        done(Ok(Settled::Done))
    }

    /// It may take the bytes over their bound, by what the letter has grown: a claim can always be
    /// ended.
    fn release(&self, token: Token, letter: &Arc<Letter>) -> BoxFuture<Result<Settled, SinkError>> {
        let now = self.now();
        let mut state = self.state();
        if !state.shelf.holds(letter.id, token, now) {
            return done(Ok(Settled::Lost));
        }
        let kept = Kept {
            letter: letter.clone(),
            weight: weight(letter),
        };
        let added = kept.weight;
        if let Some(before) = state.shelf.put(letter.id, kept, letter.replays) {
            state.bytes = (state.bytes - before.weight).saturating_add(added);
        }
        state.shelf.set_replays(letter.id, letter.replays);
        state.shelf.unclaim(letter.id, token);
        done(Ok(Settled::Done))
    }

    fn remove(&self, id: LetterId, token: Token) -> BoxFuture<Result<Settled, SinkError>> {
        let now = self.now();
        let mut state = self.state();
        if !state.shelf.holds(id, token, now) {
            return done(Ok(Settled::Lost));
        }
        state.remove(id);
        done(Ok(Settled::Done))
    }

    fn discard(&self, id: LetterId) -> BoxFuture<Result<Discarded, SinkError>> {
        let now = self.now();
        let mut state = self.state();
        done(Ok(match state.shelf.get(id) {
            None => Discarded::Missing,
            Some(item) if item.in_progress(now) => Discarded::InProgress,
            Some(_) => {
                state.remove(id);
                Discarded::Done
            }
        }))
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, SinkError>> {
        let state = self.state();
        done(Ok(state.shelf.count(|kept| filter.matches(&kept.letter))))
    }
}

impl Default for MemoryLetters {
    fn default() -> Self {
        Self::of(Self::builder())
    }
}

impl MemoryLetters {
    fn of(with: MemoryLettersBuilder) -> Self {
        Self {
            shared: Arc::new(Shared {
                with,
                epoch: Instant::now(),
                state: Mutex::new(State {
                    shelf: Shelf::new(),
                    removed: Removed::<()>::new(Removed::<()>::MOST),
                    bytes: 0,
                    dropped: 0,
                }),
            }),
        }
    }
}

impl fmt::Debug for MemoryLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryLetters")
            .field("letters", &state.shelf.len())
            .field("bytes", &state.bytes)
            .field("dropped", &state.dropped)
            .finish_non_exhaustive()
    }
}

/// Settings of [`MemoryLetters`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct MemoryLettersBuilder {
    max_letters: usize,
    max_bytes: usize,
    drop_oldest: bool,
}

impl MemoryLettersBuilder {
    /// The most letters. Default: 10,000.
    pub const fn max_letters(mut self, letters: usize) -> Self {
        self.max_letters = letters;
        self
    }

    /// The most bytes of all letters together: bodies, headers and texts, and some hundred of each
    /// for the order. Default: 64 MiB.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Lets the oldest letters that are not just being sent again make room for new ones, instead
    /// of refusing these. Each is lost unseen, and [counted](MemoryLetters::dropped).
    pub const fn drop_oldest(mut self) -> Self {
        self.drop_oldest = true;
        self
    }

    /// An empty store.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where a bound is zero.
    pub fn build(self) -> Result<MemoryLetters, InvalidConfig> {
        for (setting, value) in [
            ("max_letters", self.max_letters),
            ("max_bytes", self.max_bytes),
        ] {
            if value == 0 {
                return Err(InvalidConfig::new(setting, "must be at least 1"));
            }
        }
        Ok(MemoryLetters::of(self))
    }
}
