use std::{fmt, sync::Arc};

/// A request, and the copy of it that a layer outside keeps.
///
/// A dead-letter layer keeps a copy of each request in case the call fails for good, and a retry layer needs one in
/// case the attempt fails. In a [stack](crate::stack) they share one: the dead-letter layer calls
/// [with copies](crate::DeadLetterLayer::with_copies), and the exchange of the retry layer
/// [takes them](crate::retry::WithCopies).
pub struct Copied<Req> {
    /// The request to send.
    pub request: Req,
    /// The copy of it.
    pub copy: Arc<Req>,
}

impl<Req> fmt::Debug for Copied<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copied").finish_non_exhaustive()
    }
}
