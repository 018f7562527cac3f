use super::IdempotencyKey;
use crate::{
    StoreError,
    lease::{FencingToken, Settled},
};
use bytes::Bytes;
use std::{fmt, future::Future, time::Duration};

/// A digest of a request. It tells a repeat from another request with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Makes a fingerprint from a digest, which should come from a collision-resistant hash.
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The result of [`Store::begin`]. `Debug` shows the length of an answer, not its content.
#[derive(Clone, PartialEq, Eq)]
pub enum Begin {
    /// The key was free. Nobody else can claim it until the lease ends.
    Acquired(FencingToken),
    /// The work has been done; this is its answer.
    Completed(Bytes),
    /// Another caller holds the key.
    InProgress {
        /// The time until that lease ends, unless it is renewed.
        lease_left: Duration,
    },
    /// The key is in use for another request: its fingerprint differs.
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

/// Keeps claims and answers: four atomic operations on a key.
///
/// ```text
///            begin                    complete(token)
///  (free) ----------> claimed(token) -----------------> completed(answer)
///    ^                   |   |                               |
///    |   release(token)  |   | lease over                    | time to live over
///    +-------------------+---+-------------------------------+
/// ```
///
/// A claim is a lease: its holder renews it while the work runs; if the holder dies, the key is free
/// when the lease ends. Every claim has a [`FencingToken`], and `renew`, `complete` and `release`
/// [compare it alone](crate::lease): a holder whose lease has ended is heard as long as nobody has claimed the key
/// since, and one whose claim has passed to another can change nothing.
///
/// [`contract`](super::contract) has the tests that every store must pass.
///
/// A store is a handle: clones share its contents. Its futures own their data, so that a release can
/// outlive the request that was dropped. A store that answers at once uses [`std::future::Ready`] and
/// does not allocate; a store that calls a server may use [`BoxFuture`](crate::BoxFuture).
///
/// # What every operation promises
///
/// - It is atomic: of any number of concurrent `begin` calls for a free key, one acquires it.
/// - `begin` compares the fingerprint, when both sides have one, with a claim in flight as well as
///   with a completed answer.
/// - It keeps a claim until its lease ends, and an answer until its time to live ends, except as far as
///   the store documents a bound. A store that is full of claims refuses with
///   [`StoreErrorKind::Full`](crate::StoreErrorKind::Full).
/// - It keeps a claim whose lease has ended for its holder until somebody claims the key. A store may forget it
///   earlier, and documents when; what the holder does then is [`Settled::Lost`].
/// - `begin` fails with [`Corrupt`](crate::StoreErrorKind::Corrupt) or
///   [`NewerSchema`](crate::StoreErrorKind::NewerSchema) only if there is a record of the key that the
///   store cannot read. The layer then refuses the request, even if it [fails
///   open](super::StoreOutage::FailOpen).
/// - The store's own clock decides when a lease or a time to live ends.
///
/// # Cancel safety
///
/// If a future of a store is dropped, the operation is either done or not done, never half done.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no idempotency store",
    label = "needs an idempotency store",
    note = "give a store by value, such as `MemoryStore::default()`: it is `Clone`, and its clones are one store, so it needs no `Arc` and no `&`; of a `Result`, take what is in it with `?`",
    note = "for a store of your own, implement `Store`, and run `idempotency::contract`"
)]
pub trait Store: Clone + Send + Sync + 'static {
    /// Future of [`begin`](Self::begin).
    type Begin: Future<Output = Result<Begin, StoreError>> + Send + Unpin + 'static;
    /// Future of the other operations.
    type Settle: Future<Output = Result<Settled, StoreError>> + Send + Unpin + 'static;

    /// Claims `key` for `lease`, or returns why it cannot be claimed.
    fn begin(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Self::Begin;

    /// Extends the claim, whose lease then ends `lease` from now. [`Settled::Lost`]: another has claimed the key
    /// since, or the claim was settled before.
    fn renew(&self, key: &IdempotencyKey, token: FencingToken, lease: Duration) -> Self::Settle;

    /// Ends the claim and keeps its answer for `ttl`: opaque bytes, in the case of the layer a [stored
    /// response](crate::codec#a-stored-response). [`Settled::Lost`] as for [`renew`](Self::renew): nothing is kept.
    fn complete(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        answer: Bytes,
        ttl: Duration,
    ) -> Self::Settle;

    /// Ends the claim without an answer: the key is free again. [`Settled::Lost`] as for [`renew`](Self::renew).
    fn release(&self, key: &IdempotencyKey, token: FencingToken) -> Self::Settle;
}
