//! `tracing` events and spans of the layers, or nothing where the feature is off.
//!
//! One place decides their shape: target `tower_webhook`; level `DEBUG` for what a layer does and
//! for what a caller did wrong, `INFO` for what is to be accounted for, `WARN` for what an operator should see. Fields are typed reasons
//! and fixed names: no header value, body, key or secret. Arguments are evaluated only when a
//! subscriber listens.

#![allow(
    unused_macros,
    unused_imports,
    reason = "which of these are used depends on the features"
)]

/// A request was refused: the caller's doing.
macro_rules! refused {
    ($layer:literal, $reason:expr) => {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tower_webhook", layer = $layer, reason = %$reason, "refused");
    };
}

/// Something went otherwise than the operator would want.
macro_rules! trouble {
    ($layer:literal, $message:literal $(, $field:ident = $value:expr)*) => {
        #[cfg(feature = "tracing")]
        tracing::warn!(target: "tower_webhook", layer = $layer $(, $field = %$value)*, $message);
        #[cfg(not(feature = "tracing"))]
        {
            // Names the values, for the compiler; computes nothing.
            $(let _ = || { let _ = &$value; };)*
        }
    };
}

/// A layer did what it is for.
macro_rules! passed {
    ($layer:literal, $message:literal $(, $field:ident = $value:expr)*) => {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tower_webhook", layer = $layer $(, $field = %$value)*, $message);
        #[cfg(not(feature = "tracing"))]
        {
            // Names the values, for the compiler; computes nothing.
            $(let _ = || { let _ = &$value; };)*
        }
    };
}

/// Somebody did something that is to be accounted for.
macro_rules! audited {
    ($message:literal $(, $field:ident = $value:expr)*) => {
        #[cfg(feature = "tracing")]
        tracing::info!(target: "tower_webhook", audit = true $(, $field = %$value)*, $message);
        #[cfg(not(feature = "tracing"))]
        {
            // Names the values, for the compiler; computes nothing.
            $(let _ = || { let _ = &$value; };)*
        }
    };
}

/// A [`Scope`]: the work of a layer on one request.
macro_rules! scope {
    ($name:literal $(, $field:ident = $value:expr)*) => {
        $crate::trace::Scope {
            #[cfg(feature = "tracing")]
            span: tracing::debug_span!(target: "tower_webhook", $name $(, $field = %$value)*),
        }
    };
}

pub(crate) use {audited, passed, refused, scope, trouble};

/// A span that a future enters each time it is polled. Nothing where the feature is off.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    #[cfg(feature = "tracing")]
    pub(crate) span: tracing::Span,
}

#[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
#[allow(dead_code, reason = "which layers trace depends on the features")]
impl Scope {
    /// Runs `work` inside the span.
    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        let _entered = self.span.enter();
        work()
    }
}
