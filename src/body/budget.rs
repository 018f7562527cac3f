//! One budget for the bytes of all bodies in flight.

use crate::InvalidConfig;
use bytes::{Buf as _, Bytes};
use http::request;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use std::{
    collections::{HashMap, hash_map::RandomState},
    fmt,
    future::Future,
    hash::{BuildHasher as _, Hash},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{error::Elapsed, timeout},
};

/// The longest body that counts as small, in bytes.
const SMALL: usize = 16 << 10;

/// The budget of a layer that is given none, in bytes.
const DEFAULT: usize = 64 << 20;

/// How long a body waits for others to leave, for each part of it that arrives.
pub(super) const WAIT: Duration = Duration::from_secs(1);

/// A budget for the bytes of all bodies that are in memory at the same time. Clones share it: give one to the
/// layers of all routes.
///
/// A body takes from it what has arrived of it, not what it declares, so a sender that sends nothing takes
/// nothing. It keeps its bytes until the response future ends or is dropped. If there is no room, it is read no
/// further and waits for at most a second, in the order of arrival; after that it is refused with
/// [`BodyError::Busy`](super::BodyError::Busy), and gives back what it has.
///
/// A quarter is kept for bodies that declare at most 16 KiB and fit into it: large bodies wait for each other, and not the
/// small ones for them. With [`share_by`](Self::share_by), the bodies of one peer take no more than an eighth of
/// either part; without it, one peer may take all.
///
/// # Bounds
///
/// A part that has to wait is in memory already: at most one read of the server for each connection. A body that
/// arrives in parts is copied together in a buffer that grows by doubling. The memory is therefore up to about
/// three times the budget.
///
/// # Examples
///
/// ```
/// use tower_webhook::{BufferBodyLayer, body::BodyBudget};
///
/// let budget = BodyBudget::new(16 << 20);
/// let hooks = BufferBodyLayer::new(1 << 20).budget(budget.clone())?;
/// let uploads = BufferBodyLayer::new(8 << 20).budget(budget)?;
/// # let _ = (hooks, uploads);
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct BodyBudget {
    parts: Arc<Parts>,
    /// Names the peer of a request, if bodies are counted by peer.
    peer: Option<NamePeer>,
}

type NamePeer = Arc<dyn Fn(&request::Parts) -> Option<u64> + Send + Sync>;

struct Parts {
    small: Semaphore,
    large: Semaphore,
    /// The sizes of both, in bytes.
    smallest: usize,
    largest: usize,
    /// The largest limit of a layer that takes from this, in bytes.
    longest: AtomicUsize,
    peers: Mutex<Peers>,
}

/// The shares of the peers that have a body in flight.
#[derive(Default)]
struct Peers {
    /// By peer and part, with the number of bodies.
    rooms: HashMap<(u64, bool), (Arc<Semaphore>, usize)>,
    /// Of peers that have left, so that the next ones allocate nothing.
    spare: Vec<Arc<Semaphore>>,
}

impl BodyBudget {
    /// Makes a budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let small = (bytes / 4).min(Semaphore::MAX_PERMITS);
        let largest = (bytes - bytes / 4).min(Semaphore::MAX_PERMITS);
        Self {
            parts: Arc::new(Parts {
                small: Semaphore::new(small),
                large: Semaphore::new(largest),
                smallest: small,
                largest,
                longest: AtomicUsize::new(0),
                peers: Mutex::default(),
            }),
            peer: None,
        }
    }

    /// Sets a function that names the peer of a request, by an address for example. The bodies of one peer then
    /// take at most an eighth of the part for large bodies and an eighth of the part for small ones, but always
    /// as much as one body of the limit. Default: no peers.
    ///
    /// A body that finds the share of its peer full waits like for the budget, and within the same second, behind
    /// the bodies of that peer. A request for which `peer` returns `None` is counted in no share.
    ///
    /// Clones of the result share the shares too.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use tower_webhook::body::BodyBudget;
    ///
    /// let budget = BodyBudget::new(64 << 20).share_by(|head| head.extensions.get::<IpAddr>().copied());
    /// # let _ = budget;
    /// ```
    #[must_use]
    pub fn share_by<K: Hash>(
        mut self,
        peer: impl Fn(&request::Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        // With a random seed: nobody can choose a name that shares with another.
        let seed = RandomState::new();
        self.peer = Some(Arc::new(move |head| Some(seed.hash_one(peer(head)?))));
        self
    }

    /// The budget of a layer with this limit that is given none.
    pub(super) fn for_limit(limit: usize) -> Self {
        Self::new(DEFAULT.max(limit.saturating_mul(2)))
    }

    /// # Errors
    ///
    /// [`InvalidConfig`] for `budget` if a body of `limit` bytes would never fit.
    pub(super) fn admit(&self, limit: usize) -> Result<(), InvalidConfig> {
        if limit > self.parts.largest {
            let problem = format!(
                "must be at least {} bytes, so that three quarters of it hold a body of {limit} bytes",
                limit.saturating_add(limit.saturating_sub(1) / 3)
            );
            return Err(InvalidConfig::new("budget", problem));
        }
        self.parts.longest.fetch_max(limit, Ordering::Relaxed);
        Ok(())
    }

    /// A share without bytes, for the body of this request that declares this length, if it declares one.
    pub(super) fn share(&self, head: &request::Parts, declared: Option<u64>) -> Share {
        Share {
            parts: Arc::clone(&self.parts),
            is_small: declared.is_some_and(|declared| declared <= self.parts.small_body() as u64),
            bytes: 0,
            peer: self.peer.as_ref().and_then(|peer| peer(head)),
            room: None,
        }
    }
}

impl Parts {
    const fn of(&self, is_small: bool) -> &Semaphore {
        if is_small { &self.small } else { &self.large }
    }

    /// The longest body that counts as small: in a small budget, what the part for them holds.
    fn small_body(&self) -> usize {
        SMALL.min(self.smallest)
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more body of the peer: the room for all of them.
    fn enter(&self, peer: u64, is_small: bool) -> Arc<Semaphore> {
        let longest = self.longest.load(Ordering::Relaxed);
        let size = if is_small {
            (self.smallest / 8).max(longest.min(self.small_body()))
        } else {
            (self.largest / 8).max(longest)
        };
        let mut peers = self.peers();
        let Peers { rooms, spare } = &mut *peers;
        let (room, bodies) = rooms.entry((peer, is_small)).or_insert_with(|| {
            let room = spare.pop().filter(|room| room.available_permits() == size);
            (room.unwrap_or_else(|| Arc::new(Semaphore::new(size))), 0)
        });
        *bodies += 1;
        Arc::clone(room)
    }

    /// Takes back the count of [`enter`](Self::enter).
    fn leave(&self, peer: u64, is_small: bool) {
        let mut peers = self.peers();
        if let Some((_, bodies)) = peers.rooms.get_mut(&(peer, is_small)) {
            *bodies -= 1;
            if *bodies == 0
                && let Some((room, _)) = peers.rooms.remove(&(peer, is_small))
            {
                peers.spare.push(room);
            }
        }
    }
}

impl fmt::Debug for BodyBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.parts.large.available_permits() + self.parts.small.available_permits();
        f.debug_struct("BodyBudget")
            .field("left", &left)
            .finish_non_exhaustive()
    }
}

/// The bytes of one body, given back when it is dropped.
pub(super) struct Share {
    parts: Arc<Parts>,
    is_small: bool,
    bytes: usize,
    peer: Option<u64>,
    /// The room of the peer, from the first bytes on.
    room: Option<Arc<Semaphore>>,
}

impl Share {
    /// Takes bytes, or returns the wait for them.
    fn take(&mut self, bytes: usize) -> Option<Waiting> {
        let permits = permits(bytes);
        if let (Some(peer), None) = (self.peer, &self.room) {
            self.room = Some(self.parts.enter(peer, self.is_small));
        }
        if self.try_take(permits) {
            self.bytes += permits as usize;
            return None;
        }
        let (parts, is_small, room) = (Arc::clone(&self.parts), self.is_small, self.room.clone());
        // Boxed: only a body that must wait pays for it.
        Some(Box::pin(timeout(WAIT, async move {
            // First of the peer, so that the bodies that wait for the part are within their shares.
            let of_peer = match &room {
                Some(room) => match room.acquire_many(permits).await {
                    Ok(of_peer) => Some(of_peer),
                    Err(_) => return false,
                },
                None => None,
            };
            let Ok(taken) = parts.of(is_small).acquire_many(permits).await else {
                return false;
            };
            of_peer.into_iter().for_each(SemaphorePermit::forget);
            taken.forget();
            true
        })))
    }

    fn try_take(&self, permits: u32) -> bool {
        let of_peer = match &self.room {
            Some(room) => match room.try_acquire_many(permits) {
                Ok(of_peer) => Some(of_peer),
                Err(_) => return false,
            },
            None => None,
        };
        let Ok(taken) = self.parts.of(self.is_small).try_acquire_many(permits) else {
            return false;
        };
        of_peer.into_iter().for_each(SemaphorePermit::forget);
        taken.forget();
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.parts.of(self.is_small).add_permits(self.bytes);
        if let (Some(peer), Some(room)) = (self.peer, &self.room) {
            room.add_permits(self.bytes);
            self.parts.leave(peer, self.is_small);
        }
    }
}

/// Ends with `Ok(true)` when the bytes are taken.
type Waiting = Pin<Box<dyn Future<Output = Result<bool, Elapsed>> + Send>>;

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A body whose bytes are taken from a budget as they arrive.
#[pin_project]
pub(super) struct Counted<B> {
    #[pin]
    body: B,
    /// What has arrived and has no room yet. Dropped before the share, which gives back the room of its peer.
    waiting: Option<(Bytes, Waiting)>,
    share: Share,
    /// The longest body. What is beyond it is not taken: the reader refuses it.
    limit: usize,
}

pub(super) enum CountedError<E> {
    /// No room in time.
    Busy,
    Read(E),
}

impl<B> Counted<B> {
    pub(super) const fn new(body: B, share: Share, limit: usize) -> Self {
        Self {
            body,
            waiting: None,
            share,
            limit,
        }
    }

    /// The bytes that the body has taken, for whoever holds them next.
    pub(super) fn hand_over(self: Pin<&mut Self>) -> Share {
        let share = self.project().share;
        Share {
            parts: Arc::clone(&share.parts),
            is_small: share.is_small,
            bytes: mem::take(&mut share.bytes),
            peer: share.peer,
            room: share.room.take(),
        }
    }
}

impl<B: Body> Body for Counted<B> {
    type Data = Bytes;
    type Error = CountedError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        if this.waiting.is_none() {
            let frame = match ready!(this.body.poll_frame(cx)) {
                Some(Ok(frame)) => frame.map_data(|mut data| data.copy_to_bytes(data.remaining())),
                Some(Err(error)) => return Poll::Ready(Some(Err(CountedError::Read(error)))),
                None => return Poll::Ready(None),
            };
            let data = match frame.data_ref() {
                Some(data) if data.len() <= this.limit.saturating_sub(this.share.bytes) => data,
                _ => return Poll::Ready(Some(Ok(frame))),
            };
            match this.share.take(data.len()) {
                None => return Poll::Ready(Some(Ok(frame))),
                Some(waiting) => *this.waiting = Some((data.clone(), waiting)),
            }
        }
        let Some((data, waiting)) = this.waiting else {
            return Poll::Ready(None);
        };
        let has_room = ready!(waiting.as_mut().poll(cx)) == Ok(true);
        let data = mem::take(data);
        *this.waiting = None;
        if !has_room {
            return Poll::Ready(Some(Err(CountedError::Busy)));
        }
        this.share.bytes += permits(data.len()) as usize;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = self.waiting.as_ref().map_or(0, |(data, _)| data.len()) as u64;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(waiting));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(waiting)) {
            hint.set_upper(upper);
        }
        hint
    }
}
