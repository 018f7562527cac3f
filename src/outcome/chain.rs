//! What a chain of error sources says about a call.

use super::{LocallyRefused, Outcome, Unreached, Unsendable};
use crate::BoxError;
use std::{any::Any, error::Error, io, iter, sync::Arc};

/// A rule of the user's, asked about every link before ours.
pub(super) type ErrorRule = fn(&(dyn Error + 'static)) -> Option<Outcome>;

/// Longer chains are not read to their end: an error can be its own source.
const MAX_LINKS: usize = 32;

impl Outcome {
    /// What an error says: the first marker in its chain of sources, outermost first, or
    /// [`transient`](Self::transient).
    ///
    /// For a [`classify_fn`](super::classify_fn) of one's own, so that a breaker that stands below
    /// is still understood. The [module docs](super) list what is recognised.
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

/// Judges an error of any type. One whose chain cannot be read is transient.
pub(super) fn judge<E: 'static>(error: &E, rule: Option<ErrorRule>) -> Outcome {
    match as_error(error) {
        Some(error) => judge_chain(error, rule),
        None => Outcome::transient(),
    }
}

fn judge_chain(error: &(dyn Error + 'static), rule: Option<ErrorRule>) -> Outcome {
    links(error)
        .find_map(|link| rule.and_then(|rule| rule(link)).or_else(|| by_link(link)))
        .unwrap_or(Outcome::transient())
}

/// An error and what is below it, outermost first.
pub(crate) fn links<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |link| next(*link)).take(MAX_LINKS)
}

/// The next link. What an [`io::Error`] wraps is not its source: its source is *that* error's
/// source, so following `source` alone would step over it.
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
    match link.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::ConnectionRefused => {
            Some(Outcome::unreached())
        }
        _ => None,
    }
}

/// A boxed error is not an [`Error`] itself, so no bound covers it and the plain ones at once. The
/// types that a stack has are tried instead.
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
    any.downcast_ref::<Unsendable>().map(|error| error as _)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::OutcomeKind;
    use std::{fmt, time::Duration};

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
    fn the_outermost_marker_wins() {
        let outer = Unsendable::because(Unreached::because(io::Error::other("inner")));
        assert_eq!(kind(&BoxError::from(outer)), OutcomeKind::Unsendable);
    }
}
