use crate::attempt::{History, Kept};
use std::{
    fmt,
    future::{Future, Ready, ready},
};

/// Keeps a request for further attempts. Together with [`ExchangeResponse`] it separates HTTP from
/// other requests that can be retried.
///
/// They are two traits because the type of the response depends on [`Sent`](Self::Sent).
pub trait Exchange<Req> {
    /// The request of the inner service.
    type Sent;

    /// The type that is kept to send a request again.
    type Kept;

    /// Called before the first attempt. Returns the request to send and the kept copy, which is `None` if
    /// the request can be sent only once. `keep` is `false` if there will be only one attempt, so that
    /// nothing needs to be copied.
    fn first(&self, req: Req, keep: bool) -> (Self::Sent, Option<Self::Kept>);

    /// Whether the request can be sent again. Called after an attempt has failed, before its response is
    /// discarded. Once it returns `false`, it must keep returning `false`.
    fn can_send_again(&self, kept: &Self::Kept) -> bool;

    /// Returns the request for the next attempt. `last` is `true` if there is no further one, so that
    /// nothing needs to be copied. `None` only if [`can_send_again`](Self::can_send_again) is `false`.
    fn again(&self, kept: &mut Option<Self::Kept>, last: bool) -> Option<Self::Sent>;
}

/// Discards failed responses, and adds the history to a returned response.
pub trait ExchangeResponse<Res> {
    /// Future of [`discard`](Self::discard).
    type Discard: Future<Output = ()>;

    /// Discards a failed response before the next attempt, so that its connection can be reused. Must
    /// be bounded in bytes and time.
    fn discard(&self, res: Res) -> Self::Discard;

    /// Adds the history to a response that is returned after a failure: the last response of a delivery
    /// that failed, or the response of any attempt after the first.
    fn annotate(&self, res: &mut Res, history: History);
}

/// The exchange for requests that can be cloned: jobs, plain services, buffered requests.
///
/// A failed response is dropped, and the history is not added to responses; observers get it with
/// [`Event::GaveUp`](crate::observe::Event::GaveUp).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneExchange;

/// The copy of a request that is kept to send it again: its own, or one shared with an outer layer
/// (see [`Kept`]).
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
