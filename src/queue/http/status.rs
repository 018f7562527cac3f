use super::json;
use crate::{
    BoxFuture, StoreError,
    body::BufferedBody,
    observe::{Event, Id, Observer, Observers},
    problem::Problem,
    queue::{Queue, Status, Task, TaskId},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_service::Service;

/// Reports the status of a task. The last segment of the path is the id.
///
/// | Case | Answer |
/// | --- | --- |
/// | the task waits or runs | 202 `{"status":"processing"}` |
/// | the task succeeded | 200 with the result that the worker kept, or `{"status":"success"}` |
/// | the task was cancelled | 410 `{"status":"cancelled"}` |
/// | the task failed for good | 500 `{"status":"failed"}`; the cause is in the dead-letter entry, for operators |
/// | the id is unknown or malformed, or its retention is over | 404, the same in all three cases |
/// | the queue does not answer | 503 with `Retry-After` |
///
/// Every answer has `Cache-Control: no-store`.
///
/// With axum, route `get_service(TaskStatusService::new(queue))` at `/status/{id}`.
///
/// # Cancel safety
///
/// The service only reads.
#[derive(Clone)]
#[must_use]
pub struct TaskStatusService {
    queue: Queue,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    content_type: HeaderValue,
    failed: Failed,
    observers: Observers,
}

type Failed = Arc<dyn Fn(&Task) -> Response<BufferedBody> + Send + Sync>;

impl TaskStatusService {
    /// Makes a service that reports the tasks of this queue.
    pub fn new(queue: Queue) -> Self {
        let failed = |_: &Task| {
            let body = Bytes::from_static(br#"{"status":"failed"}"#);
            json(StatusCode::INTERNAL_SERVER_ERROR, body)
        };
        Self {
            queue,
            settings: Settings {
                content_type: HeaderValue::from_static("application/json"),
                failed: Arc::new(failed),
                observers: Observers::none(),
            },
        }
    }

    /// Sets the content type of results. Default: `application/json`.
    pub fn content_type(mut self, content_type: HeaderValue) -> Self {
        self.settings.content_type = content_type;
        self
    }

    /// Sets the answer for a task that failed for good. Default: 500, as in the table above.
    pub fn failed(
        mut self,
        answer: impl Fn(&Task) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.failed = Arc::new(answer);
        self
    }

    /// Adds an observer of errors of the queue. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.settings.observers = self.settings.observers.and(observer);
        self
    }
}

impl Settings {
    fn answer(&self, result: Result<Option<Task>, StoreError>) -> Response<BufferedBody> {
        match result {
            Ok(None) => Problem::new(StatusCode::NOT_FOUND).into_response(),
            Ok(Some(task)) => self.found(&task),
            Err(error) => {
                let kind = error.kind();
                self.observers.tell(|| Event::Trouble {
                    part: "queue",
                    what: "the status of a task could not be read",
                    detail: Some(Id::new(&kind)),
                });
                Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                    .retry_after(Duration::from_secs(5))
                    .into_response()
            }
        }
    }

    fn found(&self, task: &Task) -> Response<BufferedBody> {
        let processing = Bytes::from_static(br#"{"status":"processing"}"#);
        match &task.status {
            Status::Cancelled => {
                let body = Bytes::from_static(br#"{"status":"cancelled"}"#);
                json(StatusCode::GONE, body)
            }
            Status::Failed => (self.failed)(task),
            Status::Queued | Status::Running => json(StatusCode::ACCEPTED, processing),
            Status::Succeeded { result: None } => {
                let body = Bytes::from_static(br#"{"status":"success"}"#);
                json(StatusCode::OK, body)
            }
            Status::Succeeded {
                result: Some(result),
            } => {
                let mut response = json(StatusCode::OK, result.clone());
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, self.content_type.clone());
                response
            }
        }
    }
}

impl<B> Service<Request<B>> for TaskStatusService {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let (_, id) = req.uri().path().rsplit_once('/').unwrap_or_default();
        let id: Option<TaskId> = id.parse().ok();
        let (queue, settings) = (self.queue.clone(), self.settings.clone());
        Box::pin(async move {
            let result = match id {
                // The path does not end with an id.
                None => Ok(None),
                Some(id) => queue.task(id).await,
            };
            let mut response = settings.answer(result);
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        })
    }
}

impl fmt::Debug for TaskStatusService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStatusService")
            .field("queue", &self.queue)
            .field("content_type", &self.settings.content_type)
            .finish_non_exhaustive()
    }
}
