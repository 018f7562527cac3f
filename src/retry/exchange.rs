use std::future::Future;

/// How a request is kept for another attempt, and how a failed response is put away: what differs
/// between HTTP and everything else that can be retried.
pub trait Exchange<Req, Res> {
    /// What the service inside is called with.
    type Sent;

    /// What is kept of a request to send it again.
    type Kept;

    /// Puts a failed response away.
    type Discard: Future<Output = ()>;

    /// Before the first attempt: what is sent, and what is kept. `keep` is `false` where there will
    /// be one attempt whatever happens; nothing is copied then. `None` for what is kept: the
    /// request can be sent once.
    fn first(&self, req: Req, keep: bool) -> (Self::Sent, Option<Self::Kept>);

    /// Whether what was kept can still be sent. Asked after an attempt has failed, before its
    /// response is put away; once `false`, it stays so.
    fn can_send_again(&self, kept: &Self::Kept) -> bool;

    /// What is sent next. With `last` it will not be asked for again, so that nothing need be
    /// copied. `None` only where [`can_send_again`](Self::can_send_again) is `false`.
    fn again(&self, kept: &mut Option<Self::Kept>, last: bool) -> Option<Self::Sent>;

    /// Puts a failed response away before the next attempt, so that its connection can be used
    /// again. Bounded in bytes and in time.
    fn discard(&self, res: Res) -> Self::Discard;
}
