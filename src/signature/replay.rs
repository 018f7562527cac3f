use super::{SignatureError, Verified};
use crate::InvalidConfig;
use http::StatusCode;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The longest window. For longer windows, use idempotency with a store.
const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Remembers the messages that were received within the tolerance, so that none passes twice. Cheap to
/// clone; clones share the entries.
///
/// It stores a digest of the signed content (id, timestamp and body, and the tenant; of HTTP Message Signatures also the
/// other parts that must be signed, and the nonce: see there what passes twice) rather than the MAC. While a sender
/// rotates its secret, a message carries several MACs, and a cache of the matching MAC would accept the
/// message once for each. The digest is a 128-bit `SipHash` under random keys of this cache, so nobody
/// can construct a collision. A claim costs 0.8 us for 1 KiB, most of it for the digest (November 2026).
///
/// Only verified messages are added. An entry is removed if the message was not handled, so that a retry
/// of the sender with the same signature passes: the handler failed, answered 5xx, 408, 409, 425 or 429,
/// or the future was dropped before its response.
///
/// # Full
///
/// A full cache refuses the message (503 with `Retry-After`); it never drops an entry before its time.
/// Size it for the messages of one window (601 seconds by default): 100,000 entries take about 10 MB and
/// suffice for 166 messages a second.
///
/// # Scope
///
/// The cache covers one process. If several processes receive from one sender, use idempotency with a
/// shared store.
///
/// # Examples
///
/// ```
/// use tower_webhook::SignatureVerifyLayer;
/// use tower_webhook::signature::{ReplayCache, scheme::Slack};
///
/// let layer = SignatureVerifyLayer::new(Slack::new("8f742231b10e8888abcd99yyyzzz85a5")?)
///     .reject_replays(ReplayCache::new(100_000))?;
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct ReplayCache {
    shared: Arc<Shared>,
    window: Option<Duration>,
}

struct Shared {
    capacity: usize,
    hashers: [RandomState; 2],
    seen: Mutex<Seen>,
}

impl ReplayCache {
    /// Makes a cache of at most `capacity` messages, each for the window of the scheme.
    pub fn new(capacity: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                capacity,
                hashers: [RandomState::new(), RandomState::new()],
                seen: Mutex::default(),
            }),
            window: None,
        }
    }

    /// Sets how long each message is remembered, at most 24 hours. Default: the window of the scheme.
    ///
    /// **A scheme that signs no timestamp needs this setting**, but is not made safe by it: a copy passes
    /// after the window, and of two genuine messages with the same body the second is refused. Prefer
    /// idempotency for such schemes.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = Some(window);
        self
    }

    /// The number of messages that are remembered.
    pub fn len(&self) -> usize {
        let mut seen = self.shared.lock();
        seen.expire(Instant::now());
        seen.live.len()
    }

    /// Whether no message is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The window that applies to a scheme.
    pub(super) fn for_scheme(
        self,
        scheme: Option<Duration>,
    ) -> Result<(Self, Duration), InvalidConfig> {
        let invalid = |problem| Err(InvalidConfig::new("reject_replays", problem));
        if self.shared.capacity == 0 {
            return invalid("must have a capacity of at least 1 message");
        }
        let window = match (self.window, scheme) {
            (None, None) => {
                return invalid(
                    "must have a `window`, because the scheme signs no timestamp in every format \
                     that it accepts",
                );
            }
            (Some(window), Some(scheme)) if window < scheme => {
                return invalid("must not have a `window` shorter than the scheme's tolerance");
            }
            (Some(window), _) | (None, Some(window)) => window,
        };
        if window.is_zero() || window > MAX_WINDOW {
            return invalid("must have a window of at most 24 hours, which is not zero");
        }
        Ok((self, window))
    }

    /// Claims this message, if it was not received before.
    pub(super) fn claim(
        &self,
        verified: &Verified,
        body: &[u8],
        window: Duration,
    ) -> Result<Claim, SignatureError> {
        let context = (verified.tenant(), verified.context);
        let message = (context, verified.id(), verified.timestamp(), body);
        let digest = [0, 1].map(|at: usize| self.shared.hashers[at].hash_one(message));
        let number =
            self.shared
                .lock()
                .claim(digest, Instant::now(), window, self.shared.capacity)?;
        Ok(Claim {
            held: Some(Held {
                shared: self.shared.clone(),
                digest,
                number,
            }),
        })
    }
}

impl fmt::Debug for ReplayCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayCache")
            .field("capacity", &self.shared.capacity)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // No foreign code runs under the lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Digest = [u64; 2];

#[derive(Default)]
struct Seen {
    /// Each message with the number of its claim.
    live: HashMap<Digest, u64>,
    /// The claims in the order in which they were made, with the end of each. A claim that was removed early
    /// stays here until its end, unless there are too many of them.
    order: VecDeque<(Instant, Digest, u64)>,
    claims: u64,
}

impl Seen {
    fn claim(
        &mut self,
        digest: Digest,
        now: Instant,
        window: Duration,
        capacity: usize,
    ) -> Result<u64, SignatureError> {
        self.expire(now);
        if self.live.contains_key(&digest) {
            return Err(SignatureError::Replayed);
        }
        if self.live.len() >= capacity {
            let until = self.order.front().map_or(now, |(until, ..)| *until);
            return Err(SignatureError::ReplayCacheFull {
                retry_after: until.saturating_duration_since(now),
            });
        }
        if self.order.len() >= capacity.saturating_mul(2) {
            // At least half of the claims were removed early, so their number pays for a pass over all.
            let live = &self.live;
            self.order
                .retain(|(_, digest, number)| live.get(digest) == Some(number));
        }
        self.claims += 1;
        self.live.insert(digest, self.claims);
        self.order.push_back((now + window, digest, self.claims));
        Ok(self.claims)
    }

    /// Removes messages that the scheme no longer accepts. With windows of different lengths in one cache, a
    /// short one may wait behind a long one: it is kept too long, never too short.
    fn expire(&mut self, now: Instant) {
        while let Some((until, digest, number)) = self.order.front() {
            let forgotten = self.live.get(digest) != Some(number);
            if !forgotten {
                if *until > now {
                    break;
                }
                self.live.remove(digest);
            }
            self.order.pop_front();
        }
    }

    fn forget(&mut self, digest: Digest, number: u64) {
        // Only its own claim: during a long handler it may have expired and been made again.
        if self.live.get(&digest) == Some(&number) {
            self.live.remove(&digest);
        }
    }
}

/// A message that is being handled. If it is dropped without a response, it counts as not received.
#[derive(Debug)]
pub(super) struct Claim {
    held: Option<Held>,
}

struct Held {
    shared: Arc<Shared>,
    digest: Digest,
    number: u64,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Claim {
    /// Keeps the message, unless the response asks the sender to try again.
    pub(super) fn settle(mut self, status: StatusCode) {
        let come_again =
            status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429);
        if !come_again {
            self.held = None;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.shared.lock().forget(held.digest, held.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Moves of one random history.
    #[derive(Clone, Debug)]
    enum Move {
        Claim(u64),
        Forget(u64),
        Wait(u64),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (0..8_u64).prop_map(Move::Claim),
            (0..8_u64).prop_map(Move::Forget),
            (0..6_u64).prop_map(Move::Wait),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        /// Beside a map that is searched whole each time.
        #[test]
        fn never_forgets_early_and_never_grows(moves in moves(), capacity in 1_usize..6) {
            let mut seen = Seen::default();
            let mut model: HashMap<u64, (Instant, u64)> = HashMap::new();
            let mut now = Instant::now();
            for one in moves {
                match one {
                    Move::Claim(key) => {
                        model.retain(|_, (until, _)| *until > now);
                        let expected = if model.contains_key(&key) {
                            Some("replayed")
                        } else if model.len() >= capacity {
                            Some("replay_cache_full")
                        } else {
                            None
                        };
                        let claim = seen.claim([key, 0], now, WINDOW, capacity);
                        prop_assert_eq!(claim.as_ref().err().map(SignatureError::as_str), expected);
                        if let Ok(number) = claim {
                            model.insert(key, (now + WINDOW, number));
                        }
                    }
                    Move::Forget(key) => {
                        if let Some((_, number)) = model.remove(&key) {
                            seen.forget([key, 0], number);
                        }
                    }
                    Move::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                prop_assert!(seen.live.len() <= capacity);
                prop_assert!(seen.order.len() <= capacity * 2);
            }
        }
    }

    #[test]
    fn a_late_end_does_not_forget_the_claim_of_another() {
        let mut seen = Seen::default();
        let now = Instant::now();
        let first = seen.claim([1, 1], now, WINDOW, 4).unwrap();
        let second = seen.claim([1, 1], now + WINDOW, WINDOW, 4).unwrap();
        seen.forget([1, 1], first);
        assert_eq!(
            seen.claim([1, 1], now + WINDOW, WINDOW, 4),
            Err(SignatureError::Replayed)
        );
        seen.forget([1, 1], second);
        assert!(seen.claim([1, 1], now + WINDOW, WINDOW, 4).is_ok());
    }

    #[test]
    fn windows_are_checked() {
        let setting = |cache: ReplayCache, scheme| {
            cache
                .for_scheme(scheme)
                .map(|(_, window)| window)
                .map_err(|error| error.setting())
        };
        let cache = || ReplayCache::new(1);
        assert_eq!(setting(cache(), Some(WINDOW)), Ok(WINDOW));
        assert_eq!(setting(cache().window(WINDOW), None), Ok(WINDOW));
        for (cache, scheme) in [
            (cache(), None),
            (cache().window(Duration::from_secs(9)), Some(WINDOW)),
            (cache().window(Duration::ZERO), None),
            (cache(), Some(Duration::MAX)),
            (ReplayCache::new(0), Some(WINDOW)),
        ] {
            assert_eq!(setting(cache, scheme), Err("reject_replays"));
        }
    }
}
