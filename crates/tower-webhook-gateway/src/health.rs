//! Health: stores, circuit breakers, and the counts of deliveries.

use crate::{app::App, events::Events};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::Mutex, time::timeout};
use tower_webhook::{
    BoxError, StoreErrorKind,
    circuit_breaker::{BreakerSnapshot, Breakers},
    metrics::LevelSnapshot,
    observe::{Event, Id},
    queue::Depth,
};

/// The time limit for the stores to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// How long an answer of the stores counts. Anyone can ask for the health, as often as they like.
const FRESH: Duration = Duration::from_secs(1);

/// What the stores said last: the depth of the queue and the number of dead letters. `None` if they did not
/// answer.
type Stored = Option<(Depth, u64)>;

/// Asks the stores, one question at a time for all who want to know.
#[derive(Default)]
pub(crate) struct StoreState(Mutex<Option<(Instant, Stored)>>);

impl StoreState {
    /// What `ask` says, or said to somebody else within the last second.
    async fn get(&self, ask: impl Future<Output = Stored>) -> Stored {
        let mut last = self.0.lock().await;
        if let Some((told, stored)) = *last
            && told.elapsed() < FRESH
        {
            return stored;
        }
        let stored = ask.await;
        *last = Some((Instant::now(), stored));
        stored
    }
}

async fn ask(app: &App) -> Stored {
    let stored = async {
        accepts(&app.events).await?;
        let counts = async {
            Ok::<_, BoxError>((app.queue.depth().await?, app.dead_letters.count().await?))
        };
        timeout(LIMIT, counts).await?
    };
    match stored.await {
        Ok(stored) => Some(stored),
        Err(error) => {
            app.deliverer.observers.tell(|| Event::Trouble {
                part: "health",
                what: "a store does not answer",
                detail: Some(Id::new(&error)),
            });
            None
        }
    }
}

/// Whether events can be stored. The probe stands in the same line as the events: where it does not come to its
/// turn, or finds the line full, those that were stored meanwhile are the answer.
async fn accepts(events: &Events) -> Result<(), BoxError> {
    let asked = Instant::now();
    let error: BoxError = match timeout(LIMIT, events.probe()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) if error.kind() != StoreErrorKind::Full => return Err(error.into()),
        Ok(Err(error)) => error.into(),
        Err(late) => late.into(),
    };
    if events.were_accepted_since(asked) {
        return Ok(());
    }
    Err(error)
}

/// `unhealthy`, with 503, while a store does not answer; what the stores said counts for a second. `degraded` from
/// `--degraded-at` dead letters on, those that wait to be written included, while a breaker is open, or while
/// the queue is full.
pub async fn health(State(app): State<Arc<App>>) -> Response {
    let stored = app.stores.get(ask(&app)).await;
    let full = app.events.was_full();
    let breakers = app.deliverer.breakers.iter();
    let mut breakers: Vec<_> = breakers.flat_map(Breakers::snapshots).collect();
    breakers.sort_by(|a, b| a.peer.cmp(&b.peer));
    let all_closed = !breakers.iter().any(|breaker| breaker.state.is_refusing());

    let (code, status) = match stored {
        Some((depth, entries))
            if entries.saturating_add(depth.dead_lettering) < app.degraded_at
                && all_closed
                && !full =>
        {
            (StatusCode::OK, "healthy")
        }
        Some(_) => (StatusCode::OK, "degraded"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    let (depth, entries) = stored.unwrap_or_default();
    let seen = app.deliverer.metrics.snapshot();
    let attempts = seen.attempts();
    let timestamp = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let health = json!({
        "status": status,
        "metrics": {
            "total_requests": attempts.total(),
            "success_rate": rate(attempts),
            "avg_latency_ms": millis(attempts.latency().mean()),
            "dead_letter_size": entries,
            "queue": {
                "queued": depth.queued,
                "running": depth.running,
                // Monitors outside this repository read the field by this name.
                "burying": depth.dead_lettering,
            },
            "retries": seen.retries(),
            "attempts": level(attempts),
            "deliveries": level(seen.deliveries()),
        },
        "breakers": breakers.iter().map(breaker).collect::<Vec<_>>(),
        "timestamp": timestamp,
    });
    (code, Json(health)).into_response()
}

fn level(level: &LevelSnapshot) -> Value {
    let outcomes: serde_json::Map<_, _> = level
        .counts()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| (kind.to_string(), count.into()))
        .collect();
    let latency = level.latency();
    json!({
        "total": level.total(),
        "in_flight": level.in_flight(),
        "success_rate": rate(level),
        "outcomes": outcomes,
        "avg_latency_ms": millis(latency.mean()),
        "p50_latency_ms": millis(latency.p50()),
        "p99_latency_ms": millis(latency.p99()),
    })
}

fn breaker(breaker: &BreakerSnapshot) -> Value {
    json!({
        "key": &*breaker.peer,
        "state": breaker.state.as_str(),
        "retry_after_ms": breaker.time_left.map(whole_millis),
        "consecutive_failures": breaker.consecutive_failures,
        "trips": breaker.totals.trips,
    })
}

/// The success rate with four digits; 0 before anything was counted.
fn rate(level: &LevelSnapshot) -> f64 {
    (level.success_rate().unwrap_or_default() * 1e4).round() / 1e4
}

/// Milliseconds with two digits; 0 before anything was measured.
fn millis(latency: Option<Duration>) -> f64 {
    (latency.unwrap_or_default().as_secs_f64() * 1e5).round() / 1e2
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn the_stores_are_asked_once_for_all_who_ask_at_the_same_time() {
        let (state, asked) = (Arc::new(StoreState::default()), AtomicUsize::new(0));
        let asked = Arc::new(asked);
        let all: Vec<_> = (0..1000)
            .map(|_| {
                let (state, asked) = (state.clone(), asked.clone());
                tokio::spawn(async move {
                    let ask = async {
                        asked.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Some((Depth::default(), 7))
                    };
                    state.get(ask).await.map(|(_, entries)| entries)
                })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.expect("no panic"), Some(7));
        }
        // One, or a few on a machine that takes longer than a second for all of them.
        assert!(asked.load(Ordering::SeqCst) <= 3, "{asked:?}");

        // Whoever asks for all may leave before there is an answer.
        let (state, never) = (StoreState::default(), std::future::pending());
        let left = timeout(Duration::from_millis(1), state.get(never)).await;
        assert!(left.is_err());
        assert!(state.get(async { None }).await.is_none());
    }
}
