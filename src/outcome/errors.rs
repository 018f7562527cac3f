//! What an error says about a call: the markers, and the chain of sources in which they are found.

use super::{Outcome, OutcomeKind};
use crate::BoxError;
use std::{any::Any, error::Error, fmt, io, iter, sync::Arc, time::Duration};

/// The request was not sent, by a local decision, and may be sent later: an open circuit breaker, a
/// full local queue.
///
/// Return it from [`source`](Error::source) of your error, or box it. It is
/// [`Refused`](super::OutcomeKind::Refused): it does not count against the peer, nor in a retry
/// budget.
///
/// # Examples
///
/// ```
/// use std::{error::Error, fmt, time::Duration};
/// use tower_webhook::outcome::{LocallyRefused, Outcome, OutcomeKind};
///
/// #[derive(Debug)]
/// struct QueueFull(LocallyRefused);
///
/// impl fmt::Display for QueueFull {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("the queue is full")
///     }
/// }
///
/// impl Error for QueueFull {
///     fn source(&self) -> Option<&(dyn Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let error = QueueFull(LocallyRefused::after(Duration::from_secs(2)));
/// let outcome = Outcome::of_error(&error);
/// assert_eq!(outcome.kind(), OutcomeKind::Refused);
/// assert_eq!(outcome.retry_after(), Some(Duration::from_secs(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocallyRefused {
    retry_after: Duration,
    circuit_open: bool,
}

impl LocallyRefused {
    /// Refused now; may be tried again after this long. Zero leaves the wait to the retry layer.
    pub const fn after(retry_after: Duration) -> Self {
        Self {
            retry_after,
            circuit_open: false,
        }
    }

    /// Refused by an open circuit, which dead letters record as a reason of its own.
    pub const fn by_circuit(retry_after: Duration) -> Self {
        Self {
            retry_after,
            circuit_open: true,
        }
    }

    /// How long to wait before trying again.
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Whether an open circuit refused the request.
    pub const fn is_circuit_open(&self) -> bool {
        self.circuit_open
    }
}

impl fmt::Display for LocallyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "refused on this side; try again in {:?}",
            self.retry_after
        )
    }
}

impl Error for LocallyRefused {}

/// The peer never saw the request: no connection, or one that returned the request unprocessed
/// (`REFUSED_STREAM`, [RFC 9113 §8.7](https://www.rfc-editor.org/rfc/rfc9113#section-8.7)).
///
/// Wrap the error of a transport in it where the transport knows this. It is
/// [`Unreached`](super::OutcomeKind::Unreached): any request may be sent again, and the breaker
/// counts it against the peer.
///
/// # Examples
///
/// ```
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Outcome, OutcomeKind, Unreached};
///
/// # struct TransportError { connecting: bool }
/// # impl TransportError { fn is_connect(&self) -> bool { self.connecting } }
/// # impl From<TransportError> for BoxError { fn from(_: TransportError) -> Self { "no".into() } }
/// let below_the_layers = |error: TransportError| -> BoxError {
///     if error.is_connect() { Unreached::because(error).into() } else { error.into() }
/// };
/// let error = below_the_layers(TransportError { connecting: true });
/// assert_eq!(Outcome::of_error(&*error).kind(), OutcomeKind::Unreached);
/// ```
#[derive(Debug, Default)]
pub struct Unreached {
    cause: Option<BoxError>,
}

/// The request was not sent and cannot be: it cannot be signed, serialized or addressed.
///
/// It is [`Unsendable`](super::OutcomeKind::Unsendable): not retried, not counted against the peer,
/// and dead-lettered at once.
///
/// # Examples
///
/// ```
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Outcome, Unsendable};
///
/// let error: BoxError = Unsendable::because("the id holds a `.`").into();
/// let outcome = Outcome::of_error(&*error);
/// assert!(outcome.is_failure() && !outcome.may_retry());
/// assert_eq!(outcome.peer_is_healthy(), None);
/// ```
#[derive(Debug, Default)]
pub struct Unsendable {
    cause: Option<BoxError>,
}

macro_rules! with_a_cause {
    ($marker:ident, $text:literal) => {
        impl $marker {
            /// The marker without a cause.
            pub const fn new() -> Self {
                Self { cause: None }
            }

            /// The marker with its cause, which becomes its [`source`](Error::source).
            pub fn because(cause: impl Into<BoxError>) -> Self {
                Self {
                    cause: Some(cause.into()),
                }
            }
        }

        impl fmt::Display for $marker {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($text)
            }
        }

        impl Error for $marker {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.cause.as_deref().map(|cause| cause as _)
            }
        }
    };
}

/// The error of a client, with its [`Outcome`]: what the services of the module `transport` return.
///
/// For a transport of your own whose errors are not only [`Unreached`] and [`Unsendable`]. It is read from any chain of
/// sources.
///
/// # Examples
///
/// ```
/// use tower_webhook::outcome::{Outcome, OutcomeKind, TransportError};
///
/// let error = TransportError::new(Outcome::throttled(None), "421 too many connections");
/// assert_eq!(Outcome::of_error(&error).kind(), OutcomeKind::Throttled);
/// ```
#[derive(Debug)]
pub struct TransportError {
    outcome: Outcome,
    cause: BoxError,
}

impl TransportError {
    /// Makes the error of its outcome and its cause, which becomes its [`source`](Error::source).
    pub fn new(outcome: Outcome, cause: impl Into<BoxError>) -> Self {
        Self {
            outcome,
            cause: cause.into(),
        }
    }

    /// The error of a client, judged by what is known of the client's errors.
    #[cfg(feature = "hyper-util")]
    pub(crate) fn judged(cause: BoxError, rule: ErrorRule) -> Self {
        Self {
            outcome: judge_chain(&*cause, Some(rule)),
            cause,
        }
    }

    /// What the error says about the call.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.outcome.kind() {
            OutcomeKind::Unreached => "the peer was not reached",
            OutcomeKind::Unsendable => "the client cannot send this request",
            OutcomeKind::Refused => "this machine could not send the request now",
            OutcomeKind::Throttled => "the peer takes no more requests for now",
            OutcomeKind::Success
            | OutcomeKind::Permanent
            | OutcomeKind::Transient
            | OutcomeKind::Cancelled => "the call failed",
        })
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

with_a_cause!(Unreached, "the peer was not reached");
with_a_cause!(Unsendable, "the request cannot be sent");

/// A rule of the user, asked about every error of the chain before the built-in rules.
pub(crate) type ErrorRule = fn(&(dyn Error + 'static)) -> Option<Outcome>;

/// Most errors read of a chain: an error can be its own source.
const MAX_LINKS: usize = 32;

impl Outcome {
    /// The outcome of an error: [`refused`](Self::refused) if this machine had no file handle for the call, that
    /// of the first marker in its chain of sources, outermost first, or [`transient`](Self::transient).
    ///
    /// For a function given to [`classify_fn`](super::classify_fn), so that it understands the errors
    /// of a breaker below. The [module docs](super#errors) list what is recognised.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use tower_webhook::outcome::{Outcome, OutcomeKind};
    ///
    /// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    /// assert_eq!(Outcome::of_error(&refused).kind(), OutcomeKind::Unreached);
    ///
    /// let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    /// assert_eq!(Outcome::of_error(&reset).kind(), OutcomeKind::Transient);
    /// ```
    pub fn of_error(error: &(dyn Error + 'static)) -> Self {
        judge_chain(error, None)
    }
}

/// Judges an error of any type. It is transient if its chain cannot be read.
pub(super) fn judge<E: 'static>(error: &E, rule: Option<ErrorRule>) -> Outcome {
    match as_error(error) {
        Some(error) => judge_chain(error, rule),
        None => Outcome::transient(),
    }
}

fn judge_chain(error: &(dyn Error + 'static), rule: Option<ErrorRule>) -> Outcome {
    // Before the markers: a connector says that it did not reach the peer, and below it stands why.
    let shortage = links(error).find_map(shortage);
    if shortage == Some(Shortage::Handles) {
        return Outcome::refused(None);
    }
    let outcome = links(error)
        .find_map(|link| rule.and_then(|rule| rule(link)).or_else(|| by_link(link)))
        .unwrap_or(Outcome::transient());
    match (shortage, outcome.kind()) {
        (None, _) => outcome,
        (Some(_), OutcomeKind::Unreached) => Outcome::refused(None),
        (Some(_), _) => outcome.without_evidence(),
    }
}

/// An error and its sources, outermost first.
pub(crate) fn links<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |link| next(*link)).take(MAX_LINKS)
}

/// The next error of a chain. `source` of an [`io::Error`] is the source of the error that it wraps,
/// so following `source` alone would skip the wrapped error.
fn next<'a>(link: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = link
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .map(|wrapped| wrapped as _);
    wrapped.or_else(|| link.source())
}

fn by_link(link: &(dyn Error + 'static)) -> Option<Outcome> {
    if let Some(refused) = link.downcast_ref::<LocallyRefused>() {
        return Some(Outcome::refused(Some(refused.retry_after())));
    }
    if link.is::<Unreached>() {
        return Some(Outcome::unreached());
    }
    if link.is::<Unsendable>() {
        return Some(Outcome::unsendable());
    }
    if let Some(error) = link.downcast_ref::<TransportError>() {
        return Some(error.outcome);
    }
    #[cfg(feature = "tower")]
    if let Some(outcome) = by_tower(link) {
        return Some(outcome);
    }
    match link.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::ConnectionRefused => {
            Some(Outcome::unreached())
        }
        _ => None,
    }
}

/// The errors of tower's own layers that are no answer of the peer. `Elapsed` is one: the peer was too slow.
#[cfg(feature = "tower")]
fn by_tower(link: &(dyn Error + 'static)) -> Option<Outcome> {
    if link.is::<tower::load_shed::error::Overloaded>() {
        return Some(Outcome::refused(None));
    }
    // The task behind the buffer has ended, and nothing starts it again.
    link.is::<tower::buffer::error::Closed>()
        .then(|| Outcome::refused(None).never_retry())
}

/// What this machine is short of. It says nothing about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortage {
    /// Buffers or memory, which a connection can run out of when the request is written already.
    Buffers,
    /// File handles, which only a new connection needs: nothing was sent.
    Handles,
}

fn shortage(link: &(dyn Error + 'static)) -> Option<Shortage> {
    let error = link.downcast_ref::<io::Error>()?;
    let code = error.raw_os_error();
    if code.is_some_and(|code| NO_HANDLES.contains(&code)) {
        Some(Shortage::Handles)
    } else if error.kind() == io::ErrorKind::OutOfMemory
        || code.is_some_and(|code| NO_BUFFERS.contains(&code))
    {
        Some(Shortage::Buffers)
    } else {
        None
    }
}

/// The operating system's numbers of what `std` has no kind for: `ENFILE` and `EMFILE`, on Windows
/// `ERROR_TOO_MANY_OPEN_FILES` and `WSAEMFILE`.
const NO_HANDLES: [i32; 2] = if cfg!(windows) { [4, 10024] } else { [23, 24] };
/// `ENOBUFS`, on Windows `ERROR_NO_SYSTEM_RESOURCES` and `WSAENOBUFS`. `ENOMEM` has a kind.
#[cfg(windows)]
const NO_BUFFERS: [i32; 2] = [1450, 10055];
#[cfg(not(windows))]
const NO_BUFFERS: [i32; 1] = [
    if cfg!(all(
        target_os = "linux",
        any(target_arch = "mips", target_arch = "mips64")
    )) {
        132
    } else if cfg!(any(target_os = "linux", target_os = "android")) {
        105
    } else {
        // The BSDs and macOS.
        55
    },
];

/// A boxed error does not implement [`Error`], so no bound covers both it and plain errors. The
/// types that occur in a stack are tried instead.
fn as_error<E: 'static>(error: &E) -> Option<&(dyn Error + 'static)> {
    let any = error as &dyn Any;
    if let Some(error) = any.downcast_ref::<BoxError>() {
        return Some(&**error);
    }
    if let Some(error) = any.downcast_ref::<io::Error>() {
        return Some(error);
    }
    if let Some(error) = any.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return Some(&**error);
    }
    if let Some(error) = any.downcast_ref::<Box<dyn Error>>() {
        return Some(&**error);
    }
    if let Some(error) = any.downcast_ref::<LocallyRefused>() {
        return Some(error);
    }
    if let Some(error) = any.downcast_ref::<Unreached>() {
        return Some(error);
    }
    if let Some(error) = any.downcast_ref::<TransportError>() {
        return Some(error);
    }
    any.downcast_ref::<Unsendable>().map(|error| error as _)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("endless")
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    fn kind<E: 'static>(error: &E) -> OutcomeKind {
        judge(error, None).kind()
    }

    #[test]
    fn an_error_that_is_its_own_source_ends() {
        assert_eq!(kind(&BoxError::from(Endless)), OutcomeKind::Transient);
    }

    #[test]
    fn what_an_io_error_wraps_is_looked_at() {
        let refused = LocallyRefused::after(Duration::from_secs(1));
        let wrapped = io::Error::other(io::Error::other(refused));
        assert_eq!(kind(&BoxError::from(wrapped)), OutcomeKind::Refused);
    }

    #[test]
    fn every_error_type_that_a_stack_has_is_read() {
        let marker = Unsendable::new;
        let boxed: Box<dyn Error> = Box::new(marker());
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(marker());
        assert_eq!(kind(&BoxError::from(marker())), OutcomeKind::Unsendable);
        assert_eq!(kind(&boxed), OutcomeKind::Unsendable);
        assert_eq!(kind(&shared), OutcomeKind::Unsendable);
        assert_eq!(kind(&marker()), OutcomeKind::Unsendable);
        assert_eq!(kind(&io::Error::other(marker())), OutcomeKind::Unsendable);
        assert_eq!(kind(&Unreached::new()), OutcomeKind::Unreached);
        assert_eq!(
            kind(&LocallyRefused::after(Duration::ZERO)),
            OutcomeKind::Refused
        );
        assert_eq!(kind(&"no error at all"), OutcomeKind::Transient);
    }

    #[test]
    fn a_call_without_a_file_handle_is_a_refusal_wherever_it_stands() {
        for code in NO_HANDLES {
            let short = || io::Error::from_raw_os_error(code);
            assert_eq!(kind(&short()), OutcomeKind::Refused, "{code}");
            let connecting = Unreached::because(io::Error::other(short()));
            assert_eq!(kind(&BoxError::from(connecting)), OutcomeKind::Refused);
            let by_rule = judge(&short(), Some(|_| Some(Outcome::unreached())));
            assert!(by_rule.may_retry() && !by_rule.was_attempted());
            assert_eq!(by_rule.peer_is_healthy(), None);
        }
    }

    /// A connection can run out of buffers when the peer has the request, so it is not sent again blindly.
    #[test]
    fn a_shortage_of_buffers_is_a_refusal_only_where_nothing_was_sent() {
        let codes = NO_BUFFERS.map(io::Error::from_raw_os_error);
        let memory = io::Error::from(io::ErrorKind::OutOfMemory);
        for short in codes.into_iter().chain([memory]) {
            let while_open = judge(&short, None);
            assert_eq!(while_open.kind(), OutcomeKind::Transient);
            assert_eq!(while_open.peer_is_healthy(), None);
            assert!(!while_open.not_repeatable().may_retry());
            let connecting = Unreached::because(short);
            assert_eq!(kind(&BoxError::from(connecting)), OutcomeKind::Refused);
        }
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(judge(&reset, None).peer_is_healthy(), Some(false));
    }

    #[test]
    fn the_outermost_marker_wins() {
        let outer = Unsendable::because(Unreached::because(io::Error::other("inner")));
        assert_eq!(kind(&BoxError::from(outer)), OutcomeKind::Unsendable);
    }
}
