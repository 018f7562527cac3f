//! The targets, and how a request is directed to each of them.

use super::TargetIndex;
use crate::InvalidConfig;
use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use std::{collections::HashSet, fmt, sync::Arc};

/// The targets of a [`FailoverLayer`](super::FailoverLayer), and how a request is directed to one.
///
/// Implemented by [`Uris`] for HTTP, and by [`EachOf`] for other requests.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot aim requests of type `{Req}` that are answered with `{Res}`",
    note = "`Uris` takes `http::Request<_>` and `http::Response<_>`; use `FailoverLayer::over` for other requests"
)]
pub trait Targets<Req, Res> {
    /// Directs the request to the target at `index`, which is below the number of targets.
    fn aim(&self, req: &mut Req, index: usize);

    /// Marks a response with the target that sent it.
    fn mark(&self, res: &mut Res, index: usize);
}

/// Targets of any type, and a function that directs a request to one of them. Made by
/// [`FailoverLayer::over`](super::FailoverLayer::over).
pub struct EachOf<T, F> {
    pub(super) targets: Arc<[T]>,
    pub(super) aim: F,
}

impl<Req, Res, T, F> Targets<Req, Res> for EachOf<T, F>
where
    F: Fn(&mut Req, &T),
{
    fn aim(&self, req: &mut Req, index: usize) {
        if let Some(target) = self.targets.get(index) {
            (self.aim)(req, target);
        }
    }

    fn mark(&self, _: &mut Res, _: usize) {}
}

/// Only the number of targets, which may hold secrets.
impl<T, F> fmt::Debug for EachOf<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachOf")
            .field("targets", &self.targets.len())
            .finish_non_exhaustive()
    }
}

/// URIs as targets of HTTP requests. Made by the constructors of
/// [`FailoverLayer`](super::FailoverLayer).
pub struct Uris {
    /// Whether the request's own URI comes before the list.
    own_first: bool,
    path: Path,
    list: Box<[Target]>,
}

/// The origin of the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// The target's path, with the query of the request if the target has none.
    Targets,
    /// The request's path.
    Requests,
}

struct Target {
    uri: Uri,
    host: HeaderValue,
}

impl Uris {
    /// Checks a list. `name` names the setting in errors, which do not quote URIs: they may hold secrets.
    pub(super) fn new<U: TryInto<Uri>>(
        name: &'static str,
        own_first: bool,
        path: Path,
        uris: impl IntoIterator<Item = U>,
    ) -> Result<Self, InvalidConfig> {
        let mut known = HashSet::new();
        let mut list = Vec::new();
        for (index, uri) in uris.into_iter().enumerate() {
            let wrong = |problem| InvalidConfig::new(name, format!("[{index}] {problem}"));
            let uri: Uri = uri.try_into().map_err(|_| wrong("is not a URI"))?;
            let target = Target::new(uri, path).map_err(wrong)?;
            if !known.insert(target.normal()) {
                return Err(wrong("is there already"));
            }
            list.push(target);
        }
        Ok(Self {
            own_first,
            path,
            list: list.into(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.list.len() + usize::from(self.own_first)
    }
}

impl Target {
    fn new(uri: Uri, path: Path) -> Result<Self, &'static str> {
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("is not an absolute http or https URI");
        };
        if authority.as_str().contains('@') {
            return Err("holds a user name");
        }
        if authority.host().is_empty() {
            return Err("names no host");
        }
        if path == Path::Requests && (uri.path() != "/" || uri.query().is_some()) {
            return Err("holds a path, which would be ignored");
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "names no host")?;
        Ok(Self { uri, host })
    }

    /// Returns the same text for all spellings of one target.
    fn normal(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let default = if scheme == "https" { 443 } else { 80 };
        let port = self.uri.port_u16().unwrap_or(default);
        let host = self.uri.host().unwrap_or_default().to_ascii_lowercase();
        let path = self.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        format!("{scheme}://{host}:{port}{path}")
    }

    /// The URI of a request to this target. Allocates only if the path is the target's and the query
    /// the request's.
    fn uri_for(&self, own: &Uri, path: Path) -> Uri {
        let path_and_query = match (path, self.uri.query(), own.query()) {
            (Path::Requests, ..) => own.path_and_query().cloned(),
            (Path::Targets, None, Some(query)) => {
                format!("{}?{query}", self.uri.path()).try_into().ok()
            }
            (Path::Targets, ..) => None,
        };
        let Some(path_and_query) = path_and_query else {
            return self.uri.clone();
        };
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(path_and_query);
        // Never falls back to another host, whatever the path.
        Uri::from_parts(parts).unwrap_or_else(|_| self.uri.clone())
    }
}

impl<B, C> Targets<Request<B>, Response<C>> for Uris {
    fn aim(&self, req: &mut Request<B>, index: usize) {
        let listed = index.checked_sub(usize::from(self.own_first));
        let Some(target) = listed.and_then(|index| self.list.get(index)) else {
            return;
        };
        *req.uri_mut() = target.uri_for(req.uri(), self.path);
        if let Some(host) = req.headers_mut().get_mut(header::HOST) {
            *host = target.host.clone();
        }
    }

    fn mark(&self, res: &mut Response<C>, index: usize) {
        if index > 0 {
            res.extensions_mut().insert(TargetIndex(index));
        }
    }
}

/// Only the number of URIs: paths and queries may hold secrets.
impl fmt::Debug for Uris {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uris")
            .field("count", &self.count())
            .field("own_first", &self.own_first)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
