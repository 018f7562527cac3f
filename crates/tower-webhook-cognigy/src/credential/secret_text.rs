//! Secrets as values of headers. Their memory is overwritten when the last clone is dropped.

use bytes::Bytes;
use http::HeaderValue;
use tower_webhook::{InvalidConfig, signature::Secret};
use zeroize::Zeroizing;

/// A prefix and a secret as the value of a header.
pub(super) fn value(
    prefix: &str,
    secret: &[u8],
    setting: &'static str,
) -> Result<HeaderValue, InvalidConfig> {
    let invalid = |problem| Err(InvalidConfig::new(setting, problem));
    if secret.is_empty() {
        return invalid("must not be empty");
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(secret.first()) || is_space(secret.last()) {
        return invalid("must not begin or end with a space, which a header loses");
    }
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.len()));
    text.extend_from_slice(prefix.as_bytes());
    text.extend_from_slice(secret);
    match HeaderValue::from_maybe_shared(Bytes::from_owner(text)) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok(value)
        }
        Err(_) => invalid("must not have a line break or another control character"),
    }
}

/// The value of `Authorization: Basic` ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617)).
pub(super) fn basic(
    user: &str,
    password: &Secret,
    user_setting: &'static str,
    password_setting: &'static str,
) -> Result<HeaderValue, InvalidConfig> {
    let password = password.as_bytes();
    let invalid = |setting, problem| Err(InvalidConfig::new(setting, problem));
    if user.is_empty() {
        return invalid(user_setting, "must not be empty");
    }
    if user.contains(':') {
        return invalid(user_setting, "must not have a `:`, which ends it");
    }
    if user.bytes().any(|byte| byte.is_ascii_control()) {
        return invalid(user_setting, "must not have control characters");
    }
    if password.is_empty() {
        return invalid(password_setting, "must not be empty");
    }
    if password.iter().any(u8::is_ascii_control) {
        return invalid(password_setting, "must not have control characters");
    }
    let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    pair.extend_from_slice(user.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(password);
    let encoded = Zeroizing::new(data_encoding::BASE64.encode(&pair));
    value("Basic ", encoded.as_bytes(), password_setting)
}

/// The value of `Authorization: Bearer` ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
pub(super) fn bearer(token: &[u8], setting: &'static str) -> Result<HeaderValue, InvalidConfig> {
    if !token.iter().all(u8::is_ascii_graphic) {
        let problem = "must be printable ASCII without spaces";
        return Err(InvalidConfig::new(setting, problem));
    }
    value("Bearer ", token, setting)
}
