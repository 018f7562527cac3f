//! Schemes that are looked up for each request: those of the tenant that it names.

mod table;
mod turns;

use self::{
    table::Table,
    turns::{Turn, Turns},
};
use super::{Head, Scheme, Secret, SignatureError, SignatureVerifyLayer, sign::unique};
use crate::{BoxError, BoxFuture, InvalidConfig, outcome::links};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt, mem,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot::Receiver, watch},
    time::{Instant, timeout},
};

/// The longest name of a tenant, in bytes. A longer one is unknown.
const LONGEST_NAME: usize = 255;

/// The largest number of names that were not known before and wait for their lookup.
const MOST_WAITING: usize = 512;

/// The longest time to live that means anything.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The longest message of a failed lookup that is kept, in characters.
const LONGEST_MESSAGE: usize = 256;

/// The schemes of many tenants, which are looked up when a request names one, and remembered for a while. For
/// [`SignatureVerifyLayer::resolve`]. Cheap to clone; clones share what they remember.
///
/// See [many tenants](crate::signature#many-tenants) for what it answers.
///
/// # Examples
///
#[cfg_attr(feature = "stack", doc = "```")]
#[cfg_attr(not(feature = "stack"), doc = "```text")]
/// use tower_webhook::{BoxError, signature::{Tenants, scheme::StandardWebhooks}, stack};
///
/// /// `None` for a tenant that does not exist, and an error if the database does not answer.
/// async fn scheme_of(tenant: String) -> Result<Option<StandardWebhooks>, BoxError> {
///     let row = (tenant == "acme").then_some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"); // select secret from ..
///     Ok(row.map(StandardWebhooks::new).transpose()?)
/// }
///
/// let tenants = Tenants::builder(
///     |head| Some(head.original_uri().path().strip_prefix("/hooks/")?.into()), // whose request it is
///     scheme_of,
///     StandardWebhooks::new, // with which the requests of unknown tenants are refused
/// )
/// .build()?;
/// let receive = stack::receive(tenants.clone()).build();
///
/// // When the database has a new secret, not to wait until the old one is looked up again:
/// tenants.forget("acme");
/// # let _ = receive;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Tenants {
    shared: Arc<Shared>,
}

type NameOf = dyn for<'a> Fn(Head<'a>) -> Option<Cow<'a, str>> + Send + Sync;

type LookUp = dyn Fn(String) -> BoxFuture<Result<Option<Arc<dyn Scheme>>, BoxError>> + Send + Sync;

struct Shared {
    name: Box<NameOf>,
    look_up: Box<LookUp>,
    decoy: Arc<dyn Scheme>,
    ttl: Duration,
    unknown_ttl: Duration,
    limit: Duration,
    lookups: Semaphore,
    /// Names that were not known before leave room for those that were.
    lookups_of_new: Arc<Turns>,
    state: RwLock<State>,
}

struct State {
    known: Table<Arc<dyn Scheme>>,
    unknown: Table<()>,
    flights: HashMap<Arc<str>, Flight>,
    /// The number of flights that have begun.
    begun: u64,
}

/// A lookup that runs, for everybody who asks meanwhile.
struct Flight {
    number: u64,
    answer: watch::Receiver<Option<Answer>>,
}

/// What verifies a request.
#[derive(Clone)]
pub(super) enum Answer {
    /// The one scheme of a layer without tenants.
    Anyones,
    Known {
        name: Arc<str>,
        scheme: Arc<dyn Scheme>,
    },
    Refused {
        /// What was read from the request, for observers.
        name: Option<Arc<str>>,
        why: SignatureError,
    },
}

impl Answer {
    const fn unknown(name: Option<Arc<str>>) -> Self {
        let why = SignatureError::UnknownTenant;
        Self::Refused { name, why }
    }

    const fn failed(name: Option<Arc<str>>, why: LookupFailure) -> Self {
        let why = SignatureError::lookup_failed(why);
        Self::Refused { name, why }
    }
}

pub(super) enum Found {
    Now(Answer),
    Later(BoxFuture<Answer>),
}

/// Why the scheme of a tenant could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupFailure {
    /// The lookup panicked, or there is no tokio runtime to run it, or no longer.
    Aborted,
    /// As many lookups were running as [may](TenantsBuilder::lookups), for as long as one may take, or until 512 newer
    /// names were waiting.
    Busy,
    /// The lookup returned an error.
    Error {
        /// Its message, at most 256 characters.
        message: Arc<str>,
    },
    /// The lookup took too long.
    Timeout {
        /// [How long it may take](TenantsBuilder::timeout).
        limit: Duration,
    },
}

impl fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("it panicked, or its runtime has ended"),
            Self::Busy => f.write_str("too many other lookups are running"),
            Self::Error { message } => f.write_str(message),
            Self::Timeout { limit } => write!(f, "no answer within {limit:?}"),
        }
    }
}

/// Settings of [`Tenants`].
#[must_use]
pub struct TenantsBuilder {
    name: Box<NameOf>,
    look_up: Box<LookUp>,
    decoy: Result<Arc<dyn Scheme>, InvalidConfig>,
    capacity: usize,
    ttl: Duration,
    unknown_ttl: Duration,
    limit: Duration,
    lookups: usize,
}

impl TenantsBuilder {
    /// Sets how many tenants are remembered, and, apart from them, how many names that are no tenant's. Default:
    /// 10,000. When there are more, one that was not used lately is looked up again.
    pub const fn capacity(mut self, tenants: usize) -> Self {
        self.capacity = tenants;
        self
    }

    /// Sets how long a scheme is used before it is looked up again, counted from the beginning of its lookup.
    /// Default: 60 seconds. A secret that has changed is refused, and one that was removed is accepted, for at most
    /// this time; [`Tenants::forget`] ends it at once.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long a name is taken for unknown before it is looked up again. Default: 60 seconds. A tenant that
    /// was added is refused for at most this time, if somebody asked for it before; [`Tenants::forget`] ends it at once.
    /// With another time than [`ttl`](Self::ttl), the time of an answer tells who is looked up again, and so who is a
    /// tenant.
    pub const fn unknown_ttl(mut self, ttl: Duration) -> Self {
        self.unknown_ttl = ttl;
        self
    }

    /// Sets how long a lookup may take. Default: 2 seconds. Its future is then dropped. A lookup waits for as long
    /// at the most until it may [begin](Self::lookups).
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how many lookups run at a time. Default: 16. Names that are not remembered, not even from a scheme that
    /// is to be looked up again, get half of them, the newest first, so that strangers cannot keep all. If strangers
    /// with signatures that look right name more than can be looked up, a tenant that is not remembered gets a share of
    /// the lookups as large as its share of the names, and 503 otherwise: put a rate limit outside.
    pub const fn lookups(mut self, at_a_time: usize) -> Self {
        self.lookups = at_a_time;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] when `capacity`, `timeout` or `lookups` is zero, and the error of the decoy.
    pub fn build(self) -> Result<Tenants, InvalidConfig> {
        for (setting, is_zero) in [
            ("capacity", self.capacity == 0),
            ("timeout", self.limit.is_zero()),
            ("lookups", self.lookups == 0),
        ] {
            if is_zero {
                return Err(InvalidConfig::new(setting, "must not be zero"));
            }
        }
        let lookups = self.lookups.min(Semaphore::MAX_PERMITS);
        Ok(Tenants {
            shared: Arc::new(Shared {
                name: self.name,
                look_up: self.look_up,
                decoy: self.decoy?,
                ttl: self.ttl,
                unknown_ttl: self.unknown_ttl,
                limit: self.limit,
                lookups: Semaphore::new(lookups),
                lookups_of_new: Turns::new(lookups.div_ceil(2), MOST_WAITING),
                state: RwLock::new(State {
                    known: Table::new(self.capacity),
                    unknown: Table::new(self.capacity),
                    flights: HashMap::new(),
                    begun: 0,
                }),
            }),
        })
    }
}

impl fmt::Debug for TenantsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsBuilder")
            .field("capacity", &self.capacity)
            .field("ttl", &self.ttl)
            .field("unknown_ttl", &self.unknown_ttl)
            .field("timeout", &self.limit)
            .field("lookups", &self.lookups)
            .finish_non_exhaustive()
    }
}

impl Tenants {
    /// Returns a builder with the default settings.
    ///
    /// - `name` reads the name of the tenant from the head of a request: from its
    ///   [original path](Head::original_uri), its host, a header. `None` is an unknown tenant, and so is a name that is
    ///   empty or has more than 255 bytes. It must not block. One tenant should have one name, and one path: where
    ///   several paths are one tenant's, as when the name is written in lower case, give the idempotency layer
    ///   [a fixed scope](crate::signature#many-tenants).
    /// - `look_up` finds the scheme of a tenant, which may be a `Box<dyn Scheme>`: `None` if there is no such tenant,
    ///   and an error if that cannot be said now. Requests for one name share one call of it, which runs in a task of
    ///   its own and is dropped after the [time limit](TenantsBuilder::timeout).
    /// - `decoy` makes the scheme that checks the requests of unknown tenants, so that they cost and answer what a
    ///   wrong signature does. It gets a secret that nobody knows, of the form `whsec_` and base64. What it accepts is
    ///   refused too. It is asked first for every request: one whose [head](Scheme::verify_head) it refuses, for another
    ///   reason than that its secret does not fit, is refused, and nothing is looked up. So it must be of the kind of the
    ///   tenants, with the same header names and the longest tolerance; if they have schemes of several kinds,
    ///   an [`AnyOf`](super::scheme::AnyOf) of all of them.
    // The name is apart from the lookup, and not one function of the request: a cache needs a key, and a request whose
    // tenant is remembered needs no future.
    pub fn builder<N, L, F, Sc, E, D>(
        name: N,
        look_up: L,
        decoy: impl FnOnce(Secret) -> Result<D, InvalidConfig>,
    ) -> TenantsBuilder
    where
        N: for<'a> Fn(Head<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
        L: Fn(String) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Option<Sc>, E>> + Send + 'static,
        Sc: Scheme,
        E: Into<BoxError>,
        D: Scheme,
    {
        TenantsBuilder {
            name: Box::new(name),
            look_up: Box::new(move |tenant| {
                let looking = look_up(tenant);
                Box::pin(async move {
                    let scheme = looking.await.map_err(Into::into)?;
                    Ok(scheme.map(|scheme| Arc::new(scheme) as Arc<dyn Scheme>))
                })
            }),
            decoy: decoy(nobodys_secret()).map(|decoy| Arc::new(decoy) as Arc<dyn Scheme>),
            capacity: 10_000,
            ttl: Duration::from_secs(60),
            unknown_ttl: Duration::from_secs(60),
            limit: Duration::from_secs(2),
            lookups: 16,
        }
    }

    /// Forgets what is known of a tenant, so that the next request that names it looks it up: when its secret has
    /// changed, or it was added or removed. A lookup that runs already still answers those who wait for it, and is
    /// not remembered.
    pub fn forget(&self, tenant: &str) {
        let mut state = self.shared.write();
        state.flights.remove(tenant);
        state.unknown.remove(tenant);
        let scheme = state.known.remove(tenant);
        drop(state);
        // Foreign code: not under the lock.
        drop(scheme);
    }

    pub(super) fn decoy(&self) -> &dyn Scheme {
        &*self.shared.decoy
    }

    /// Finds what verifies the request with this head.
    pub(super) fn find(&self, head: Head<'_>) -> Found {
        let name = (self.shared.name)(head);
        let name = name.as_deref();
        // Before a lookup, which strangers must not have for nothing, and whether or not the tenant is known: the same
        // request gets the same answer at any time.
        if let Err(why) = self.shared.decoy.verify_head(&head)
            && !why.may_depend_on_secret()
        {
            let name = name.map(cut);
            return Found::Now(Answer::Refused { name, why });
        }
        let Some(name) = name.filter(|name| (1..=LONGEST_NAME).contains(&name.len())) else {
            return Found::Now(Answer::unknown(name.map(cut)));
        };
        let now = Instant::now();
        if let Some(answer) = self.shared.read().remembered(name, now) {
            return Found::Now(answer);
        }
        match self.join(name, now) {
            Ok(answer) => Found::Now(answer),
            Err(mut flight) => Found::Later(Box::pin(async move {
                match flight.wait_for(Option::is_some).await.as_deref() {
                    Ok(Some(answer)) => answer.clone(),
                    _ => Answer::failed(None, LookupFailure::Aborted),
                }
            })),
        }
    }

    /// The answer, or the lookup that will have it, which begins here if none runs.
    fn join(&self, name: &str, now: Instant) -> Result<Answer, watch::Receiver<Option<Answer>>> {
        let mut state = self.shared.write();
        // It may have landed between the two locks.
        if let Some(answer) = state.remembered(name, now) {
            return Ok(answer);
        }
        if let Some(flight) = state.flights.get(name) {
            return Err(flight.answer.clone());
        }
        let name: Arc<str> = name.into();
        let Ok(runtime) = Handle::try_current() else {
            return Ok(Answer::failed(Some(name), LookupFailure::Aborted));
        };
        let is_new = !state.known.has(&name);
        let (tell, answer) = watch::channel(None);
        state.begun += 1;
        let number = state.begun;
        let flight = Flight {
            number,
            answer: answer.clone(),
        };
        state.flights.insert(name.clone(), flight);
        drop(state);
        let turn = is_new.then(|| self.shared.lookups_of_new.wait());
        let mut landing = Landing {
            shared: self.shared.clone(),
            name: name.clone(),
            number,
            began: now,
            answer: Answer::failed(Some(name), LookupFailure::Aborted),
            tell,
        };
        // In a task of its own, so that it does not end with the request that came first.
        runtime.spawn(async move {
            landing.answer = landing.shared.fly(&landing.name, turn).await;
            drop(landing);
        });
        Err(answer)
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        // No foreign code runs under the lock.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fly(&self, name: &Arc<str>, turn: Option<Receiver<Turn>>) -> Answer {
        let failed = |why| Answer::failed(Some(name.clone()), why);
        let permits = async {
            let of_new = match turn {
                Some(turn) => Some(turn.await.ok()?),
                None => None,
            };
            Some((of_new, self.lookups.acquire().await))
        };
        // Apart from the time of the lookup: otherwise those that had to wait would all be broken off.
        let Ok(Some(_permits)) = timeout(self.limit, permits).await else {
            return failed(LookupFailure::Busy);
        };
        let looking = async { (self.look_up)(name.as_ref().to_owned()).await };
        match timeout(self.limit, looking).await {
            Ok(Ok(Some(scheme))) => Answer::Known {
                name: name.clone(),
                scheme,
            },
            Ok(Ok(None)) => Answer::unknown(Some(name.clone())),
            Ok(Err(error)) => failed(LookupFailure::Error {
                message: message(&*error),
            }),
            Err(_) => failed(LookupFailure::Timeout { limit: self.limit }),
        }
    }
}

impl State {
    fn remembered(&self, name: &str, now: Instant) -> Option<Answer> {
        if let Some((name, scheme)) = self.known.get(name, now) {
            return Some(Answer::Known {
                name: name.clone(),
                scheme: scheme.clone(),
            });
        }
        let (name, ()) = self.unknown.get(name, now)?;
        Some(Answer::unknown(Some(name.clone())))
    }
}

/// Tells the answer of a lookup when it is dropped, however the lookup ended.
struct Landing {
    shared: Arc<Shared>,
    name: Arc<str>,
    number: u64,
    began: Instant,
    answer: Answer,
    tell: watch::Sender<Option<Answer>>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let answer = mem::replace(&mut self.answer, Answer::Anyones);
        let (name, now) = (&self.name, Instant::now());
        let until = |ttl: Duration| self.began + ttl.min(FAR);
        let mut state = self.shared.write();
        // Another one if the tenant was forgotten meanwhile.
        let is_own = |flight: &Flight| flight.number == self.number;
        let mut replaced = None;
        if state.flights.get(name).is_some_and(is_own) {
            state.flights.remove(name);
            match &answer {
                Answer::Known { scheme, .. } => {
                    state.unknown.remove(name);
                    let until = until(self.shared.ttl);
                    replaced = state.known.insert(name, scheme.clone(), until, now);
                }
                Answer::Refused {
                    why: SignatureError::UnknownTenant,
                    ..
                } => {
                    replaced = state.known.remove(name);
                    let until = until(self.shared.unknown_ttl);
                    state.unknown.insert(name, (), until, now);
                }
                // Not remembered: whoever comes next looks again.
                Answer::Refused { .. } | Answer::Anyones => {}
            }
        }
        drop(state);
        drop(replaced);
        self.tell.send_replace(Some(answer));
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.read();
        f.debug_struct("Tenants")
            .field("known", &state.known.len())
            .field("unknown", &state.unknown.len())
            .field("lookups", &state.flights.len())
            .field("decoy", &self.shared.decoy.name())
            .finish_non_exhaustive()
    }
}

/// Verifies with the scheme of the tenant that a request names.
impl From<Tenants> for SignatureVerifyLayer {
    fn from(tenants: Tenants) -> Self {
        Self::resolve(tenants)
    }
}

/// Of 128 random bits. Not for keeping out: what it signs is refused too.
fn nobodys_secret() -> Secret {
    let key = data_encoding::BASE64.encode(unique().as_bytes());
    Secret::new(format!("whsec_{key}"))
}

/// A name that may be too long to be one, for observers.
fn cut(name: &str) -> Arc<str> {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}..", &name[..end]).into(),
        None => name.into(),
    }
}

/// The message of an error and of its causes.
fn message(error: &(dyn std::error::Error + 'static)) -> Arc<str> {
    let mut said = error.to_string();
    for cause in links(error).skip(1) {
        let cause = cause.to_string();
        // Some errors say what their cause says.
        if !said.contains(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said.chars()
        .take(LONGEST_MESSAGE)
        .collect::<String>()
        .into()
}
