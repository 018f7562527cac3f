use crate::attempt::{Copied, History};
use std::{
    future::{Future, Ready, ready},
    sync::Arc,
};

/// Keeps a request for further attempts. Together with [`ExchangeResponse`] it separates HTTP from
/// other requests that can be retried.
///
/// They are two traits because the type of the response depends on [`Sent`](Self::Sent).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep requests of type `{Req}` for further attempts",
    note = "`HttpExchange` keeps an `http::Request` whose body is `Clone`, such as `BufferedBody`; `HttpExchange::new().replaying(bytes)` keeps one with another body",
    note = "`CloneExchange` keeps every request that is `Clone`: `.exchange(CloneExchange)`"
)]
pub trait Exchange<Req> {
    /// The request of the inner service.
    type Sent;

    /// The type that is kept to send a request again.
    type Kept;

    /// Whether what it keeps and sends again is a clone of the request, unchanged. A [copy](crate::attempt::Copied) that a
    /// layer outside keeps then serves instead: [`first`](Self::first) gets a clone of that for each further attempt, and
    /// the other two methods are not called. Default: `false`.
    const CLONES: bool = false;

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
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not discard responses of type `{Res}`",
    note = "`HttpExchange` takes an `http::Response`; for other responses use `.exchange(CloneExchange)`"
)]
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

impl<Req: Clone> Exchange<Req> for CloneExchange {
    type Sent = Req;
    type Kept = Req;

    const CLONES: bool = true;

    fn first(&self, req: Req, keep: bool) -> (Req, Option<Req>) {
        let kept = keep.then(|| req.clone());
        (req, kept)
    }

    fn can_send_again(&self, _: &Req) -> bool {
        true
    }

    fn again(&self, kept: &mut Option<Req>, last: bool) -> Option<Req> {
        if last { kept.take() } else { kept.clone() }
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

/// An exchange for requests of which a layer outside keeps a [copy](Copied). If the exchange inside would
/// [clone](Exchange::CLONES) them, it uses that copy.
#[derive(Clone, Copy, Debug)]
pub struct WithCopies<X>(pub X);

/// A request that [`WithCopies`] keeps.
#[derive(Debug)]
pub enum KeptCopy<Req, K> {
    /// The copy of the layer outside.
    Copy(Arc<Req>),
    /// What the exchange inside keeps.
    Own(K),
}

impl<Req, X> Exchange<Copied<Req>> for WithCopies<X>
where
    Req: Clone,
    X: Exchange<Req>,
{
    type Sent = X::Sent;
    type Kept = KeptCopy<Req, X::Kept>;

    fn first(&self, req: Copied<Req>, keep: bool) -> (X::Sent, Option<Self::Kept>) {
        let Copied { request, copy } = req;
        let (sent, kept) = self.0.first(request, keep && !X::CLONES);
        if X::CLONES {
            return (sent, keep.then_some(KeptCopy::Copy(copy)));
        }
        (sent, kept.map(KeptCopy::Own))
    }

    fn can_send_again(&self, kept: &Self::Kept) -> bool {
        match kept {
            KeptCopy::Copy(_) => true,
            KeptCopy::Own(kept) => self.0.can_send_again(kept),
        }
    }

    fn again(&self, kept: &mut Option<Self::Kept>, last: bool) -> Option<X::Sent> {
        if let Some(KeptCopy::Copy(copy)) = kept {
            return Some(self.0.first(Req::clone(copy), false).0);
        }
        let KeptCopy::Own(own) = kept.take()? else {
            return None;
        };
        let mut own = Some(own);
        let sent = self.0.again(&mut own, last);
        *kept = own.map(KeptCopy::Own);
        sent
    }
}

impl<Res, X: ExchangeResponse<Res>> ExchangeResponse<Res> for WithCopies<X> {
    type Discard = X::Discard;

    fn discard(&self, res: Res) -> X::Discard {
        self.0.discard(res)
    }

    fn annotate(&self, res: &mut Res, history: History) {
        self.0.annotate(res, history);
    }
}
