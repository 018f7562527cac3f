//! Waits for one of two futures.

use std::{future::poll_fn, pin::pin, task::Poll};

/// Which of two futures was ready first.
pub(crate) enum Race<A, B> {
    First(A),
    Second(B),
}

/// Waits for one of two futures, and prefers the first if both are ready. Drops the other if it is
/// owned.
pub(crate) async fn race<A: Future, B: Future>(first: A, second: B) -> Race<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| {
        if let Poll::Ready(output) = first.as_mut().poll(cx) {
            return Poll::Ready(Race::First(output));
        }
        second.as_mut().poll(cx).map(Race::Second)
    })
    .await
}
