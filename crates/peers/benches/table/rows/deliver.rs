//! A delivery that succeeds at once.

use super::{Copying, dead_letter::Nowhere, requests};
use crate::{
    bare::Bare,
    measure::{Row, service},
};
use http::{Request, Response};
use std::time::Duration;
use tower::ServiceBuilder;
use tower_webhook::{BoxError, body::BufferedBody, dead_letter::DeadLetters, stack};

pub fn stack(row: &mut Row, headers: usize, dead_letters: bool) {
    let requests = || requests(headers);
    row.bare("bare call and one copy", service(Copying, requests()));
    let ours = stack::deliver();
    row.ours(if dead_letters {
        let ours = ours.dead_letters(DeadLetters::new(Nowhere));
        service(ours.build().unwrap().layer(Bare), requests())
    } else {
        service(ours.build().unwrap().layer(Bare), requests())
    });

    // Less work: no deadline, no time limit of an attempt, no metrics, no dead letters, one breaker for all.
    let retry = tower_resilience_retry::RetryLayer::<
        Request<BufferedBody>,
        Response<BufferedBody>,
        tower_resilience_circuitbreaker::CircuitBreakerError<BoxError>,
    >::builder()
    .max_attempts(3)
    .exponential_backoff(Duration::from_millis(200))
    .build();
    let breaker = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder();
    let peer = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker.build().unwrap());
    let peer = service(peer.service(Bare), requests());
    row.peer("tower-resilience's retry and breaker", peer);
}
