//! What the events need of JSON beyond `serde_json`: where in the bytes a field stands.
//!
//! `serde_json` can defer a value (`RawValue`), but a rule such as "`payload.profile` must be
//! there" then costs a second pass over the payload, its deferred values have no depth limit, and
//! its errors quote values. One pass of [`Scanner`] checks the grammar of the whole body, bounds
//! its depth, and leaves the [`Span`] of each field that matters. Typing is left to serde.

mod members;
mod scan;
mod text;
mod typed;

pub(super) use self::{
    members::Members,
    scan::{Result, Scanner, Span},
    text::{MAX_KEY, Text, is_null},
    typed::typed,
};
