use super::{JsonlLetters, op::Op};
use crate::dead_letter::{LetterClaim, LetterId, SinkError, SinkErrorKind};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// Future of a claim. Dropped before it gave its letter away, it gives it back.
pub(super) struct Claiming {
    pub(super) letters: JsonlLetters,
    pub(super) id: LetterId,
    pub(super) answered: oneshot::Receiver<Result<LetterClaim, SinkError>>,
}

impl Future for Claiming {
    type Output = Result<LetterClaim, SinkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = |_| Err(SinkError::new(SinkErrorKind::Closed));
        let answer = ready!(Pin::new(&mut self.answered).poll(cx));
        Poll::Ready(answer.unwrap_or_else(closed))
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        // An answer that is under way after this finds nobody, and the thread keeps the letter.
        self.answered.close();
        if let Ok(Ok(LetterClaim::Claimed { token, .. })) = self.answered.try_recv() {
            // Where there is no room for it, the claim ends with its lease.
            let _ = self.letters.hand_over(Op::GiveBack(self.id, token));
        }
    }
}
