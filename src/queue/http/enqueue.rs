use super::json;
use crate::{
    BoxFuture, InvalidConfig, StoreError, StoreErrorKind,
    body::BufferedBody,
    idempotency::{IdempotencyKey, KeyError, KeySource},
    observe::{Event, Id, Observer, Observers},
    problem::{Named, Problem, Refusal, Refuser},
    queue::{Accept, Enqueued, NewJob},
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;
use tower_service::Service;

/// The innermost service of a receive stack: makes a job of each request, enqueues it, and answers.
///
/// | Case | Answer |
/// | --- | --- |
/// | the job is accepted | 202 `{"status":"accepted","taskId":ID}` |
/// | a job with this key exists | the same with the first job's id and `"duplicate":true`, and `Idempotent-Replayed: true` |
/// | the request makes no job | the answer of the closure |
/// | the id is malformed | 400 |
/// | the job is too large | 413 |
/// | the job asks for what the queue does not keep, such as a [delay](NewJob::delay) of a century | 422 |
/// | the queue is full, closed or unavailable, or takes [too long](Self::time_limit) | 503 with `Retry-After` |
///
/// It answers only after the job is safe: an accepted job is processed, or ends as a dead letter. The
/// layers that check the request (body buffering, signature verification) belong outside it.
///
/// # Cancel safety
///
/// If the response future is dropped, the job is in the queue or not, and no answer is sent. A sender
/// that repeats the request gets the id of the first job, if jobs have a
/// [deduplication key](NewJob::dedup_key).
///
/// # Examples
///
/// ```
/// use http::{HeaderName, Request, StatusCode};
/// use tower::ServiceExt;
/// use tower_webhook::{
///     body::BufferedBody,
///     idempotency::KeySource,
///     problem::Problem,
///     queue::{EnqueueService, Enqueued, NewJob},
/// };
///
/// # tokio_test::block_on(async {
/// # let queue = |job: NewJob| async move { Ok(Enqueued { id: job.id, repeated: false }) };
/// // `queue` is a `Queue`.
/// let service = EnqueueService::new(queue, |req: Request<BufferedBody>| {
///     if req.body().as_bytes().is_empty() {
///         return Err(Problem::new(StatusCode::BAD_REQUEST).detail("there is no event"));
///     }
///     Ok(NewJob::new("event", req.into_body().into_bytes()))
/// })
/// .dedup_key("orders", KeySource::header(HeaderName::from_static("idempotency-key")))?;
///
/// let req = Request::post("/hooks").header("idempotency-key", "evt_1").body("{}".into())?;
/// assert_eq!(service.clone().oneshot(req).await?.status(), 202);
/// let empty = Request::post("/hooks").body(BufferedBody::default())?;
/// assert_eq!(service.oneshot(empty).await?.status(), 400);
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[must_use]
pub struct EnqueueService<A, F> {
    accept: A,
    job: F,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    dedup_key: Option<(Arc<str>, KeySource)>,
    retry_after: Duration,
    time_limit: Duration,
    refuser: Refuser<EnqueueError>,
    answer: Answer,
    observers: Observers,
}

type Answer = Arc<dyn Fn(&Enqueued) -> Response<BufferedBody> + Send + Sync>;

impl<A, F> EnqueueService<A, F> {
    /// Enqueues the job that `job` makes of each request. `accept` is a [`Queue`](crate::queue::Queue), or a
    /// function that stores the job (see [`Accept`]). `job` may answer a request itself, with a [`Problem`] or
    /// a response. Observers are told the [reason](Problem::reason) of the problem, or else `no_job`.
    pub fn new<E>(accept: A, job: F) -> Self
    where
        A: Accept,
        F: Fn(Request<BufferedBody>) -> Result<NewJob, E>,
        E: Into<Response<BufferedBody>>,
    {
        Self {
            accept,
            job,
            settings: Settings {
                dedup_key: None,
                retry_after: Duration::from_secs(5),
                time_limit: Duration::from_secs(10),
                refuser: Refuser::new(),
                answer: Arc::new(accepted),
                observers: Observers::none(),
            },
        }
    }

    /// Sets the source of the [deduplication key](NewJob::dedup_key) of jobs: an id in the request, within
    /// this scope. Default: none. A job that already has a key keeps it; a request without an id makes a
    /// job without a key.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the scope is too long.
    pub fn dedup_key(mut self, scope: &str, source: KeySource) -> Result<Self, InvalidConfig> {
        if IdempotencyKey::new(scope, "id").is_err() {
            return Err(InvalidConfig::new(
                "dedup_key",
                "has a scope that is too long",
            ));
        }
        self.settings.dedup_key = Some((scope.into(), source));
        Ok(self)
    }

    /// Sets the `Retry-After` of a 503 answer, at most a day. Default: 5 s.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        self.settings.retry_after = if wait.as_secs() < DAY.as_secs() {
            wait
        } else {
            DAY
        };
        self
    }

    /// Sets the time limit for the queue to accept a job; after it the answer is 503. Default: 10 s.
    ///
    /// The job may be in the queue nevertheless, and is then processed. With a
    /// [deduplication key](Self::dedup_key), a sender that repeats the request gets the id of that job;
    /// without one, the repetition makes a second job.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn time_limit(mut self, limit: Duration) -> Result<Self, InvalidConfig> {
        if limit.is_zero() {
            return Err(InvalidConfig::new("time_limit", "must be longer than zero"));
        }
        self.settings.time_limit = limit;
        Ok(self)
    }

    /// Sets the answer to an accepted job. Default: 202, as in the table above.
    pub fn answer(
        mut self,
        answer: impl Fn(&Enqueued) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.answer = Arc::new(answer);
        self
    }

    /// Sets the answer to a job that was not accepted. Default: a [`Problem`], as in the table above.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&EnqueueError, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.refuser = Refuser::with(respond);
        self
    }

    /// Adds an observer of accepted and refused jobs. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.settings.observers = self.settings.observers.and(observer);
        self
    }
}

impl Settings {
    fn key(&self, req: &Request<BufferedBody>) -> Result<Option<IdempotencyKey>, KeyError> {
        let Some((scope, source)) = &self.dedup_key else {
            return Ok(None);
        };
        let id = source.find(req)?;
        id.map(|id| IdempotencyKey::new(scope, &id)).transpose()
    }

    fn refuse(&self, error: EnqueueError) -> Response<BufferedBody> {
        self.refuse_for(error, &error)
    }

    fn refuse_for(&self, error: EnqueueError, why: &dyn fmt::Display) -> Response<BufferedBody> {
        self.observers.tell(|| Event::Refused {
            by: "enqueue",
            reason: error.as_str(),
            detail: Id::new(why),
        });
        self.refuser.buffered(error)
    }

    /// The function that makes the job gave this response instead.
    fn no_job(&self, response: Response<BufferedBody>) -> Response<BufferedBody> {
        let status = response.status();
        if !status.is_success() {
            let named = response.extensions().get::<Named>();
            let detail = named.and_then(|named| named.detail.as_ref());
            self.observers.tell(|| Event::Refused {
                by: "enqueue",
                reason: named.map_or("no_job", |named| named.reason),
                detail: detail.map_or(Id::new(&status), |detail| Id::new(detail)),
            });
        }
        response
    }

    fn answer(
        &self,
        result: Result<Enqueued, StoreError>,
        names: Option<&Names>,
    ) -> Response<BufferedBody> {
        match result {
            Ok(enqueued) => {
                if let Some(Names { kind, target }) = names {
                    self.observers.tell(|| Event::Accepted {
                        task: Id::new(&enqueued.id),
                        kind,
                        peer: target,
                        repeated: enqueued.repeated,
                    });
                }
                (self.answer)(&enqueued)
            }
            Err(error) => {
                let (kind, retry_after) = (error.kind(), self.retry_after);
                let refused = EnqueueError::NotAccepted { kind, retry_after };
                match (kind, error.source()) {
                    // It names the field that the queue does not take.
                    (StoreErrorKind::Rejected | StoreErrorKind::TooLarge, Some(why)) => {
                        self.refuse_for(refused, &why)
                    }
                    _ => self.refuse(refused),
                }
            }
        }
    }
}

/// The facts about a job for observers. The queue owns the job by the time they are reported.
struct Names {
    kind: String,
    target: String,
}

fn accepted(enqueued: &Enqueued) -> Response<BufferedBody> {
    let duplicate = if enqueued.repeated {
        r#","duplicate":true"#
    } else {
        ""
    };
    let id = enqueued.id;
    let body = format!(r#"{{"status":"accepted","taskId":"{id}"{duplicate}}}"#);
    let mut response = json(StatusCode::ACCEPTED, body.into());
    if enqueued.repeated {
        response.headers_mut().insert(
            HeaderName::from_static("idempotent-replayed"),
            HeaderValue::from_static("true"),
        );
    }
    response
}

impl<A, F, E> Service<Request<BufferedBody>> for EnqueueService<A, F>
where
    A: Accept,
    F: Fn(Request<BufferedBody>) -> Result<NewJob, E>,
    E: Into<Response<BufferedBody>>,
{
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let settings = &self.settings;
        let key = match settings.key(&req) {
            Ok(key) => key,
            Err(error) => return answered(settings.refuse(error.into())),
        };
        let mut job = match (self.job)(req) {
            Ok(job) => job,
            Err(answer) => return answered(settings.no_job(answer.into())),
        };
        job.dedup_key = job.dedup_key.take().or(key);
        let names = settings.observers.is_heard().then(|| Names {
            kind: job.kind.clone(),
            target: job.target.clone(),
        });
        let (accepting, settings) = (self.accept.accept(job), settings.clone());
        Box::pin(async move {
            let result = timeout(settings.time_limit, accepting).await;
            let result = result.unwrap_or(Err(StoreError::new(StoreErrorKind::Timeout)));
            Ok(settings.answer(result, names.as_ref()))
        })
    }
}

fn answered(
    response: Response<BufferedBody>,
) -> BoxFuture<Result<Response<BufferedBody>, Infallible>> {
    Box::pin(ready(Ok(response)))
}

impl<A, F> fmt::Debug for EnqueueService<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnqueueService")
            .field("dedup_key", &self.settings.dedup_key)
            .field("retry_after", &self.settings.retry_after)
            .field("time_limit", &self.settings.time_limit)
            .field("refuser", &self.settings.refuser)
            .finish_non_exhaustive()
    }
}

/// Why an [`EnqueueService`] did not accept a job. Found in the extensions of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The id in the request is malformed.
    IdempotencyKey(KeyError),
    /// The queue did not accept the job.
    NotAccepted {
        /// The kind of the error.
        kind: StoreErrorKind,
        /// The `Retry-After` of the answer.
        retry_after: Duration,
    },
}

impl EnqueueError {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::IdempotencyKey(_) => "malformed_key",
            Self::NotAccepted { kind, .. } => kind.as_str(),
        }
    }
}

impl From<KeyError> for EnqueueError {
    fn from(error: KeyError) -> Self {
        Self::IdempotencyKey(error)
    }
}

impl fmt::Display for EnqueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdempotencyKey(error) => error.fmt(f),
            Self::NotAccepted { kind, .. } => write!(f, "the queue did not accept the job: {kind}"),
        }
    }
}

impl Error for EnqueueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::IdempotencyKey(error) => Some(error),
            Self::NotAccepted { .. } => None,
        }
    }
}

impl Refusal for EnqueueError {
    fn problem(&self) -> Problem {
        match self {
            Self::IdempotencyKey(error) => {
                Problem::new(StatusCode::BAD_REQUEST).detail(error.to_string())
            }
            Self::NotAccepted {
                kind: StoreErrorKind::TooLarge,
                ..
            } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE),
            // Not a 503, which asks to send it again.
            Self::NotAccepted {
                kind: StoreErrorKind::Rejected,
                ..
            } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY),
            Self::NotAccepted { retry_after, .. } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(*retry_after)
            }
        }
    }
}
