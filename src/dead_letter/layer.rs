use super::{DeadLetter, DeadLetters, Direction, HttpRequests, Redaction};
use crate::{clock::WallClock, outcome::HttpClassifier, peer::ByHost};
use std::sync::Arc;
use tower_layer::Layer;

/// Writes an entry for each call that fails, and returns what the call returned.
///
/// See the [module docs](super). `M` judges results, `K` says where a request was to go, `D` what a
/// entry says of it.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadLetterLayer<M = HttpClassifier, K = ByHost, D = HttpRequests> {
    make: M,
    pub(super) settings: Settings,
    key: K,
    describe: D,
}

/// What stays as it is when a type is changed.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) entries: DeadLetters,
    pub(super) redaction: Redaction,
    pub(super) direction: Direction,
    pub(super) clock: WallClock,
    pub(super) body_limit: usize,
    pub(super) share_copy: bool,
}

/// What a call shares with its service.
#[derive(Debug)]
pub(super) struct Shared<K, D> {
    pub(super) settings: Settings,
    pub(super) key: K,
    pub(super) describe: D,
}

impl DeadLetterLayer {
    /// For HTTP requests whose body is in memory, judged as HTTP, by host.
    pub const fn new(entries: DeadLetters) -> Self {
        Self {
            make: HttpClassifier::new(),
            settings: Settings {
                entries,
                redaction: Redaction::new(),
                direction: Direction::Outbound,
                clock: WallClock::system(),
                body_limit: 256 << 10,
                share_copy: false,
            },
            key: ByHost,
            describe: HttpRequests,
        }
    }
}

impl<M, K, D> DeadLetterLayer<M, K, D> {
    /// What judges results. Default: [`HttpClassifier`]. Give every layer of a stack the same one.
    pub fn classifier<M2>(self, classifier: M2) -> DeadLetterLayer<M2, K, D> {
        DeadLetterLayer {
            make: classifier,
            settings: self.settings,
            key: self.key,
            describe: self.describe,
        }
    }

    /// What an entry has as its target. Default: [`ByHost`].
    pub fn key<K2>(self, key: K2) -> DeadLetterLayer<M, K2, D> {
        DeadLetterLayer {
            make: self.make,
            settings: self.settings,
            key,
            describe: self.describe,
        }
    }

    /// What an entry says of a request. Default: [`HttpRequests`]; [`describe_fn`](super::describe_fn)
    /// for what is not HTTP.
    pub fn describe<D2>(self, describe: D2) -> DeadLetterLayer<M, K, D2> {
        DeadLetterLayer {
            make: self.make,
            settings: self.settings,
            key: self.key,
            describe,
        }
    }

    /// What does not get into an entry. Default: credentials, by their names; see [`Redaction`].
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.settings.redaction = redaction;
        self
    }

    /// Which way the requests go. Default: [`Direction::Outbound`].
    pub const fn direction(mut self, direction: Direction) -> Self {
        self.settings.direction = direction;
        self
    }

    /// The clock of the entries' times. Default: the system's.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// How many bytes of a body are kept at the most. Default: 256 KiB. An entry whose body is
    /// longer cannot be sent again from its record.
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.body_limit = bytes;
        self
    }

    /// Whether a retry layer inside uses the copy of the request that is kept here, instead of one
    /// of its own. Default: no; the `stack` says yes.
    ///
    /// **Say yes only where nothing stands between the two that changes requests, or makes calls of
    /// its own with requests of the same type**: a change that was made there would be missing
    /// from the second attempt on.
    pub const fn share_copy(mut self, yes: bool) -> Self {
        self.settings.share_copy = yes;
        self
    }

    /// Where the entries go.
    pub const fn entries(&self) -> &DeadLetters {
        &self.settings.entries
    }

    #[cfg(feature = "stack")]
    pub(crate) fn map_entries(mut self, map: impl FnOnce(DeadLetters) -> DeadLetters) -> Self {
        self.settings.entries = map(self.settings.entries);
        self
    }
}

impl<S, M: Clone, K: Clone, D: Clone> Layer<S> for DeadLetterLayer<M, K, D> {
    type Service = DeadLetter<S, M, K, D>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadLetter {
            inner,
            make: self.make.clone(),
            shared: Arc::new(Shared {
                settings: self.settings.clone(),
                key: self.key.clone(),
                describe: self.describe.clone(),
            }),
        }
    }
}
