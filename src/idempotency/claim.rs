use super::{FencingToken, IdempotencyKey};

/// Request extension: the claim under which the handler runs.
///
/// Write its [`token`](Self::token) along with what the handler changes, where the resource can
/// compare it: a handler that hung past its lease has a smaller token than the one that followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    key: IdempotencyKey,
    token: FencingToken,
}

impl Claim {
    pub(super) const fn new(key: IdempotencyKey, token: FencingToken) -> Self {
        Self { key, token }
    }

    /// The key.
    pub const fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// The fencing token.
    pub const fn token(&self) -> FencingToken {
        self.token
    }
}

/// Response extension: how the layer treated a request that did not simply run and get stored.
///
/// An answer without it is the handler's: stored for repeats, or its key freed, as its status says. A
/// refused request's carries an [`IdempotencyError`](super::IdempotencyError) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition {
    /// The handler ran, and its answer could not be stored: too large, the store failed, or the
    /// claim was lost.
    NotStored,
    /// A repeat: the stored answer.
    Replayed,
    /// A repeat of an answer that was too large to store: its status and headers.
    ReplayedWithoutBody,
    /// The handler ran without a claim, because the store could not be asked.
    Unclaimed,
}

impl Disposition {
    /// A fixed name, fit for a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStored => "not_stored",
            Self::Replayed => "replayed",
            Self::ReplayedWithoutBody => "replayed_without_body",
            Self::Unclaimed => "unclaimed",
        }
    }
}
