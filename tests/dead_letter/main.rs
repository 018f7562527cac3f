//! What the dead letter layer promises, through its public API.
#![cfg(all(feature = "dead-letter", feature = "stack"))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod cancel;
mod deliver;
mod layer;

use http::{Request, Response};
use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower_webhook::{
    BoxError, BoxFuture, StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::{Entry, Sink},
};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Response<BufferedBody>;

/// Takes every entry, after a while, or does otherwise.
#[derive(Clone, Debug, Default)]
struct Recording {
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
    does: Does,
}

#[derive(Clone, Copy, Debug, Default)]
enum Does {
    #[default]
    Takes,
    TakesAfter(Duration),
    Fails(StoreErrorKind),
    Hangs,
    Panics,
}

impl Recording {
    fn that(does: Does) -> Self {
        Self {
            does,
            ..Self::default()
        }
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().unwrap().clone()
    }

    /// The only one.
    fn entry(&self) -> Arc<Entry> {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        Arc::clone(&entries[0])
    }
}

impl Sink for Recording {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        let (sink, entry) = (self.clone(), Arc::clone(entry));
        Box::pin(async move {
            match sink.does {
                Does::Takes => {}
                Does::TakesAfter(time) => tokio::time::sleep(time).await,
                Does::Fails(kind) => return Err(StoreError::new(kind)),
                Does::Hangs => pending().await,
                Does::Panics => panic!("on purpose"),
            }
            sink.entries.lock().unwrap().push(entry);
            Ok(())
        })
    }
}

/// May be repeated: its receiver knows it by its id.
fn request() -> Request<BufferedBody> {
    let req = Request::post("http://a.test/hooks?n=1").header("webhook-id", "msg_1");
    req.body(BufferedBody::from("{}")).unwrap()
}

fn answer(status: u16) -> Result<Answer, BoxError> {
    let answer = Response::builder().status(status);
    Ok(answer.body(BufferedBody::from("answer"))?)
}
