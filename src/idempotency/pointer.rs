//! Reads one value from a JSON body by pointer, without building the rest.

use super::KeyError;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// Returns the string or integer at `pointer` (RFC 6901), or `None` if the body has no such place.
///
/// Reads the whole body in order to find repeated members: if the key depended on which of them a
/// parser uses, the body has no key.
pub(super) fn find(body: &[u8], pointer: &str) -> Result<Option<String>, KeyError> {
    let Some(path) = pointer.strip_prefix('/') else {
        return Ok(None);
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut found = Found::Nothing;
    let seed = At {
        path: Some(path),
        found: &mut found,
    };
    let read = seed.deserialize(&mut json).and_then(|()| json.end());
    match (read, found) {
        (Ok(()), Found::Id(id)) => Ok(Some(id)),
        (Ok(()), Found::Other) => Err(KeyError::Malformed),
        (Ok(()), Found::Twice) => Err(KeyError::Repeated),
        (Ok(()), Found::Nothing) | (Err(_), _) => Ok(None),
    }
}

enum Found {
    Nothing,
    Id(String),
    /// A value that is neither a string nor an integer.
    Other,
    Twice,
}

/// Follows `path`, and takes the value at its end.
struct At<'a> {
    path: Option<&'a str>,
    found: &'a mut Found,
}

impl At<'_> {
    fn take(self, value: Found) {
        *self.found = match (self.path, &*self.found) {
            // The path goes on, but this value has no members.
            (Some(_), _) => return,
            (None, Found::Nothing) => value,
            (None, _) => Found::Twice,
        };
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Splits a path into its first segment, unescaped, and the rest.
fn segment(path: &str) -> (Cow<'_, str>, Option<&str>) {
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    if first.contains('~') {
        (first.replace("~1", "/").replace("~0", "~").into(), rest)
    } else {
        (first.into(), rest)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.take(Found::Id(text.to_owned()));
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.take(Found::Id(number.to_string()));
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.take(Found::Id(number.to_string()));
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.take(Found::Other);
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.take(Found::Other);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        // Many senders write `null` for "none".
        self.take(Found::Nothing);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some(path) = self.path else {
            self.take(Found::Other);
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let (first, rest) = segment(path);
        let wanted = first.parse::<usize>().ok();
        let mut index = 0;
        loop {
            let more = if Some(index) == wanted {
                let at = At {
                    path: rest,
                    found: &mut *self.found,
                };
                seq.next_element_seed(at)?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some(path) = self.path else {
            self.take(Found::Other);
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let (first, rest) = segment(path);
        let mut seen = false;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == first {
                // At every level and for every type of value: parsers differ in which one they use.
                if std::mem::replace(&mut seen, true) {
                    *self.found = Found::Twice;
                }
                map.next_value_seed(At {
                    path: rest,
                    found: &mut *self.found,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(body: &str, pointer: &str) -> Result<Option<String>, KeyError> {
        find(body.as_bytes(), pointer)
    }

    #[test]
    fn strings_and_integers_are_ids() {
        let body = r#"{"id":"evt_1","n":7,"m":-7,"deep":{"a/b":[{"~":"x"}]},"\u0065sc":"e"}"#;
        for (pointer, id) in [
            ("/id", "evt_1"),
            ("/n", "7"),
            ("/m", "-7"),
            ("/deep/a~1b/0/~0", "x"),
            ("/esc", "e"),
        ] {
            assert_eq!(at(body, pointer), Ok(Some(id.to_owned())), "{pointer}");
        }
    }

    #[test]
    fn no_such_place_is_nothing() {
        for (body, pointer) in [
            (r#"{"id":"evt_1"}"#, "/other"),
            (r#"{"id":"evt_1"}"#, "/id/deeper"),
            (r#"{"id":null}"#, "/id"),
            (r#"{"id":"evt_1"}"#, "id"),
            (r#"["a"]"#, "/1"),
            (r#"["a"]"#, "/-1"),
            ("", "/id"),
            ("[]", "/id"),
            (r#"{"id":"evt_1"} trailing"#, "/id"),
            (r#"{"id":"evt_1""#, "/id"),
        ] {
            assert_eq!(at(body, pointer), Ok(None), "{body} {pointer}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for body in [
            r#"{"id":1.5}"#,
            r#"{"id":{}}"#,
            r#"{"id":[1]}"#,
            r#"{"id":true}"#,
        ] {
            assert_eq!(at(body, "/id"), Err(KeyError::Malformed), "{body}");
        }
        for (body, pointer) in [
            (r#"{"id":"a","id":"b"}"#, "/id"),
            (r#"{"id":null,"id":"b"}"#, "/id"),
            (r#"{"id":"a","id":null}"#, "/id"),
            (r#"{"data":{"id":"a"},"data":{"id":"b"}}"#, "/data/id"),
            (r#"{"data":{"id":"a"},"data":7}"#, "/data/id"),
            (r#"{"data":{},"data":{"id":"b"}}"#, "/data/id"),
        ] {
            assert_eq!(at(body, pointer), Err(KeyError::Repeated), "{body}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{{\"a\":{}", "[".repeat(20_000));
        assert_eq!(at(&deep, "/a/0/0"), Ok(None));
    }
}
