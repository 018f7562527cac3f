//! The HTTP parts of the queue: requests as jobs, the services that accept them and report their
//! status, and the worker that sends them.

mod enqueue;
mod request;
mod status;
mod worker;

pub(super) use self::worker::calling;
pub use self::{
    enqueue::{EnqueueError, EnqueueService},
    status::TaskStatusService,
};

use crate::body::BufferedBody;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// A response in JSON.
fn json(status: StatusCode, body: Bytes) -> Response<BufferedBody> {
    let mut response = Response::new(BufferedBody::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
