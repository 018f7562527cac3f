use super::{JsonlDeadLetters, op::Op};
use crate::dead_letter::{EntryClaim, EntryId};
use crate::{StoreError, StoreErrorKind};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// Future of a claim. Dropped before it gave its entry away, it gives it back.
pub(super) struct Claiming {
    pub(super) entries: JsonlDeadLetters,
    pub(super) id: EntryId,
    pub(super) answered: oneshot::Receiver<Result<EntryClaim, StoreError>>,
}

impl Future for Claiming {
    type Output = Result<EntryClaim, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = |_| Err(StoreError::new(StoreErrorKind::Closed));
        let answer = ready!(Pin::new(&mut self.answered).poll(cx));
        Poll::Ready(answer.unwrap_or_else(closed))
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        // An answer that is under way after this finds nobody, and the thread keeps the entry.
        self.answered.close();
        if let Ok(Ok(EntryClaim::Claimed { token, .. })) = self.answered.try_recv() {
            // Where there is no room for it, the claim ends with its lease.
            let _ = self.entries.hand_over(Op::Unclaim(self.id, token));
        }
    }
}
