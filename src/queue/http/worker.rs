//! Workers that send HTTP requests with a client.

use crate::{
    BoxError, BoxFuture, IntoBoxError, InvalidConfig, StoreError,
    attempt::Attempt,
    body::{BufferedBody, collect},
    context::Made,
    dead_letter::Reason,
    observe::{Event, Observers},
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, Unsendable, links},
    queue::{
        HttpResponse, Job, Kinds, NewJob, Queue, Worker, WorkerBuilder,
        worker::{Called, Done, MAX_RESULT, Perform, TakeResult, bounded},
    },
    retry::{ExchangeResponse, HttpExchange},
};
use http::{Request, Response};
use http_body::Body;
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::time::timeout;
use tower_service::Service;

/// The time limit for reading the body of a successful response for its result.
const RESULT_TIME: Duration = Duration::from_secs(5);

type MakeRequest = Arc<dyn Fn(&Job) -> Result<Request<BufferedBody>, BoxError> + Send + Sync>;

/// Marks a worker whose service is called with an HTTP request: the request that the job holds, or the
/// one that the function of [`request`](WorkerBuilder::request) makes.
#[allow(missing_debug_implementations, reason = "nobody can name it")]
pub struct ByRequest {
    request: MakeRequest,
}

impl Worker {
    /// Makes a builder of a worker whose service is an HTTP client. The worker claims jobs of the kind
    /// [`NewJob::HTTP`], calls the client with the [request](Job::http_request) that each holds, and
    /// classifies with [`HttpClassifier`].
    ///
    /// It reads at most 64 KiB of a response, so that the connection can be used again.
    pub fn http(queue: Queue) -> WorkerBuilder<HttpClassifier, (), ByRequest> {
        let call = ByRequest {
            request: Arc::new(|job| job.http_request().map_err(Into::into)),
        };
        WorkerBuilder::new(queue, HttpClassifier::new(), call).kinds([NewJob::HTTP])
    }
}

impl<M, T> WorkerBuilder<M, T, ByRequest> {
    /// Sets the kinds of jobs that the worker claims, and the function that makes the request of a job.
    /// Default: [`NewJob::HTTP`], and the [request](Job::http_request) that the job holds.
    ///
    /// If it returns an error, the job is dead-lettered as
    /// [`Unsendable`](crate::dead_letter::Reason::Unsendable).
    pub fn request<E>(
        mut self,
        kinds: impl Into<Kinds>,
        request: impl Fn(&Job) -> Result<Request<BufferedBody>, E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<BoxError>,
    {
        self.settings.kinds = Some(kinds.into());
        self.call.request = Arc::new(move |job| request(job).map_err(Into::into));
        self
    }

    /// Builds the worker. It calls a clone of `client` with the request of each job, in a separate task. A
    /// panic of the client is caught. The client may be a delivery stack of one attempt, or a bare client.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `concurrency`, `kinds`, `lease`, `attempt_timeout`, `retry` or
    /// `result`.
    pub fn build<S, B>(self, client: S) -> Result<Worker, InvalidConfig>
    where
        S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: IntoBoxError,
        B: Body + Send + 'static,
        B::Data: Send,
        M: MakeClassifier<Request<BufferedBody>> + Send + 'static,
        M::Classifier: Classify<Response<B>, BoxError> + Send + 'static,
        T: TakeResult<Response<BufferedBody>> + Clone + Send + 'static,
    {
        let perform = CallHttp {
            service: client,
            make: self.make,
            take: self.take,
            request: self.call.request,
            observers: self.settings.observers.clone(),
        };
        self.settings.build(Box::new(perform))
    }
}

/// Calls a client with the request of each job.
struct CallHttp<S, M, T> {
    service: S,
    make: M,
    take: T,
    request: MakeRequest,
    observers: Observers,
}

impl<S, M, T> Perform for CallHttp<S, M, T>
where
    S: Service<Request<BufferedBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: IntoBoxError,
    S::Response: HttpResponse,
    M: MakeClassifier<Request<BufferedBody>> + Send,
    M::Classifier:
        Classify<Response<<S::Response as HttpResponse>::Body>, BoxError> + Send + 'static,
    T: TakeResult<Response<BufferedBody>> + Clone + Send + 'static,
{
    fn counter(&self, _: &Job, _: Attempt) -> Made {
        Made::of_request()
    }

    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done> {
        let req = match (self.request)(&job) {
            Ok(req) => req,
            Err(error) => {
                let done = unsendable(error);
                return Box::pin(async { done });
            }
        };
        let mut service = self.service.clone();
        let (classifier, take) = (self.make.make_classifier(&req), self.take.clone());
        let observers = self.observers.clone();
        Box::pin(async move {
            if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
                return Done::held_back(Reason::NotReady, Some(error.into()));
            }
            called.set();
            let calling = service.call(req);
            let result = calling.await;
            let result = result.map(HttpResponse::into_response).map_err(Into::into);
            let outcome = classifier.classify(result.as_ref());
            match result {
                Err(error) => Done::failed(outcome, Some(error)),
                Ok(res) if outcome.is_failure() || !T::TAKES => {
                    HttpExchange::new().discard(res).await;
                    Done::new(outcome)
                }
                Ok(res) => {
                    let result = if let Some(res) = read(res).await {
                        bounded(outcome, &observers, || take.take(&res))
                    } else {
                        observers.tell(|| Event::Trouble {
                            part: "queue",
                            what: "a result could not be read, and is not kept",
                            detail: None,
                        });
                        None
                    };
                    Done {
                        result,
                        ..Done::new(outcome)
                    }
                }
            }
        })
    }
}

/// Calls this client with the request that `request` makes of a job.
pub(in crate::queue) fn calling<S>(
    service: S,
    request: impl Fn(&Job) -> Result<Request<BufferedBody>, BoxError> + Send + Sync + 'static,
    observers: Observers,
) -> Box<dyn Perform>
where
    S: Service<Request<BufferedBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: IntoBoxError,
    S::Response: HttpResponse,
{
    Box::new(CallHttp {
        service,
        make: HttpClassifier::new(),
        take: (),
        request: Arc::new(request),
        observers,
    })
}

/// The result of a job from which no request can be made.
fn unsendable(error: BoxError) -> Done {
    let is_newer = links(&*error)
        .filter_map(|link| link.downcast_ref::<StoreError>())
        .any(StoreError::is_newer);
    let error = BoxError::from(Unsendable::because(error));
    Done {
        is_newer,
        ..Done::failed(Outcome::unsendable(), Some(error))
    }
}

/// Returns a successful response with its body, if the body is short enough and read in time. The job
/// succeeds in any case.
async fn read<B: Body>(res: Response<B>) -> Option<Response<BufferedBody>> {
    let (head, body) = res.into_parts();
    match timeout(RESULT_TIME, collect(body, MAX_RESULT)).await {
        Ok(Ok(body)) => Some(Response::from_parts(head, body)),
        _ => None,
    }
}
