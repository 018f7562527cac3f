use super::{
    Begin, FencingToken, Fingerprint, IdempotencyKey, Settled, Store,
    lease::{Held, Renewal, Timed},
};
use crate::{InvalidConfig, StoreError, trace::trouble};
use bytes::Bytes;
use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

/// Runs work once per key, without HTTP: for queue consumers, jobs and command handlers.
///
/// The same claims, leases and stores as [`IdempotencyLayer`](super::IdempotencyLayer).
///
/// # Cancel safety
///
/// Dropping the future of [`run_once`](Self::run_once) while the work runs drops the work and
/// frees the key; dropping it after the work ended stores the answer all the same.
///
/// # Examples
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use tower_webhook::idempotency::{Key, MemoryStore, RunOnce};
///
/// # tokio_test::block_on(async {
/// let once = RunOnce::new(MemoryStore::default(), Duration::from_secs(24 * 60 * 60))?;
/// let key = Key::new("invoices", "inv_1")?;
///
/// let first = once.run_once(&key, |_token| async { Ok::<_, Infallible>("sent".into()) }).await?;
/// let again = once.run_once(&key, |_token| async { Ok::<_, Infallible>("sent twice".into()) }).await?;
/// assert!(!first.is_repeat() && again.is_repeat());
/// assert_eq!(again.into_answer(), "sent");
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct RunOnce<St> {
    store: St,
    ttl: Duration,
    lease: Duration,
    store_timeout: Duration,
}

impl<St: Store> RunOnce<St> {
    /// Keeps answers in `store` for `ttl`. The lease is 60 seconds, renewed while the work runs;
    /// an operation of the store has 5 seconds.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] when `ttl` is zero.
    pub fn new(store: St, ttl: Duration) -> Result<Self, InvalidConfig> {
        if ttl.is_zero() {
            return Err(InvalidConfig::new("ttl", "must be longer than zero"));
        }
        Ok(Self {
            store,
            ttl,
            lease: Duration::from_secs(60),
            store_timeout: Duration::from_secs(5),
        })
    }

    /// How long a claim outlives its holder. It is renewed every third of it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] when `lease` is zero.
    pub fn lease(mut self, lease: Duration) -> Result<Self, InvalidConfig> {
        if lease.is_zero() {
            return Err(InvalidConfig::new("lease", "must be longer than zero"));
        }
        self.lease = lease;
        Ok(self)
    }

    /// Runs `work` if `key` is free, and stores its answer; otherwise gives the stored answer.
    ///
    /// An error of the work, a panic and a dropped future free the key. The work gets the fencing
    /// token of its claim. An answer that could not be stored is returned all the same; its key is
    /// free again when the lease ends.
    ///
    /// # Errors
    ///
    /// [`RunOnceError`]: the work failed, runs elsewhere, or the store cannot be asked.
    pub async fn run_once<F, E>(
        &self,
        key: &IdempotencyKey,
        work: impl FnOnce(FencingToken) -> F,
    ) -> Result<Ran, RunOnceError<E>>
    where
        F: Future<Output = Result<Bytes, E>>,
    {
        self.run(key, None, work).await
    }

    /// [`run_once`](Self::run_once), refusing other work under the same key:
    /// [`RunOnceError::Mismatch`] when `fingerprint` differs from the first one's.
    ///
    /// # Errors
    ///
    /// [`RunOnceError`].
    pub async fn run_once_checked<F, E>(
        &self,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        work: impl FnOnce(FencingToken) -> F,
    ) -> Result<Ran, RunOnceError<E>>
    where
        F: Future<Output = Result<Bytes, E>>,
    {
        self.run(key, Some(fingerprint), work).await
    }

    async fn run<F, E>(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<Fingerprint>,
        work: impl FnOnce(FencingToken) -> F,
    ) -> Result<Ran, RunOnceError<E>>
    where
        F: Future<Output = Result<Bytes, E>>,
    {
        let begin = self.store.begin(key, fingerprint.as_ref(), self.lease);
        let begun = Timed::new(begin, self.store_timeout).await;
        let token = match begun.map_err(RunOnceError::Store)? {
            Begin::Acquired(token) => token,
            Begin::Completed(answer) => return Ok(Ran::Before(answer)),
            Begin::InProgress { lease_left } => {
                return Err(RunOnceError::InProgress { lease_left });
            }
            Begin::Mismatch => return Err(RunOnceError::Mismatch),
        };

        let held = Held::new(self.store.clone(), key.clone(), token);
        let mut renewal = pin!(Renewal::new(held, self.lease, self.store_timeout));
        let mut work = pin!(work(token));
        let result = poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            if polled.is_pending() {
                renewal.as_mut().poll_keep(cx);
            }
            polled
        })
        .await;

        let held = renewal.take();
        match (result, held) {
            (Ok(answer), Some(mut held)) => {
                let settle = held.complete(answer.clone(), self.ttl);
                self.settle(held, settle).await;
                Ok(Ran::Now(answer))
            }
            (Err(error), Some(mut held)) => {
                let settle = held.release();
                self.settle(held, settle).await;
                Err(RunOnceError::Work(error))
            }
            (result, None) => result.map(Ran::Now).map_err(RunOnceError::Work),
        }
    }

    /// Waits for a claim to be settled. Whatever comes of it, the work's result stands.
    async fn settle(&self, mut held: Held<St>, settle: St::Settle) {
        let settled = Timed::new(settle, self.store_timeout).await;
        held.forget();
        match settled {
            Ok(Settled::Done) => {}
            Ok(Settled::Lost) => {
                trouble!("run_once", "claim was lost before it was settled");
            }
            Err(error) => {
                trouble!("run_once", "claim not settled", error = error);
            }
        }
    }
}

/// The answer of [`RunOnce::run_once`]. `Debug` shows its length, not what is in it.
#[derive(Clone, PartialEq, Eq)]
pub enum Ran {
    /// The work was done before; this is what it answered.
    Before(Bytes),
    /// The work was done now.
    Now(Bytes),
}

impl Ran {
    /// Was the work done before?
    pub const fn is_repeat(&self) -> bool {
        matches!(self, Self::Before(_))
    }

    /// The answer.
    pub fn into_answer(self) -> Bytes {
        match self {
            Self::Before(answer) | Self::Now(answer) => answer,
        }
    }
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(answer) => write!(f, "Before({} bytes)", answer.len()),
            Self::Now(answer) => write!(f, "Now({} bytes)", answer.len()),
        }
    }
}

/// Why [`RunOnce::run_once`] has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunOnceError<E> {
    /// The work runs elsewhere.
    InProgress {
        /// When its lease ends, unless it is renewed.
        lease_left: Duration,
    },
    /// The key belongs to other work.
    Mismatch,
    /// The store cannot be asked: nothing ran.
    Store(StoreError),
    /// The work failed, and the key is free again.
    Work(E),
}

impl<E> fmt::Display for RunOnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProgress { .. } => "the work runs elsewhere",
            Self::Mismatch => "the key belongs to other work",
            Self::Store(_) => "the idempotency store cannot be asked",
            Self::Work(_) => "the work failed",
        })
    }
}

impl<E: Error + 'static> Error for RunOnceError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::InProgress { .. } | Self::Mismatch => None,
            Self::Store(error) => Some(error),
            Self::Work(error) => Some(error),
        }
    }
}
