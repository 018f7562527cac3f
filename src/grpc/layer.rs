use super::GrpcPeek;
use http::Request;
use std::{fmt, sync::Arc};
use tower_layer::Layer;

/// Makes `grpc-status` in trailers visible to the layers outside. See the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct GrpcPeekLayer {
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    unary: Unary,
    pub(super) max_message: usize,
}

#[derive(Clone)]
enum Unary {
    Always,
    Never,
    By(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// Whether a call's answer is one message or a stream: in the extensions of its request, where it
/// goes before the settings of [`GrpcPeekLayer`].
///
/// With tonic: `request.extensions_mut().insert(Call::Unary)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// The answer is a stream: not waited for.
    Streaming,
    /// The answer is one message.
    Unary,
}

impl GrpcPeekLayer {
    /// Waits for nothing: no call is known to be unary.
    pub const fn new() -> Self {
        Self {
            settings: Settings {
                unary: Unary::Never,
                max_message: 4 << 20,
            },
        }
    }

    /// Whether every call is unary. Default: `false`. In the place of [`unary`](Self::unary).
    pub fn assume_unary(mut self, unary: bool) -> Self {
        self.settings.unary = if unary { Unary::Always } else { Unary::Never };
        self
    }

    /// Which calls are unary, by their path, such as `/greeter.Greeter/SayHello`. In the place of
    /// [`assume_unary`](Self::assume_unary).
    pub fn unary(mut self, is_unary: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.settings.unary = Unary::By(Arc::new(is_unary));
        self
    }

    /// How many bytes of a unary answer are held while its trailers are waited for. Default: 4 MiB,
    /// which is the longest message that tonic takes (0.14). A longer one passes on as a stream.
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.settings.max_message = bytes;
        self
    }
}

impl Settings {
    pub(super) fn is_unary<B>(&self, req: &Request<B>) -> bool {
        match req.extensions().get::<Call>() {
            Some(call) => *call == Call::Unary,
            None => match &self.unary {
                Unary::Always => true,
                Unary::Never => false,
                Unary::By(is_unary) => is_unary(req.uri().path()),
            },
        }
    }
}

impl Default for GrpcPeekLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Unary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "Always",
            Self::Never => "Never",
            Self::By(_) => "By(..)",
        })
    }
}

impl<S> Layer<S> for GrpcPeekLayer {
    type Service = GrpcPeek<S>;

    fn layer(&self, inner: S) -> GrpcPeek<S> {
        GrpcPeek {
            inner,
            settings: self.settings.clone(),
        }
    }
}
