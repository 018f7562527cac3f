//! Types the open parts of an event with serde, and removes the values that serde's errors quote.

use super::{EventError, json::MAX_DEPTH};
use crate::json::expectation;
use serde::Deserialize;
use std::{borrow::Cow, fmt::Write as _};

/// The longest path in an error, in bytes, because keys of a map come from the sender.
const MAX_PATH: usize = 128;

/// Types `json`, whose path in the body is `within` (empty, or ends with a dot).
pub(super) fn typed<'de, T: Deserialize<'de>>(
    json: &'de str,
    within: &'static str,
) -> Result<T, EventError> {
    // Paths cost an allocation per key, so they are computed only after an error.
    serde_json::from_str(json).or_else(|_| {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            explain(within, &path, &message)
        })
    })
}

/// Converts a `serde_json` message to an error without the values that it quotes.
fn explain(within: &str, path: &str, message: &str) -> EventError {
    // The path of the whole is `.`.
    let path = if path == "." { "" } else { path };
    let quoted = |prefix| {
        let name = str::strip_prefix(message, prefix)?;
        name.split_once('`').map(|(name, _)| name)
    };

    if let Some(name) = quoted("missing field `") {
        return EventError::Missing {
            field: join(within, path, name).into(),
            expected: Cow::Borrowed("a value"),
        };
    }
    if let Some(name) = quoted("duplicate field `") {
        return EventError::Duplicate {
            field: join(within, path, name).into(),
        };
    }
    if message.starts_with("recursion limit") {
        return EventError::Deep { limit: MAX_DEPTH };
    }
    let expected = if message.contains("surrogate") || message.contains("hex escape") {
        Cow::Borrowed("text without lone surrogates")
    } else if message.starts_with("number out of range") {
        Cow::Borrowed("a number in range")
    } else {
        expectation(message).map_or(Cow::Borrowed("a value of its type"), Cow::Owned)
    };
    EventError::Invalid {
        field: join(within, path, "").into(),
        expected,
    }
}

/// Joins `within`, `path` and `name` to one path, on one line and of limited length.
fn join(within: &str, path: &str, name: &str) -> String {
    let mut all = String::from(within);
    all.push_str(path);
    if !path.is_empty() && !name.is_empty() {
        all.push('.');
    }
    all.push_str(name);

    let mut out = String::with_capacity(all.len().min(MAX_PATH));
    for char in all.trim_end_matches('.').chars() {
        if out.len() >= MAX_PATH {
            out.push('…');
            break;
        }
        if char.is_control() {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "{}", char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only the errors are looked at")]
    struct Profile {
        name: String,
        age: Option<u8>,
        tags: Option<Vec<Tag>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Tag {
        New,
        Old,
    }

    fn message(json: &str) -> String {
        typed::<Profile>(json, "payload.").unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_path_and_never_the_value() {
        let secret = r#"{"name":"n","age":"s3cret, expected nothing"}"#;
        assert_eq!(message(secret), "`payload.age` must be u8");
        assert_eq!(
            message(r#"{"name":"n","tags":["new","s3cret"]}"#),
            "`payload.tags[1]` must be `new` or `old`"
        );
        assert_eq!(message("{}"), "`payload.name` is missing, expected a value");
        assert_eq!(
            message(r#"{"name":"a","name":"b"}"#),
            "`payload.name` is there twice"
        );
        assert_eq!(
            message(r#"{"name":"\ud800"}"#),
            "`payload.name` must be text without lone surrogates"
        );
        assert_eq!(message("7"), "`payload` must be struct Profile");
    }

    #[test]
    fn a_path_from_the_sender_is_bounded_and_on_one_line() {
        let key = format!("a\\n{}", "b".repeat(1000));
        let json = format!(r#"{{"{key}":"x"}}"#);
        let error = typed::<BTreeMap<String, u8>>(&json, "payload.").unwrap_err();
        let field = error.field().unwrap();
        assert!(field.starts_with(r"payload.a\nbbb"), "{field}");
        assert!(field.len() < MAX_PATH + 8, "{field}");
    }
}
