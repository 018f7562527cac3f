//! What `RetryWithJitterLayer` promises: when it retries and when it does not, what it costs, and
//! what a dropped future leaves behind.

#![cfg(feature = "retry")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod cancel;
mod delays;
mod events;
mod giving_up;
mod hints;
mod refusals;
mod safety;
mod service;
mod simulation;

use http::{Request, Response};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_webhook::{
    BoxError, RetryWithJitterLayer,
    attempt::{Attempt, Failed, GaveUp, History},
    outcome::LocallyRefused,
    retry::{
        Backoff, Budget, CloneExchange, Exchange, ExchangeResponse, Jitter, RetryConfig,
        RetryConfigBuilder, RetryWithJitter,
    },
};

/// What the peer does with one call.
#[derive(Clone, Copy, Debug)]
enum Step {
    Status(u16),
    /// With a `Retry-After` of this many seconds.
    Busy(u16, u64),
    Reset,
    /// Our own refusal, for this many seconds.
    Refused(u64),
    /// The service takes no more calls.
    Closed,
    /// Never answers.
    Hang,
    /// Answers 500 after this many seconds.
    Slow(u64),
}

/// A peer that follows a script, whose last step is repeated.
#[derive(Debug)]
struct Peer {
    shared: Arc<Mutex<Shared>>,
    ready: bool,
}

#[derive(Debug)]
struct Shared {
    script: Vec<Step>,
    started: Instant,
    /// When each call came, and which attempt it was.
    calls: Vec<(Duration, Option<u32>)>,
    clones: usize,
}

impl Peer {
    fn new(script: impl Into<Vec<Step>>) -> Self {
        let shared = Shared {
            script: script.into(),
            started: Instant::now(),
            calls: Vec::new(),
            clones: 0,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            ready: false,
        }
    }

    fn calls(&self) -> usize {
        self.shared.lock().unwrap().calls.len()
    }

    /// When the calls came, in whole milliseconds from the beginning.
    fn times(&self) -> Vec<u128> {
        let shared = self.shared.lock().unwrap();
        shared.calls.iter().map(|call| call.0.as_millis()).collect()
    }

    fn attempts(&self) -> Vec<Option<u32>> {
        let shared = self.shared.lock().unwrap();
        shared.calls.iter().map(|call| call.1).collect()
    }

    fn step(&self) -> Step {
        let shared = self.shared.lock().unwrap();
        let at = shared.calls.len().min(shared.script.len() - 1);
        shared.script[at]
    }
}

/// A clone is not ready, whatever its original was.
impl Clone for Peer {
    fn clone(&self) -> Self {
        self.shared.lock().unwrap().clones += 1;
        Self {
            shared: Arc::clone(&self.shared),
            ready: false,
        }
    }
}

impl<B> Service<Request<B>> for Peer {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.calls() > 0 && matches!(self.step(), Step::Closed) {
            return Poll::Ready(Err("closed".into()));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "the called instance was not polled ready"
        );
        let step = self.step();
        let mut shared = self.shared.lock().unwrap();
        let at = shared.started.elapsed();
        shared
            .calls
            .push((at, Attempt::current().map(Attempt::number)));
        drop(shared);
        Box::pin(async move {
            let answer = |status: u16| Response::builder().status(status);
            match step {
                Step::Status(status) => Ok(answer(status).body(())?),
                Step::Busy(status, hint) => {
                    Ok(answer(status).header("retry-after", hint).body(())?)
                }
                Step::Reset | Step::Closed => Err("reset".into()),
                Step::Refused(secs) => Err(LocallyRefused::after(Duration::from_secs(secs)).into()),
                Step::Hang => std::future::pending().await,
                Step::Slow(secs) => {
                    sleep(Duration::from_secs(secs)).await;
                    Ok(answer(500).body(())?)
                }
            }
        })
    }
}

/// `CloneExchange`, and the history where a test can see it.
#[derive(Clone, Copy, Debug)]
struct Annotate;

impl<Req: Clone + 'static> Exchange<Req> for Annotate {
    type Sent = Req;
    type Kept = <CloneExchange as Exchange<Req>>::Kept;

    fn first(&self, req: Req, keep: bool) -> (Req, Option<Self::Kept>) {
        CloneExchange.first(req, keep)
    }

    fn can_send_again(&self, _: &Self::Kept) -> bool {
        true
    }

    fn again(&self, kept: &mut Option<Self::Kept>, last: bool) -> Option<Req> {
        CloneExchange.again(kept, last)
    }
}

impl ExchangeResponse<Response<()>> for Annotate {
    type Discard = std::future::Ready<()>;

    fn discard(&self, _: Response<()>) -> Self::Discard {
        std::future::ready(())
    }

    fn annotate(&self, res: &mut Response<()>, history: History) {
        res.extensions_mut().insert(history);
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Waits of exactly a second, and no budget.
fn plain() -> RetryConfigBuilder {
    let backoff = Backoff::constant(secs(1)).jitter(Jitter::None);
    RetryConfig::builder()
        .backoff(backoff.build().unwrap())
        .budget(Budget::unlimited())
        .refusals(tower_webhook::retry::Refusals::Wait(10))
}

fn layer(
    config: RetryConfigBuilder,
) -> RetryWithJitterLayer<tower_webhook::outcome::HttpClassifier, Annotate> {
    RetryWithJitterLayer::new(config.build().unwrap()).exchange(Annotate)
}

fn get() -> Request<()> {
    Request::get("https://peer.example/hook").body(()).unwrap()
}

fn post() -> Request<()> {
    Request::post("https://peer.example/hook").body(()).unwrap()
}

/// One delivery through a layer of its own.
async fn deliver(
    config: RetryConfigBuilder,
    peer: &Peer,
    req: Request<()>,
) -> Result<Response<()>, BoxError> {
    layer(config).layer(peer.clone()).oneshot(req).await
}

fn history(result: &Result<Response<()>, BoxError>) -> Option<&History> {
    match result {
        Ok(res) => res.extensions().get(),
        Err(error) => error.downcast_ref::<Failed>().map(Failed::history),
    }
}

fn gave_up(result: &Result<Response<()>, BoxError>) -> Option<GaveUp> {
    history(result).and_then(History::gave_up)
}

fn status(result: &Result<Response<()>, BoxError>) -> u16 {
    result.as_ref().unwrap().status().as_u16()
}

type Retry = RetryWithJitter<Peer, tower_webhook::outcome::HttpClassifier, Annotate>;

async fn ready<S: Service<Request<()>>>(service: &mut S) {
    let polled = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
    assert!(polled.is_ok());
}
