//! The error of both clients.
/// The error of a call to an API.
#[derive(Debug)]
pub struct ApiError;
/// What an [`ApiError`] is about.
#[derive(Debug)]
pub enum ApiErrorKind {}
