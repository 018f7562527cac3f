//! Whether a request may be done twice, judged before it is sent.

use http::{Extensions, HeaderMap, HeaderName};
use std::sync::Arc;

/// Whether one request may be done twice: an extension of the request that overrules what its
/// method and headers say.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Classify, HttpClassifier, MakeClassifier, Repeatable};
///
/// // A search by POST.
/// let mut request = Request::post("https://example.com/search").body(())?;
/// request.extensions_mut().insert(Repeatable::Yes);
///
/// let failed = Response::builder().status(500).body(())?;
/// let classify = HttpClassifier::new().make_classifier(&request);
/// assert!(classify.classify(Ok::<_, &BoxError>(&failed)).may_retry());
/// # Ok::<_, http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeatable {
    /// Once is enough, even where the method says otherwise.
    No,
    /// Twice does what once does.
    Yes,
}

/// The headers by which receivers recognise a repetition.
static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("svix-id"),
];

/// The settings that decide it, shared by the HTTP and the gRPC classifier.
#[derive(Clone, Debug)]
pub(super) struct Repeatability {
    /// `None` is [`KEY_HEADERS`]. Shared, so that cloning a classifier does not allocate.
    keys: Option<Arc<[HeaderName]>>,
    assumed: bool,
}

impl Repeatability {
    pub(super) const fn new() -> Self {
        Self {
            keys: None,
            assumed: false,
        }
    }

    pub(super) fn set_keys(&mut self, names: impl IntoIterator<Item = HeaderName>) {
        self.keys = Some(names.into_iter().collect());
    }

    pub(super) const fn assume(&mut self, repeatable: bool) {
        self.assumed = repeatable;
    }

    /// `by_method` is whether the protocol promises it for every request of this kind.
    pub(super) fn of(&self, by_method: bool, headers: &HeaderMap, extensions: &Extensions) -> bool {
        if let Some(said) = extensions.get::<Repeatable>() {
            return *said == Repeatable::Yes;
        }
        by_method || self.assumed || self.has_key(headers)
    }

    fn has_key(&self, headers: &HeaderMap) -> bool {
        let names = self.keys.as_deref().unwrap_or(&KEY_HEADERS);
        names.iter().any(|name| {
            // A blank key is no key: the receiver has nothing to recognise.
            let value = headers.get(name).map(|value| value.as_bytes().trim_ascii());
            value.is_some_and(|value| !value.is_empty())
        })
    }
}
