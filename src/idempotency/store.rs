//! Where claims and answers are kept.
//!
//! A [`Store`] is four atomic operations on a key:
//!
//! ```text
//!            begin                    complete(token)
//!  (free) ----------> claimed(token) -----------------> completed(answer)
//!    ^                   |   |                               |
//!    |   release(token)  |   | lease over                    | time to live over
//!    +-------------------+---+-------------------------------+
//! ```
//!
//! A claim is a lease: whoever holds it renews it while the work runs, and when the holder dies the
//! key is free once the lease ends. Every claim has a [`FencingToken`], and `renew`, `complete` and
//! `release` compare it: a holder that was slow, whose claim has passed to another, changes nothing
//! ([Kleppmann, "How to do distributed locking"](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html)).
//!
//! [`contract`](super::contract) has the tests that every store must pass.

use super::IdempotencyKey;
use crate::StoreError;
pub use crate::lease::{FencingToken, Settled};
use bytes::Bytes;
use std::{fmt, future::Future, time::Duration};

/// A digest of what was asked, to tell a repeat from another request under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A fingerprint of these bytes, which should come from a collision-resistant hash.
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What [`Store::begin`] found. `Debug` shows an answer's length, not what is in it.
#[derive(Clone, PartialEq, Eq)]
pub enum Begin {
    /// The key was free and is now the caller's, until the lease ends.
    Acquired(FencingToken),
    /// The work was done before, with this answer.
    Completed(Bytes),
    /// Somebody else holds the key.
    InProgress {
        /// The time until their lease ends, unless they renew it.
        lease_left: Duration,
    },
    /// The key belongs to another request: its fingerprint differs.
    Mismatch,
}

impl fmt::Debug for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquired(token) => f.debug_tuple("Acquired").field(token).finish(),
            Self::Completed(answer) => write!(f, "Completed({} bytes)", answer.len()),
            Self::InProgress { lease_left } => f
                .debug_struct("InProgress")
                .field("lease_left", lease_left)
                .finish(),
            Self::Mismatch => f.write_str("Mismatch"),
        }
    }
}

/// Keeps claims and answers. See the [module docs](self) for the life of a key.
///
/// A store is a handle: clones share what they keep. Its futures own what they need, so that a
/// release can outlive the request that was dropped. A store that answers at once uses
/// [`std::future::Ready`] and costs no allocation; one that goes to a server may name
/// [`BoxFuture`](crate::BoxFuture).
///
/// # What every operation promises
///
/// - It is atomic: of any number of concurrent `begin` calls for a free key, one acquires it.
/// - `begin` compares the fingerprint, when both sides have one, with a claim in flight as well as
///   with a completed answer.
/// - A claim is never forgotten before its lease ends, nor an answer before its time to live ends,
///   except as the store's documented bound says. A store that is full of claims refuses with
///   [`StoreErrorKind::Full`].
/// - A lease ends and a time to live ends by the store's own clock.
///
/// # Cancel safety
///
/// Dropping a future of a store leaves the operation either done or not done, never half done.
pub trait Store: Clone + Send + Sync + 'static {
    /// Future of [`begin`](Self::begin).
    type Begin: Future<Output = Result<Begin, StoreError>> + Send + 'static;
    /// Future of the other operations.
    type Settle: Future<Output = Result<Settled, StoreError>> + Send + 'static;

    /// Claims `key` for `lease`, or says who has it.
    fn begin(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Self::Begin;

    /// Extends the claim to `lease` from now.
    fn renew(&self, key: &IdempotencyKey, token: FencingToken, lease: Duration) -> Self::Settle;

    /// Ends the claim with an answer, which is kept for `ttl`.
    fn complete(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        answer: Bytes,
        ttl: Duration,
    ) -> Self::Settle;

    /// Ends the claim without an answer: the key is free again.
    fn release(&self, key: &IdempotencyKey, token: FencingToken) -> Self::Settle;
}
