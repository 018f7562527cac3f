use super::{
    Begin, Fingerprint, IdempotencyKey, Store,
    held::{Held, Renewal, Timed},
};
use crate::{
    InvalidConfig, StoreError,
    lease::FencingToken,
    observe::{Event, Observer, Observers, Scope},
};
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
/// Uses the same claims, leases and stores as [`IdempotencyLayer`](super::IdempotencyLayer).
///
/// # Cancel safety
///
/// Dropping the future of [`run_once`](Self::run_once) while the work runs drops the work and frees
/// the key. Dropping it after the work has ended still stores the answer.
///
/// # Examples
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use tower_webhook::idempotency::{IdempotencyKey, MemoryStore, RunOnce};
///
/// # tokio_test::block_on(async {
/// let once = RunOnce::new(MemoryStore::default(), Duration::from_secs(24 * 60 * 60))?;
/// let key = IdempotencyKey::new("invoices", "inv_1")?;
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
    observers: Observers,
}

impl<St: Store> RunOnce<St> {
    /// Keeps answers in `store` for `ttl`. The lease is 60 seconds, renewed while the work runs. The time
    /// limit of each store operation is 5 seconds.
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
            observers: Observers::none(),
        })
    }

    /// Adds an observer of claims, replays, lost claims and store errors. Default: none except `tracing`.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Sets the lease of a claim, renewed after each third of it while the work runs. Default: 60 s.
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

    /// Runs `work` if `key` is free, and stores its answer; otherwise returns the stored answer.
    ///
    /// The work gets the fencing token of its claim. The key is freed if the work fails or panics, or if
    /// the future is dropped. If the answer cannot be stored, it is returned, and its key is free when the
    /// lease ends.
    ///
    /// # Errors
    ///
    /// [`RunOnceError`]: the work failed or runs elsewhere, or the store failed.
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

    /// Like [`run_once`](Self::run_once), but refuses other work with the same key:
    /// [`RunOnceError::Mismatch`] when `fingerprint` differs from the first one.
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
        let mut held = Held::new(self.store.clone(), key.clone(), self.observers.clone());
        let begin = held.begin(fingerprint.as_ref(), self.lease);
        let begun = Timed::new(begin, self.store_timeout).await;
        let token = match begun.map_err(RunOnceError::Store)? {
            Begin::Acquired(token) => token,
            Begin::Completed(answer) => {
                let scope = key.scope();
                self.observers.tell(|| Event::Replayed { scope });
                return Ok(Ran::Replayed(answer));
            }
            Begin::InProgress { lease_left } => {
                return Err(RunOnceError::InProgress { lease_left });
            }
            Begin::Mismatch => return Err(RunOnceError::Mismatch),
        };
        held.acquired(token);

        let scope = Scope::claim(key.scope());
        let claimed = || Event::Claimed { scope: key.scope() };
        scope.enter(|| self.observers.tell(claimed));
        let mut renewal = pin!(Renewal::new());
        let mut work = pin!(scope.enter(|| work(token)));
        let result = poll_fn(|cx| {
            let polled = scope.enter(|| work.as_mut().poll(cx));
            if polled.is_pending() {
                let limit = self.store_timeout;
                let renewal = renewal.as_mut();
                renewal.poll_keep(&mut held, self.lease, limit, cx);
            }
            polled
        })
        .await;
        renewal.stop();

        let settle = match &result {
            Ok(answer) => held.complete(answer.clone(), self.ttl),
            Err(_) => held.release(),
        };
        if let Some(settle) = settle {
            // A failure to settle it does not change the result of the work.
            let settled = Timed::new(settle, self.store_timeout).await;
            held.settled(settled);
        }
        result.map(Ran::Executed).map_err(RunOnceError::Work)
    }
}

/// The answer of [`RunOnce::run_once`]. `Debug` shows its length, not its content.
#[derive(Clone, PartialEq, Eq)]
pub enum Ran {
    /// The work ran now.
    Executed(Bytes),
    /// The work ran before; this is the stored answer.
    Replayed(Bytes),
}

impl Ran {
    /// Whether the work had run before.
    pub const fn is_repeat(&self) -> bool {
        matches!(self, Self::Replayed(_))
    }

    /// The answer.
    pub fn into_answer(self) -> Bytes {
        match self {
            Self::Executed(answer) | Self::Replayed(answer) => answer,
        }
    }
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed(answer) => write!(f, "Executed({} bytes)", answer.len()),
            Self::Replayed(answer) => write!(f, "Replayed({} bytes)", answer.len()),
        }
    }
}

/// Why [`RunOnce::run_once`] returned no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunOnceError<E> {
    /// The work is running elsewhere.
    InProgress {
        /// The time until that lease ends, unless it is renewed.
        lease_left: Duration,
    },
    /// The key is in use for other work: its fingerprint differs.
    Mismatch,
    /// The store failed, and the work did not run.
    Store(StoreError),
    /// The work failed. The key is free again.
    Work(E),
}

impl<E> fmt::Display for RunOnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProgress { .. } => "the work runs elsewhere",
            Self::Mismatch => "the key belongs to other work",
            Self::Store(_) => "the idempotency store failed, and the work did not run",
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
