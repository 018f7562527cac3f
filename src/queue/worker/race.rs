//! Two futures, of which one is enough.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

pub(super) enum Race<A, B> {
    First(A),
    Second(B),
}

/// Waits for one of the two, the first where both are ready. The other is dropped, if it is owned.
pub(super) async fn race<A: Future, B: Future>(first: A, second: B) -> Race<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| {
        if let Poll::Ready(output) = first.as_mut().poll(cx) {
            return Poll::Ready(Race::First(output));
        }
        second.as_mut().poll(cx).map(Race::Second)
    })
    .await
}
