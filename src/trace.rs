//! `tracing` events of the layers, or nothing where the feature is off.
//!
//! One place decides their shape: target `tower_webhook`, level `DEBUG` for what a caller did
//! wrong and `WARN` for what an operator should see. Fields are typed reasons and fixed names: no
//! header value, body or secret. Arguments are evaluated only when a subscriber listens.

/// A request was refused: the caller's doing.
macro_rules! refused {
    ($layer:literal, $reason:expr) => {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tower_webhook", layer = $layer, reason = %$reason, "refused");
    };
}

/// Something worked otherwise than the operator would want.
macro_rules! trouble {
    ($layer:literal, $message:literal $(, $field:ident = $value:expr)*) => {
        #[cfg(feature = "tracing")]
        tracing::warn!(target: "tower_webhook", layer = $layer $(, $field = %$value)*, $message);
    };
}

/// A layer did what it is for.
macro_rules! passed {
    ($layer:literal, $message:literal $(, $field:ident = $value:expr)*) => {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tower_webhook", layer = $layer $(, $field = %$value)*, $message);
    };
}

#[allow(unused_imports, reason = "which layers trace depends on the features")]
pub(crate) use {passed, refused, trouble};
