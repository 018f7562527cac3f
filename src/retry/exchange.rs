use crate::attempt::{History, Kept};
use std::{
    fmt,
    future::{Future, Ready, ready},
};

/// How a request is kept for another attempt: one side of what differs between HTTP and everything
/// else that can be retried. The other side is [`ExchangeResponse`].
///
/// Two traits, because what is sent decides which response there will be.
pub trait Exchange<Req> {
    /// What the service inside is called with.
    type Sent;

    /// What is kept of a request to send it again.
    type Kept;

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
}

/// How a failed response is put away, and how a response is told its history.
pub trait ExchangeResponse<Res> {
    /// Puts a failed response away.
    type Discard: Future<Output = ()>;

    /// Puts a failed response away before the next attempt, so that its connection can be used
    /// again. Bounded in bytes and in time.
    fn discard(&self, res: Res) -> Self::Discard;

    /// Adds the history to a response that is returned after a failure: one that was given up on,
    /// or that came with a later attempt than the first.
    fn annotate(&self, res: &mut Res, history: History);
}

/// The exchange for requests that can be cloned: jobs, plain services, buffered requests.
///
/// A failed response is dropped, and a history goes to the hooks alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneExchange;

/// The copy of a request that is kept to send it again: one of its own, or a share in the one that
/// a layer further out has made (see [`Kept`]).
pub struct KeptCopy<Req> {
    copy: Copied<Req>,
}

enum Copied<Req> {
    Own(Req),
    Shared(Kept<Req>),
}

impl<Req: Clone + 'static> KeptCopy<Req> {
    pub(super) fn of(req: &Req) -> Self {
        let copy = match Kept::take() {
            Some(kept) => Copied::Shared(kept),
            None => Copied::Own(req.clone()),
        };
        Self { copy }
    }

    pub(super) fn again(kept: &mut Option<Self>, last: bool) -> Option<Req> {
        if last {
            return match kept.take()?.copy {
                Copied::Own(req) => Some(req),
                Copied::Shared(kept) => Some(kept.request().clone()),
            };
        }
        kept.as_ref().map(|kept| match &kept.copy {
            Copied::Own(req) => req.clone(),
            Copied::Shared(kept) => kept.request().clone(),
        })
    }
}

impl<Req> fmt::Debug for KeptCopy<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = matches!(self.copy, Copied::Shared(_));
        f.debug_struct("KeptCopy")
            .field("shared", &shared)
            .finish_non_exhaustive()
    }
}

impl<Req: Clone + 'static> Exchange<Req> for CloneExchange {
    type Sent = Req;
    type Kept = KeptCopy<Req>;

    fn first(&self, req: Req, keep: bool) -> (Req, Option<KeptCopy<Req>>) {
        let kept = keep.then(|| KeptCopy::of(&req));
        (req, kept)
    }

    fn can_send_again(&self, _: &KeptCopy<Req>) -> bool {
        true
    }

    fn again(&self, kept: &mut Option<KeptCopy<Req>>, last: bool) -> Option<Req> {
        KeptCopy::again(kept, last)
    }
}

impl<Res> ExchangeResponse<Res> for CloneExchange {
    type Discard = Ready<()>;

    fn discard(&self, res: Res) -> Ready<()> {
        drop(res);
        ready(())
    }

    fn annotate(&self, _: &mut Res, _: History) {}
}
