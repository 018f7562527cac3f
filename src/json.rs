//! Reads JSON into a type. An error names the field that failed, and quotes no value: the text may hold a secret.

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::{error, fmt};

/// The longest path in an error, in characters: the keys of a map come from the sender.
const LONGEST_PATH: usize = 128;

/// Why JSON could not be read into a type.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// Where it does not fit: the path of a value.
    at: Option<String>,
    /// The field of that value that is missing or there twice.
    of: Option<String>,
    said: String,
}

impl Unreadable {
    /// The path of the field, unless the whole is at fault.
    #[cfg_attr(
        not(all(feature = "axum", feature = "signature")),
        allow(dead_code, reason = "an extractor asks for it")
    )]
    pub(crate) fn field(&self) -> Option<String> {
        match (&self.at, &self.of) {
            (Some(at), Some(of)) => Some(format!("{at}.{of}")),
            (at, of) => at.clone().or_else(|| of.clone()),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.said)
    }
}

impl error::Error for Unreadable {}

pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Unreadable> {
    // A path costs an allocation for each key, so it is found after an error only.
    serde_json::from_slice(json).map_err(|error| {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let again: Result<T, _> = serde_path_to_error::deserialize(&mut deserializer);
        let path = again.err().map(|error| error.path().to_string());
        explain(path.as_deref(), &error)
    })
}

fn explain(path: Option<&str>, error: &serde_json::Error) -> Unreadable {
    let said = error.to_string();
    if error.classify() != Category::Data {
        return Unreadable {
            at: None,
            of: None,
            said,
        };
    }
    let names_a_field = ["missing field `", "duplicate field `"];
    let named = names_a_field
        .iter()
        .find_map(|begin| said.strip_prefix(begin)?.split_once('`'));
    let of = named.map(|(name, _)| cut(name));
    let said = if of.is_some() {
        said
    } else if let Some(expected) = expectation(&said) {
        let (line, column) = (error.line(), error.column());
        format!("invalid, expected {expected} at line {line} column {column}")
    } else {
        "invalid".to_owned()
    };
    // The path of the whole is `.`.
    let at = path.filter(|path| *path != ".").map(cut);
    Unreadable { at, of, said }
}

fn cut(path: &str) -> String {
    path.chars().take(LONGEST_PATH).collect()
}

/// What serde expected, by its message. The value is quoted before it, so the last ", expected " is serde's. The text of
/// another error may quote the value anywhere.
pub(crate) fn expectation(message: &str) -> Option<String> {
    const WORDINGS: [&str; 5] = [
        "invalid type: ",
        "invalid value: ",
        "invalid length ",
        "unknown variant `",
        "unknown field `",
    ];
    if !WORDINGS.iter().any(|start| message.starts_with(start)) {
        return None;
    }
    let (_, expected) = message.rsplit_once(", expected ")?;
    let (expected, _) = expected.rsplit_once(" at line ").unwrap_or((expected, ""));
    Some(expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "it is only read")]
    struct Order {
        id: u64,
        of: Option<Customer>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "it is only read")]
    struct Customer {
        name: String,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Debug, Default, Deserialize)]
    enum Kind {
        #[default]
        Person,
        Company,
    }

    #[test]
    fn an_error_names_the_field_and_quotes_no_value() {
        for (json, said) in [
            (
                r#"{"id":"sk-SECRET"}"#,
                "id: invalid, expected u64 at line 1 column 17",
            ),
            (
                r#"{"id":"a, expected SECRET"}"#,
                "id: invalid, expected u64 at line 1 column 26",
            ),
            (
                r#"{"id":1,"of":{}}"#,
                "of: missing field `name` at line 1 column 15",
            ),
            (
                r#"{"id":1,"of":{"name":"","kind":"SECRET"}}"#,
                "of.kind: invalid, expected `Person` or `Company` at line 1 column 39",
            ),
            (
                r#"{"SECRET":1}"#,
                "SECRET: invalid, expected `id` or `of` at line 1 column 9",
            ),
            (
                r#"{"id":1"#,
                "EOF while parsing an object at line 1 column 7",
            ),
            ("<html>", "expected value at line 1 column 1"),
            (
                r#"{"id":1} SECRET"#,
                "trailing characters at line 1 column 10",
            ),
        ] {
            let error = read::<Order>(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), said, "{json}");
        }
        let order: Order = read(br#"{"id":7}"#).unwrap();
        assert_eq!(order.id, 7);
    }
}
