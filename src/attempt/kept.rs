use std::{any::Any, cell::Cell, fmt, marker::PhantomData, sync::Arc};

thread_local! {
    static OFFERED: Cell<Option<Arc<dyn Any + Send + Sync>>> = const { Cell::new(None) };
}

/// A copy of a request that more than one layer keeps. Cloning it copies nothing.
///
/// A layer that keeps a copy for itself (for a dead letter) offers it to the layer inside that
/// would make another one (for a further attempt). Like
/// [`Deadline`](crate::deadline::Deadline) it is no part of the request: it is there while the
/// service inside is called, on that thread, until somebody takes it.
///
/// Whoever offers it vouches for it: the request that is inside calls for is this one.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_webhook::attempt::Kept;
///
/// let kept = Kept::new(Arc::new("an event".to_owned()));
/// kept.offer(|| {
///     assert!(Kept::<u32>::take().is_none(), "it is of another type");
///     assert_eq!(Kept::<String>::take().unwrap().request(), "an event");
///     assert!(Kept::<String>::take().is_none(), "it was taken");
/// });
/// assert!(Kept::<String>::take().is_none());
/// ```
pub struct Kept<Req> {
    /// Of the type `Req`. Its type is forgotten, so that whoever takes it need not know that the
    /// request may be shared by threads.
    copy: Arc<dyn Any + Send + Sync>,
    of: PhantomData<fn() -> Req>,
}

impl<Req: 'static> Kept<Req> {
    /// A copy that was made already.
    pub fn new(copy: Arc<Req>) -> Self
    where
        Req: Send + Sync,
    {
        Self {
            copy,
            of: PhantomData,
        }
    }

    /// The request.
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn request(&self) -> &Req {
        let copy = self.copy.downcast_ref();
        // Both ways to make one check it.
        #[expect(clippy::expect_used, reason = "it is made of a `Req`")]
        copy.expect("it is of this type")
    }

    /// Runs `work`, in which it can be taken once.
    pub fn offer<T>(&self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(swap(Some(Arc::clone(&self.copy))));
        work()
    }

    /// What is offered here, where it is a request of this type.
    pub fn take() -> Option<Self> {
        let copy = swap(None)?;
        if copy.is::<Req>() {
            return Some(Self {
                copy,
                of: PhantomData,
            });
        }
        swap(Some(copy));
        None
    }
}

/// Ends the offer: what is called from here on has requests of its own.
#[cfg(feature = "retry")]
pub(crate) fn withdraw() {
    drop(swap(None));
}

/// Nothing is offered on a thread that is ending.
fn swap(offer: Option<Arc<dyn Any + Send + Sync>>) -> Option<Arc<dyn Any + Send + Sync>> {
    OFFERED.try_with(|slot| slot.replace(offer)).ok().flatten()
}

/// Puts the former offer back, also where the work panics.
struct Restore(Option<Arc<dyn Any + Send + Sync>>);

impl Drop for Restore {
    fn drop(&mut self) {
        swap(self.0.take());
    }
}

impl<Req> Clone for Kept<Req> {
    fn clone(&self) -> Self {
        Self {
            copy: Arc::clone(&self.copy),
            of: PhantomData,
        }
    }
}

impl<Req> fmt::Debug for Kept<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{self, AssertUnwindSafe};

    #[test]
    fn an_offer_ends_with_its_scope_also_by_a_panic() {
        let (outer, inner) = (Kept::new(Arc::new(1_u8)), Kept::new(Arc::new(2_u8)));
        outer.offer(|| {
            let failing = AssertUnwindSafe(|| inner.offer(|| panic!("on purpose")));
            let _ = panic::catch_unwind(failing);
            assert_eq!(Kept::<u8>::take().map(|kept| *kept.request()), Some(1));
        });
        assert!(Kept::<u8>::take().is_none());
    }
}
