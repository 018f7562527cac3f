//! What the compiler says of a builder that is given to `.layer(..)`.

/// Never implemented: a builder implements `Layer` where it holds, so that the compiler tells what is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a builder, and is not built yet",
    label = "expected a layer, found its builder",
    note = "write `.build()?` behind its settings, or `.build()` if that returns no `Result`"
)]
pub trait IsBuilt<S> {
    /// No type: what is done with it is no second mistake.
    type Layered;

    /// Never called.
    fn layered(&self, inner: S) -> Self::Layered;
}
