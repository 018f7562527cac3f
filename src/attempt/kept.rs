use std::{any::Any, cell::Cell, fmt, marker::PhantomData, sync::Arc};

thread_local! {
    static OFFERED: Cell<Option<Arc<dyn Any + Send + Sync>>> = const { Cell::new(None) };
}

/// A copy of a request that several layers share. Cloning it does not copy the request.
///
/// A layer that keeps a copy (for a dead letter) offers it to the inner layer that would otherwise make
/// another one (for a further attempt). Like [`Deadline`](crate::deadline::Deadline), it is a
/// thread-local value, not a part of the request: it is offered while the inner service is called, until
/// a layer takes it.
///
/// The layer that offers it guarantees that it is a copy of the request with which it calls the inner
/// service.
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
    /// A `Req`. Type-erased, so that the layer that takes it needs no `Req: Send + Sync` bound.
    copy: Arc<dyn Any + Send + Sync>,
    of: PhantomData<fn() -> Req>,
}

impl<Req: 'static> Kept<Req> {
    /// Shares an existing copy.
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
        // `new` and `take` are the only constructors, and both ensure the type.
        #[expect(clippy::expect_used, reason = "it is made of a `Req`")]
        copy.expect("it is of this type")
    }

    /// Runs `work`, during which the copy can be taken once.
    pub fn offer<T>(&self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(swap(Some(Arc::clone(&self.copy))));
        work()
    }

    /// Takes the copy that is offered to the current call, if it is of this type.
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

/// Ends the offer, because inner calls have requests of their own.
#[cfg(feature = "retry")]
pub(crate) fn withdraw() {
    drop(swap(None));
}

/// Does nothing on a thread that is ending.
fn swap(offer: Option<Arc<dyn Any + Send + Sync>>) -> Option<Arc<dyn Any + Send + Sync>> {
    OFFERED.try_with(|slot| slot.replace(offer)).ok().flatten()
}

/// Restores the previous offer, even if the work panics.
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
