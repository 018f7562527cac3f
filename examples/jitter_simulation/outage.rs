//! A total outage, through the layer itself with a paused clock: the calls that reach the peer with and
//! without a budget and a breaker.

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tower::{Layer, Service, ServiceExt};
use tower_webhook::{
    BoxError, RetryWithJitterLayer,
    outcome::{LocallyRefused, Outcome, classify_fn},
    retry::{Budget, Refusals, RetryConfig},
};

/// First attempts per second.
pub(crate) const RATE: u32 = 100;

/// The time in which the peer is down, and the length of the simulation, in seconds.
pub(crate) const DOWN: std::ops::Range<u64> = 10..40;
pub(crate) const SECONDS: u64 = 60;

/// The limits on retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    Nothing,
    Budget,
    BudgetAndBreaker,
}

/// Calls that reached the peer, for each second.
pub(crate) fn simulate(guard: Guard, seed: u64) -> Result<Vec<u32>, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(deliveries(guard, seed))
}

async fn deliveries(guard: Guard, seed: u64) -> Result<Vec<u32>, BoxError> {
    let start = Instant::now();
    let peer = Arc::new(Mutex::new(Peer {
        start,
        guarded: guard == Guard::BudgetAndBreaker,
        calls: vec![0; usize::try_from(SECONDS)?],
        failures: 0,
        open_until: start,
    }));
    let budget = match guard {
        Guard::Nothing => Budget::unlimited(),
        Guard::Budget | Guard::BudgetAndBreaker => Budget::default(),
    };
    let config = RetryConfig::builder()
        .attempts(5)
        .budget(budget)
        .refusals(Refusals::Wait(10))
        .seed(seed);
    let layer = RetryWithJitterLayer::new(config.build()?).classifier(classify_fn(judge));
    let service = layer.layer(Shared(Arc::clone(&peer)));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..RATE * u32::try_from(SECONDS)? {
        let (service, at) = (service.clone(), start + Duration::from_secs(1) * n / RATE);
        tasks.spawn(async move {
            sleep_until(at).await;
            service.oneshot(()).await.is_ok()
        });
    }
    tasks.join_all().await;
    let peer = peer.lock().map_err(|_| "poisoned")?;
    Ok(peer.calls.clone())
}

fn judge(result: Result<&(), &BoxError>) -> Outcome {
    match result {
        Ok(()) => Outcome::success(),
        Err(error) => Outcome::of_error(&**error),
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Peer>>);

impl Service<()> for Shared {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let locked = self.0.lock();
        ready(locked.map_or_else(|_| Err("poisoned".into()), |mut peer| peer.call()))
    }
}

/// The peer, behind a minimal breaker: after 5 failures in a row nothing passes for 5 s, then one call
/// passes.
struct Peer {
    start: Instant,
    guarded: bool,
    calls: Vec<u32>,
    failures: u32,
    open_until: Instant,
}

impl Peer {
    fn call(&mut self) -> Result<(), BoxError> {
        let now = Instant::now();
        if self.guarded && now < self.open_until {
            return Err(LocallyRefused::after(self.open_until - now).into());
        }
        let second = (now - self.start).as_secs();
        if let Some(calls) = usize::try_from(second)
            .ok()
            .and_then(|second| self.calls.get_mut(second))
        {
            *calls += 1;
        }
        if !DOWN.contains(&second) {
            self.failures = 0;
            return Ok(());
        }
        self.failures += 1;
        if self.failures >= 5 {
            self.open_until = now + Duration::from_secs(5);
        }
        Err("down".into())
    }
}
