use super::{
    answer::{self, Granted},
    cache::{Cache, Next},
    error::{Facts, TokenError, TokenErrorKind},
    grant::ClientCredentials,
    layer::secret,
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::AUTHORIZATION};
use http_body::Body;
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout},
};
use tower::{Service, ServiceExt};
use tower_webhook::{
    BoxError, BoxFuture, InvalidConfig,
    body::{BufferedBody, collect},
    observe::{Event, Id, Observer, Observers},
    outcome::{Outcome, OutcomeKind},
    target::TargetRules,
};
use zeroize::Zeroize;

/// Gets tokens, keeps the current one and refreshes it in time. All clones share one token.
///
/// Made by [`builder`](Self::builder), used by [`Credential::token`](super::Credential::token). The
/// [module docs](super#tokens) have the rules. `Debug` shows the address, and neither a secret nor a token.
#[derive(Clone)]
pub struct TokenSource {
    shared: Arc<Shared>,
}

/// Settings of a [`TokenSource`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenSourceBuilder {
    grant: ClientCredentials,
    address: String,
    rules: TargetRules,
    timeout: Duration,
    observers: Observers,
}

/// A token as the value of `Authorization`.
#[derive(Clone)]
pub(super) struct Token {
    pub header: HeaderValue,
    number: u64,
}

/// What a call does for its token.
pub(super) enum Ask {
    Has(Token),
    Waits(BoxFuture<Result<Token, TokenError>>),
    Fails(TokenError),
}

type Fetch = Box<dyn Fn() -> BoxFuture<Result<Granted, Facts>> + Send + Sync>;

struct Shared {
    state: Arc<Mutex<State>>,
    fetch: Fetch,
    uri: Uri,
    observers: Observers,
}

#[derive(Default)]
struct State {
    cache: Cache<HeaderValue, TokenError>,
    refresh: Option<Refresh>,
    /// Digests of the last tokens, the current one last: a copy of one before it may be valid still.
    given: VecDeque<[u8; 32]>,
}

/// How many tokens are known as one's own.
const KNOWN_TOKENS: usize = 8;

impl State {
    fn remember(&mut self, header: &HeaderValue) {
        if self.given.len() == KNOWN_TOKENS {
            self.given.pop_front();
        }
        let digest = Sha256::digest(secret(&AUTHORIZATION, header));
        self.given.push_back(digest.into());
    }
}

/// How a refresh ended, when it has.
type End = Option<Result<Token, TokenError>>;

/// The refresh that runs.
struct Refresh {
    end: watch::Receiver<End>,
    task: Option<AbortHandle>,
}

impl TokenSource {
    /// Settings for tokens of this grant from this address: of the token endpoint
    /// (`https://api.cognigy.ai/api/v2/auth/token`), or without a path, for the one that the
    /// [table](ClientCredentials) names.
    pub fn builder(grant: ClientCredentials, address: impl Into<String>) -> TokenSourceBuilder {
        TokenSourceBuilder {
            grant,
            address: address.into(),
            rules: TargetRules::new(),
            timeout: Duration::from_secs(10),
            observers: Observers::none(),
        }
    }

    /// What a call does now for its token. The caller keeps the source while it waits: its end is that of the refresh.
    pub(super) fn ask(&self) -> Ask {
        let mut state = lock(&self.shared.state);
        let next = state.cache.next(Instant::now());
        let starts = matches!(
            next,
            Next::Use { refresh: true, .. } | Next::Wait { refresh: true }
        );
        let begun = starts.then(|| {
            let (tell, end) = watch::channel(None);
            state.refresh = Some(Refresh { end, task: None });
            tell
        });
        let end = match (&next, &state.refresh) {
            (Next::Wait { .. }, Some(refresh)) => Some(refresh.end.clone()),
            _ => None,
        };
        drop(state);
        if let Some(tell) = begun {
            self.start(tell);
        }
        match next {
            Next::Use { token, number, .. } => Ask::Has(Token {
                header: token,
                number,
            }),
            Next::Fail { error, retry_after } => Ask::Fails(error.refused(retry_after)),
            Next::Wait { .. } => Ask::Waits(Box::pin(async move {
                let mut end = end;
                let end = match &mut end {
                    Some(end) => end.wait_for(Option::is_some).await.ok(),
                    None => None,
                };
                // Not reached: whoever is told to wait finds a refresh, and that tells its end.
                let end = end.and_then(|end| end.clone());
                end.unwrap_or_else(|| Err(TokenError::new(ended())))
            })),
        }
    }

    /// Whether the call that was answered with 401 is made once more, with what [`ask`](Self::ask) gives.
    pub(super) fn rejected(&self, token: &Token) -> bool {
        let mut state = lock(&self.shared.state);
        state.cache.rejected(token.number, Instant::now())
    }

    /// Whether this is the current token, or one of those before it.
    pub(super) fn has_given(&self, token: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        lock(&self.shared.state).given.contains(&digest)
    }

    /// The value of the current token.
    #[cfg(feature = "client")]
    pub(super) fn current(&self) -> Option<HeaderValue> {
        lock(&self.shared.state).cache.current().cloned()
    }

    /// Starts the refresh in a task of its own, which no caller can cancel. The lock is not held: the task can be dropped
    /// while it is spawned, and that ends the refresh.
    fn start(&self, tell: watch::Sender<End>) {
        let mut ending = Ending {
            state: Arc::clone(&self.shared.state),
            tell,
            host: self.shared.uri.host().unwrap_or_default().into(),
            observers: self.shared.observers.clone(),
            asked: Instant::now(),
            is_over: false,
        };
        let end = ending.tell.subscribe();
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let fetching = (self.shared.fetch)();
        let task = runtime.spawn(async move {
            let end = fetching.await;
            ending.end(end);
        });
        let mut state = lock(&self.shared.state);
        if let Some(refresh) = &mut state.refresh
            && refresh.end.same_channel(&end)
        {
            refresh.task = Some(task.abort_handle());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing panics while it holds the lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended() -> Facts {
    Facts::new(TokenErrorKind::Transport).detail("the refresh ended without a result")
}

/// Ends a refresh exactly once: also if its task panics, or its runtime ends.
struct Ending {
    state: Arc<Mutex<State>>,
    tell: watch::Sender<End>,
    host: Box<str>,
    observers: Observers,
    asked: Instant,
    is_over: bool,
}

impl Ending {
    fn end(&mut self, end: Result<Granted, Facts>) {
        self.is_over = true;
        let now = Instant::now();
        let mut state = lock(&self.state);
        let end = end.and_then(|granted| {
            let Granted { header, lifetime } = granted;
            let number = state
                .cache
                .succeeded(header.clone(), lifetime, self.asked, now);
            match number {
                Some(number) => {
                    state.remember(&header);
                    Ok(Token { header, number })
                }
                None => Err(Facts::new(TokenErrorKind::InvalidAnswer)
                    .detail("the token was over before it arrived")),
            }
        });
        let end = end.map_err(|facts| {
            let error = TokenError::new(facts);
            let hint = error.hint();
            let wait = state
                .cache
                .failed(error.clone(), hint, now, fastrand::f64());
            error.failed(wait)
        });
        state.refresh = None;
        drop(state);
        if let Err(error) = &end {
            let detail = format!("{}: {error}", self.host);
            self.observers.tell(|| Event::Trouble {
                part: "credential",
                what: "there is no new token",
                detail: Some(Id::new(&detail)),
            });
        }
        self.tell.send_replace(Some(end));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Without a refresh in the state the source is gone, and nobody waits.
        if !self.is_over && lock(&self.state).refresh.is_some() {
            self.end(Err(ended()));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let refresh = lock(&self.state).refresh.take();
        if let Some(task) = refresh.and_then(|refresh| refresh.task) {
            task.abort();
        }
    }
}

impl TokenSourceBuilder {
    /// Sets which addresses are permitted. Default: [`TargetRules::new`], which is `https` and no private address.
    ///
    /// Names are not resolved here: give the service a connector with the same rules.
    pub const fn rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the time limit of a request for a token, with its connection and its answer. Default: 10 seconds, as in the
    /// documents.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Adds an observer, which is told of each refresh that fails ([`Event::Trouble`]), with the [`TokenError`]. Default: none
    /// except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Makes the source, over the service that requests for tokens are sent with. It must not follow redirects, since the new
    /// address would get the credentials. No token is asked for before the first call needs it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], if the address is none or not permitted, the client id or secret is empty or does not fit its form, a scope
    /// has characters that no scope has, or the time limit is zero.
    pub fn build<S, B>(self, service: S) -> Result<TokenSource, InvalidConfig>
    where
        S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Error: Into<BoxError>> + Send + 'static,
        B::Data: Send,
    {
        let Self {
            grant,
            address,
            rules,
            timeout: limit,
            observers,
        } = self;
        let uri = endpoint(&address, grant.path(), rules)?;
        grant.check()?;
        if limit.is_zero() {
            return Err(InvalidConfig::new("timeout", "must be longer than zero"));
        }
        let (service, to) = (Mutex::new(service), uri.clone());
        let grant = Arc::new(grant);
        let fetch = move || -> BoxFuture<Result<Granted, Facts>> {
            let service = service
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let (grant, uri) = (Arc::clone(&grant), to.clone());
            Box::pin(async move {
                let answered = timeout(limit, exchange(service, &grant, uri)).await;
                answered.unwrap_or_else(|_| {
                    let why = format!("the limit is {limit:?}");
                    Err(Facts::new(TokenErrorKind::Timeout).detail(why))
                })
            })
        };
        Ok(TokenSource {
            shared: Arc::new(Shared {
                state: Arc::default(),
                fetch: Box::new(fetch),
                uri,
                observers,
            }),
        })
    }
}

/// The address of the endpoint: as given, or the default path at an address that has none.
fn endpoint(address: &str, path: &'static str, rules: TargetRules) -> Result<Uri, InvalidConfig> {
    // The value is not shown: an address may have a password in it.
    let invalid = |problem: String| InvalidConfig::new("address", problem);
    let uri: Uri = address
        .parse()
        .map_err(|_| invalid("must be an https URL".to_owned()))?;
    rules
        .check(&uri)
        .map_err(|error| invalid(format!("is not permitted: {error}")))?;
    if uri.path_and_query().is_some_and(|at| at.as_str() != "/") {
        return Ok(uri);
    }
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static(path));
    Uri::from_parts(parts).map_err(|error| invalid(error.to_string()))
}

async fn exchange<S, B>(service: S, grant: &ClientCredentials, uri: Uri) -> Result<Granted, Facts>
where
    S: Service<Request<BufferedBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>>,
{
    // Not reached: the grant was checked.
    let invalid =
        |error: InvalidConfig| Facts::new(TokenErrorKind::Rejected).detail(error.to_string());
    let request = grant.request(uri).map_err(invalid)?;
    let sent = service.oneshot(request).await;
    let (head, body) = sent
        .map_err(|error| transport(&*error.into(), grant))?
        .into_parts();
    let head = Response::from_parts(head, ());
    let is_success = head.status().is_success();
    let body = match collect(body, answer::LONGEST).await {
        Ok(body) => body.into_bytes(),
        // The status says enough.
        Err(_) if !is_success => Bytes::new(),
        Err(tower_webhook::body::CollectError::TooLarge { limit }) => {
            let why = format!("it is longer than {limit} bytes");
            return Err(Facts::new(TokenErrorKind::InvalidAnswer).detail(why));
        }
        Err(tower_webhook::body::CollectError::Read(error)) => {
            return Err(transport(&*error.into(), grant));
        }
        Err(_) => return Err(ended()),
    };
    let read = answer::read(&head, &body, grant);
    // A token stands in it. Where the connection still holds the memory, this cannot be done.
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
    read
}

/// An error of the service, with its causes.
fn transport(error: &(dyn std::error::Error + 'static), grant: &ClientCredentials) -> Facts {
    let outcome = Outcome::of_error(error);
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..8 {
        let Some(error) = cause else { break };
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    Facts {
        is_temporary: outcome.kind() != OutcomeKind::Unsendable,
        hint: outcome.retry_after(),
        ..Facts::new(TokenErrorKind::Transport).detail(grant.redact(&text))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without a query, in which there may be a key.
        let uri = &self.shared.uri;
        let host = uri.authority().map_or("", http::uri::Authority::as_str);
        write!(f, "TokenSource({host}{})", uri.path())
    }
}
