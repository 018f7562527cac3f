//! Canonical JSON (RFC 8785), for bodies that can safely be compared by it.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The largest integer that a double, and therefore RFC 8785, can tell from its neighbours.
const MAX_SAFE_INTEGER: u64 = 1 << 53;

/// Returns the canonical form, or `None` if a different body could have the same one.
pub(super) fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    let Distinct(value) = serde_json::from_slice(body).ok()?;
    serde_json_canonicalizer::to_vec(&value).ok()
}

/// A JSON value that fails to parse if canonical JSON would make it equal to a different one.
struct Distinct(Value);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistinctVisitor).map(Self)
    }
}

struct DistinctVisitor;

impl<'de> Visitor<'de> for DistinctVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members or integers beyond 2^53")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        if value > MAX_SAFE_INTEGER {
            return Err(E::custom("integer beyond 2^53"));
        }
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > MAX_SAFE_INTEGER {
            return Err(E::custom("integer beyond 2^53"));
        }
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Integers beyond 64 bits arrive here too.
        if value.abs() > 9_007_199_254_740_992.0 {
            return Err(E::custom("number beyond 2^53"));
        }
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not finite"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Distinct(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Distinct(value))) = map.next_entry::<String, _>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_matter() {
        let one = canonical(br#"{"b":[1.0,"\u00e9"],"a":null}"#).unwrap();
        let other = canonical("{ \"a\": null, \"b\": [1, \"é\"] }".as_bytes()).unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn what_would_become_equal_has_no_canonical_form() {
        for body in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":-9007199254740993}"#,
            r#"{"a":123456789012345678901234567890}"#,
            "not json",
            "",
            "{} {}",
        ] {
            assert_eq!(canonical(body.as_bytes()), None, "{body}");
        }
        assert!(canonical(b"9007199254740992").is_some());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(20_000) + &"]".repeat(20_000);
        assert_eq!(canonical(deep.as_bytes()), None);
    }
}
