//! Ends loops of deliveries: marks what is sent, and refuses what was sent from here.
//!
//! A service that receives webhooks and sends others can come to send to itself, or to a service that sends to it: by a
//! wrong URL, or by someone who may set targets. Each message then causes the next one, for ever. [`LoopGuardLayer`]
//! refuses what comes back; its other half, [`outgoing`](LoopGuardLayer::outgoing), marks what is sent.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use std::convert::Infallible;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{LoopGuardLayer, loop_guard::{Hops, LoopError}};
//!
//! # tokio_test::block_on(async {
//! let guard = LoopGuardLayer::new("orders")?;
//!
//! // What is sent is marked, after where the message has been already: that is what a handler finds.
//! let client = guard.outgoing().layer(service_fn(|req: Request<()>| async move {
//!     assert_eq!(req.headers()["webhook-loop"], "billing, orders");
//!     Ok::<_, Infallible>(Response::new(()))
//! }));
//! let mut req = Request::post("https://billing.example/hooks").body(())?;
//! req.extensions_mut().insert("billing".parse::<Hops>()?);
//! client.oneshot(req).await?;
//!
//! // What comes back is refused.
//! let server = guard.layer(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) }));
//! let req = Request::post("/hooks").header("webhook-loop", "billing, orders, shop").body(())?;
//! let res = server.oneshot(req).await?;
//! assert_eq!(res.status(), 508);
//! assert_eq!(res.extensions().get(), Some(&LoopError::OwnMark));
//! # Ok::<_, tower_webhook::BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! ```text
//! receive   buffer body > verify signature > loop guard > idempotency > handler
//! send      retry > breaker > attempt timeout > mark > sign > transport
//! ```
//!
//! Outside the signature layer, strangers would learn marks by trying. Inside idempotency, the refusal of a message could
//! be stored as the answer to its key. On the way out it stands inside the retry, so that the
//! [headers](MarkLayer::headers) of each attempt are fresh.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`LoopGuardLayer::new`] | to be set | the mark of this deployment |
//! | [`LoopGuardLayer::max_hops`] | 10 | the number of deployments after which a message is refused |
//! | [`LoopGuardLayer::refuse_with`] | `application/problem+json` | makes the response to a refused request |
//! | [`LoopGuardLayer::observe`] | none except `tracing` | adds an observer of [`Event::Refused`] |
//! | [`MarkLayer::headers`] | none | sets further headers of each request that is sent |
//!
//! # Answers
//!
//! | Status | Reason | When |
//! | --- | --- | --- |
//! | 508 | [`LoopError::Malformed`] | the header is not a list of marks: what cannot be read must not go on |
//! | 508 | [`LoopError::OwnMark`] | the message was sent from here |
//! | 508 | [`LoopError::TooManyHops`] | the message has passed too many deployments |
//!
//! The status is that of [RFC 5842 §7.2](https://www.rfc-editor.org/rfc/rfc5842#section-7.2). Senders must not repeat such
//! a request: [`HttpClassifier`](crate::outcome::HttpClassifier) judges 508 as permanent.
//!
//! # Cancel safety
//!
//! Both halves do their work in `call`, before there is a future to drop. Dropping the response future drops the inner
//! call.
//!
//! # How it works
//!
//! The header `Webhook-Loop` has the marks of the deployments that the message has passed, oldest first: `billing,
//! orders`. It is refused where one of them is the deployment's own, and where there are
//! [too many](LoopGuardLayer::max_hops), whosever they are, which ends a loop of services whose marks change.
//!
//! The list is only as long as it is carried on. [`LoopGuardLayer`] puts the received one into the extensions of the
//! request, as [`Hops`]; [`MarkLayer`] takes it from the extensions of the request that is sent, or else from its header.
//! In between it is for the application to keep, as it keeps the event: `queue::About` has a field for it.
//!
//! The form is that of `CDN-Loop` ([RFC 8586](https://www.rfc-editor.org/rfc/rfc8586)), but not the name: a content
//! delivery network refuses a request with its own entry there, and two deliveries through the same network are no loop.
//! `Via` ([RFC 9110 §7.6.3](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3)) is for proxies, which add to it, and
//! some remove it.
//!
//! The header is not signed. Who forges one has its own message refused; who removes it makes the next message the first
//! of a chain, so that a loop ends only where everybody in it carries the header on, or is marked alike.
//!
//! # Cost
//!
//! A request without the header costs a look into its headers; one with it, a copy of the list. What is sent with no list
//! takes the mark without an allocation.

use crate::{
    InvalidConfig,
    body::{BufferedBody, ResponseBody},
    observe::{Event, Id, Observer, Observers},
    problem::{Problem, Refusal, Refuser},
    refusal::CallOrRefusal,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use std::{
    error::Error,
    fmt,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Where the marks are.
static HEADER: HeaderName = HeaderName::from_static("webhook-loop");

/// The longest mark, in bytes.
const MAX_MARK: usize = 64;

/// The most hops that can be permitted, and the most marks of a [`Hops`].
const MAX_HOPS: usize = 64;

/// Refuses requests that were sent from this deployment, or have passed too many.
///
/// See the [module docs](self) for how, and for its place in a stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoopGuardLayer {
    mark: HeaderValue,
    max_hops: usize,
    refuser: Refuser<LoopError>,
    observers: Observers,
}

impl LoopGuardLayer {
    /// Guards the deployment with this mark: a name that it has alone, the same in all its instances and after a restart.
    /// Those who receive its messages see it. Capitals do not count.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `mark` unless it is a token of 1 to 64 characters: letters, digits and ``!#$%&'*+-.^_`|~``
    /// ([RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)).
    pub fn new(mark: &str) -> Result<Self, InvalidConfig> {
        let unfit = || {
            let problem = "must be 1 to 64 letters, digits and \"!#$%&'*+-.^_`|~\"";
            InvalidConfig::new("mark", problem)
        };
        if !is_mark(mark.as_bytes()) {
            return Err(unfit());
        }
        Ok(Self {
            mark: HeaderValue::from_str(mark).map_err(|_| unfit())?,
            max_hops: 10,
            refuser: Refuser::new(),
            observers: Observers::none(),
        })
    }

    /// Sets the number of deployments after which a message is refused. Default: 10.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `max_hops` unless it is 1 to 64.
    pub fn max_hops(mut self, hops: usize) -> Result<Self, InvalidConfig> {
        if !(1..=MAX_HOPS).contains(&hops) {
            return Err(InvalidConfig::new("max_hops", "must be 1 to 64"));
        }
        self.max_hops = hops;
        Ok(self)
    }

    /// Sets a function that makes the response to a refused request. Default: the [`Problem`] that the function gets, as
    /// `application/problem+json`. With another status than 508 a sender may repeat the request.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&LoopError, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.refuser = Refuser::with(respond);
        self
    }

    /// Adds an observer of [`Event::Refused`]. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// The layer for what this deployment sends, which marks it.
    pub fn outgoing(&self) -> MarkLayer {
        MarkLayer {
            mark: self.mark.clone(),
            headers: None,
        }
    }

    /// Reads where the message has been, or says why it goes no further.
    fn check(&self, headers: &HeaderMap) -> Result<Option<Hops>, LoopError> {
        let mut hops = String::new();
        let mut count = 0;
        for mark in marks(headers) {
            let mark = mark.ok_or(LoopError::Malformed)?;
            if mark.as_bytes().eq_ignore_ascii_case(self.mark.as_bytes()) {
                return Err(LoopError::OwnMark);
            }
            count += 1;
            if count >= self.max_hops {
                return Err(LoopError::TooManyHops);
            }
            push(&mut hops, mark);
        }
        Ok((count > 0).then(|| Hops(hops.into())))
    }
}

impl<S> Layer<S> for LoopGuardLayer {
    type Service = LoopGuard<S>;

    fn layer(&self, inner: S) -> LoopGuard<S> {
        LoopGuard {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware of [`LoopGuardLayer`].
#[derive(Clone, Debug)]
pub struct LoopGuard<S> {
    inner: S,
    layer: LoopGuardLayer,
}

impl<S, B, ResB> Service<Request<B>> for LoopGuard<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = CallOrRefusal<S::Future, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        match self.layer.check(req.headers()) {
            Ok(hops) => {
                if let Some(hops) = hops {
                    req.extensions_mut().insert(hops);
                }
                CallOrRefusal::called(self.inner.call(req))
            }
            Err(reason) => {
                self.layer.observers.tell(|| Event::Refused {
                    by: "loop_guard",
                    reason: reason.as_str(),
                    detail: Id::new(&reason),
                });
                CallOrRefusal::refused(self.layer.refuser.response(reason))
            }
        }
    }
}

type SetHeaders = dyn Fn(&mut HeaderMap) + Send + Sync;

/// Marks what is sent. Made by [`LoopGuardLayer::outgoing`].
#[derive(Clone)]
#[must_use]
pub struct MarkLayer {
    mark: HeaderValue,
    headers: Option<Arc<SetHeaders>>,
}

impl MarkLayer {
    /// Sets a function that sets further headers of each request that is sent, such as fresh ids. Default: none.
    ///
    /// `cognigy::presets::loop_headers` sets those of the Cognigy documents.
    pub fn headers(mut self, set: impl Fn(&mut HeaderMap) + Send + Sync + 'static) -> Self {
        self.headers = Some(Arc::new(set));
        self
    }

    fn mark(&self, headers: &mut HeaderMap, extensions: &Extensions) {
        let mut hops = String::new();
        match extensions.get::<Hops>() {
            Some(carried) => hops.push_str(carried.as_str()),
            None => marks(headers)
                .take(MAX_HOPS)
                .flatten()
                .for_each(|mark| push(&mut hops, mark)),
        }
        let value = if hops.is_empty() {
            Ok(self.mark.clone())
        } else {
            // A mark is visible ASCII.
            push(&mut hops, self.mark.to_str().unwrap_or_default());
            HeaderValue::try_from(hops)
        };
        headers.insert(&HEADER, value.unwrap_or_else(|_| self.mark.clone()));
        if let Some(set) = &self.headers {
            set(headers);
        }
    }
}

impl fmt::Debug for MarkLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarkLayer")
            .field("mark", &self.mark)
            .field("headers", &self.headers.as_ref().map(|_| "set"))
            .finish()
    }
}

impl<S> Layer<S> for MarkLayer {
    type Service = Mark<S>;

    fn layer(&self, inner: S) -> Mark<S> {
        Mark {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware of [`MarkLayer`].
#[derive(Clone, Debug)]
pub struct Mark<S> {
    inner: S,
    layer: MarkLayer,
}

impl<S, B> Service<Request<B>> for Mark<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let (mut head, body) = req.into_parts();
        self.layer.mark(&mut head.headers, &head.extensions);
        self.inner.call(Request::from_parts(head, body))
    }
}

/// The marks of the deployments that a message has passed, oldest first: at least one.
///
/// [`LoopGuardLayer`] inserts it into the extensions of a request. To carry it on, insert it into those of the message
/// that the request causes; as text it can be stored.
///
/// # Examples
///
/// ```
/// use tower_webhook::loop_guard::Hops;
///
/// let hops: Hops = "billing, orders".parse()?;
/// assert_eq!(hops.marks().collect::<Vec<_>>(), ["billing", "orders"]);
/// assert_eq!(hops.to_string(), "billing, orders");
/// # Ok::<_, tower_webhook::loop_guard::LoopError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hops(Arc<str>);

impl Hops {
    /// The marks, oldest first.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        self.0.split(", ")
    }

    /// The marks as they stand in the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads what [`Hops::as_str`] gave.
impl FromStr for Hops {
    type Err = LoopError;

    /// # Errors
    ///
    /// [`LoopError::Malformed`] unless it is a list of marks, and [`LoopError::TooManyHops`] for more than 64.
    fn from_str(text: &str) -> Result<Self, LoopError> {
        let mut hops = String::with_capacity(text.len());
        for (before, mark) in list(text.as_bytes()).enumerate() {
            if before >= MAX_HOPS {
                return Err(LoopError::TooManyHops);
            }
            push(&mut hops, mark.ok_or(LoopError::Malformed)?);
        }
        if hops.is_empty() {
            return Err(LoopError::Malformed);
        }
        Ok(Self(hops.into()))
    }
}

impl fmt::Display for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a message goes no further. In the extensions of the response to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoopError {
    /// The header is not a list of marks.
    Malformed,
    /// The message was sent from this deployment.
    OwnMark,
    /// The message has passed too many deployments.
    TooManyHops,
}

impl LoopError {
    /// The name of the reason, for metrics and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OwnMark => "own_mark",
            Self::TooManyHops => "too_many_hops",
        }
    }
}

impl fmt::Display for LoopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "`Webhook-Loop` is not a list of marks",
            Self::OwnMark => "this message was sent from here",
            Self::TooManyHops => "this message has passed too many deployments",
        })
    }
}

impl Error for LoopError {}

impl Refusal for LoopError {
    fn problem(&self) -> Problem {
        Problem::new(StatusCode::LOOP_DETECTED)
            .reason(self.as_str())
            .detail(self.to_string())
    }
}

/// The marks in all lines of the header; `None` for what is none.
fn marks(headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
    let lines = headers.get_all(&HEADER).into_iter();
    lines.flat_map(|line| list(line.as_bytes()))
}

/// The members of a list, of which empty ones count for nothing (RFC 9110 §5.6.1.2).
fn list(line: &[u8]) -> impl Iterator<Item = Option<&str>> {
    line.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
        .map(|member| str::from_utf8(member).ok().filter(|_| is_mark(member)))
}

fn push(hops: &mut String, mark: &str) {
    if !hops.is_empty() {
        hops.push_str(", ");
    }
    hops.push_str(mark);
}

/// Whether it is a token (RFC 9110 §5.6.2) that is not too long.
fn is_mark(bytes: &[u8]) -> bool {
    (1..=MAX_MARK).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(lines: &[&str]) -> HeaderMap {
        let values = lines.iter().map(|line| line.parse().unwrap());
        values.map(|value| (HEADER.clone(), value)).collect()
    }

    fn check(lines: &[&str]) -> Result<Option<String>, LoopError> {
        let guard = LoopGuardLayer::new("orders").unwrap().max_hops(4).unwrap();
        let hops = guard.check(&header(lines))?;
        Ok(hops.map(|hops| hops.to_string()))
    }

    #[test]
    fn the_own_mark_and_too_many_others_are_refused() {
        use LoopError::{Malformed, OwnMark, TooManyHops};
        let long = "x".repeat(65);
        for (lines, found) in [
            (&[][..], Ok(None)),
            (&[""], Ok(None)),
            (&[" , ,"], Ok(None)),
            (&["a"], Ok(Some("a"))),
            (&["a,b", "c"], Ok(Some("a, b, c"))),
            (&[" a ,\t b,, c ,"], Ok(Some("a, b, c"))),
            (&["orders2"], Ok(Some("orders2"))),
            (&["orders"], Err(OwnMark)),
            (&["ORDERS"], Err(OwnMark)),
            (&["a", "b, orders"], Err(OwnMark)),
            (&["a, b, c, d"], Err(TooManyHops)),
            (&["a", "b", "c", "d", "orders"], Err(TooManyHops)),
            // Forged and broken ones.
            (&["7"], Ok(Some("7"))),
            (&["a;hops=-1"], Err(Malformed)),
            (&["a b"], Err(Malformed)),
            (&["\"a\""], Err(Malformed)),
            (&["a, b/c"], Err(Malformed)),
            (&[&long], Err(Malformed)),
        ] {
            assert_eq!(
                check(lines),
                found.map(|hops| hops.map(str::to_owned)),
                "{lines:?}"
            );
        }
        let mut odd = HeaderMap::new();
        odd.insert(&HEADER, HeaderValue::from_bytes(b"a\xff").unwrap());
        let guard = LoopGuardLayer::new("orders").unwrap();
        assert_eq!(guard.check(&odd), Err(Malformed));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for mark in ["", "a b", "a,b", "\u{fc}", &"x".repeat(65)] {
            assert_eq!(LoopGuardLayer::new(mark).unwrap_err().setting(), "mark");
        }
        for hops in [0, 65] {
            let guard = LoopGuardLayer::new("orders").unwrap();
            assert_eq!(guard.max_hops(hops).unwrap_err().setting(), "max_hops");
        }
    }

    #[test]
    fn hops_that_were_stored_are_read_with_care() {
        for text in ["", " ", ",", "a b", "a;b", "\u{fc}"] {
            assert_eq!(text.parse::<Hops>(), Err(LoopError::Malformed), "{text}");
        }
        let many = vec!["a"; 65].join(",");
        assert_eq!(many.parse::<Hops>(), Err(LoopError::TooManyHops));
    }

    proptest! {
        #[test]
        fn no_header_is_too_odd_and_what_passes_comes_closer_to_the_end(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..5),
        ) {
            let lines = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
            let headers: HeaderMap = lines.map(|value| (HEADER.clone(), value)).collect();
            let guard = LoopGuardLayer::new("orders").unwrap();
            if let Ok(hops) = guard.check(&headers) {
                let before = hops.as_ref().map_or(0, |hops| hops.marks().count());
                let mut extensions = Extensions::new();
                if let Some(hops) = hops {
                    prop_assert_eq!(hops.as_str().parse(), Ok(hops.clone()));
                    extensions.insert(hops);
                }
                let other = LoopGuardLayer::new("shop").unwrap();
                let mut next = HeaderMap::new();
                guard.outgoing().mark(&mut next, &extensions);
                prop_assert_eq!(guard.check(&next), Err(LoopError::OwnMark));
                match other.check(&next) {
                    Ok(hops) => prop_assert_eq!(hops.unwrap().marks().count(), before + 1),
                    Err(error) => prop_assert_ne!(error, LoopError::Malformed),
                }
            }
        }
    }
}
