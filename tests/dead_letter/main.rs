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
    BoxError, BoxFuture,
    body::BufferedBody,
    dead_letter::{Letter, Sink, SinkError, SinkErrorKind},
};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Response<BufferedBody>;

/// Takes every letter, after a while, or does otherwise.
#[derive(Clone, Debug, Default)]
struct Recording {
    letters: Arc<Mutex<Vec<Arc<Letter>>>>,
    does: Does,
}

#[derive(Clone, Copy, Debug, Default)]
enum Does {
    #[default]
    Takes,
    TakesAfter(Duration),
    Fails(SinkErrorKind),
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

    fn letters(&self) -> Vec<Arc<Letter>> {
        self.letters.lock().unwrap().clone()
    }

    /// The only one.
    fn letter(&self) -> Arc<Letter> {
        let letters = self.letters();
        assert_eq!(letters.len(), 1, "{letters:?}");
        Arc::clone(&letters[0])
    }
}

impl Sink for Recording {
    fn write(&self, letter: &Arc<Letter>) -> BoxFuture<Result<(), SinkError>> {
        let (sink, letter) = (self.clone(), Arc::clone(letter));
        Box::pin(async move {
            match sink.does {
                Does::Takes => {}
                Does::TakesAfter(time) => tokio::time::sleep(time).await,
                Does::Fails(kind) => return Err(SinkError::new(kind)),
                Does::Hangs => pending().await,
                Does::Panics => panic!("on purpose"),
            }
            sink.letters.lock().unwrap().push(letter);
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
