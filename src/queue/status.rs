use super::{Queue, Status, Task, TaskId};
use crate::{BoxFuture, StoreError, body::BufferedBody, problem::Problem, trace::trouble};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower_service::Service;

/// Says how a task is: its id is the last segment of the path.
///
/// | | Answer |
/// | --- | --- |
/// | it waits, or a worker has it | 202 `{"status":"processing"}` |
/// | it is done | 200 with what the worker kept as its result, or `{"status":"success"}` |
/// | it failed for good | 500 `{"status":"failed"}`: why is for operators |
/// | an id that is unknown, over, or no id | 404, the same for each |
/// | the queue does not answer | 503 with `Retry-After` |
///
/// Every answer has `Cache-Control: no-store`: the next one may be another.
///
/// For axum it is `get_service(TaskStatusService::new(queue))` on `/status/{id}`.
///
/// # Cancel safety
///
/// It only reads.
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
}

type Failed = Arc<dyn Fn(&Task) -> Response<BufferedBody> + Send + Sync>;

impl TaskStatusService {
    /// The tasks of this queue.
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
            },
        }
    }

    /// The content type of results. Default: `application/json`.
    pub fn content_type(mut self, content_type: HeaderValue) -> Self {
        self.settings.content_type = content_type;
        self
    }

    /// Replaces the answer for a task that failed for good: with a fallback, say.
    pub fn failed(
        mut self,
        answer: impl Fn(&Task) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.failed = Arc::new(answer);
        self
    }
}

impl Settings {
    fn answer(&self, result: Result<Option<Task>, StoreError>) -> Response<BufferedBody> {
        match result {
            Ok(None) => Problem::new(StatusCode::NOT_FOUND).into_response(),
            Ok(Some(task)) => self.found(&task),
            Err(error) => {
                let kind = error.kind().as_str();
                trouble!("task_status", "the queue did not answer", kind = kind);
                Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                    .retry_after(Duration::from_secs(5))
                    .into_response()
            }
        }
    }

    fn found(&self, task: &Task) -> Response<BufferedBody> {
        let processing = Bytes::from_static(br#"{"status":"processing"}"#);
        match &task.status {
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

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: Bytes) -> Response<BufferedBody> {
    let mut response = Response::new(BufferedBody::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

impl<B> Service<Request<B>> for TaskStatusService {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = TaskStatusFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> TaskStatusFuture {
        let (_, id) = req.uri().path().rsplit_once('/').unwrap_or_default();
        let id: Option<TaskId> = id.parse().ok();
        TaskStatusFuture {
            asked: id.map(|id| self.queue.engine().task(id)),
            settings: self.settings.clone(),
        }
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

/// Response future of [`TaskStatusService`].
#[must_use = "futures do nothing unless polled"]
pub struct TaskStatusFuture {
    /// `None` where the path ends with no id.
    asked: Option<BoxFuture<Result<Option<Task>, StoreError>>>,
    settings: Settings,
}

impl Future for TaskStatusFuture {
    type Output = Result<Response<BufferedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.asked {
            None => Ok(None),
            Some(asked) => ready!(asked.as_mut().poll(cx)),
        };
        self.asked = None;
        let mut response = self.settings.answer(result);
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Poll::Ready(Ok(response))
    }
}

impl fmt::Debug for TaskStatusFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStatusFuture").finish_non_exhaustive()
    }
}
