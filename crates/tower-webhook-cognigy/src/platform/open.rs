//! Open objects and open enums: what is documented has a type, and what is not survives.

use serde::de::{Deserialize, DeserializeOwned, Error, MapAccess};
use serde_json::{Map, Value};

/// An enum of documented names, and `Other` for the rest.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$meta])*
        ///
        /// An open enum, because the platform may add more.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* #[doc = concat!("`", $text, "`.")] $variant,)+
            /// Any other, as it is written. It comes from the peer, so it must not be a metric label.
            Other(Box<str>),
        }

        impl $name {
            /// The spelling on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str>>::deserialize(from).map(|text| Self::from(&*text))
            }
        }
    };
}
pub(super) use open_enum;

/// A struct with documented fields, and `other` for the rest, that is written back as it was read.
///
/// The fields in `required { .. }` must be there. The others are optional, because documents and the outputs of
/// real flows differ in what they leave out. A `null` stays in `other`, so that it is written back as `null`
/// until the field is set. `Debug` names the fields that are present, and never shows a value.
///
/// With `lenient` before it, an optional field that does not fit its type is in `other` too: one field of one item then
/// loses no page of a list. Without it, it is an error.
macro_rules! open_struct {
    (
        @$optional:ident
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(required { $($(#[$required_meta:meta])* pub $required:ident: $required_type:ty = $required_key:literal,)+ })?
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $key:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $($($(#[$required_meta])* #[doc = concat!("`", $required_key, "`, required.")] pub $required: $required_type,)+)?
            $($(#[$field_meta])* #[doc = concat!("`", $key, "`.")] pub $field: Option<$type>,)*
            /// The fields without a type, and those whose value is not of their type, such as `null`.
            pub other: serde_json::Map<String, serde_json::Value>,
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut fields = f.debug_struct(stringify!($name));
                $($(fields.field(stringify!($required), &format_args!("_"));)+)?
                $(if self.$field.is_some() {
                    fields.field(stringify!($field), &format_args!("_"));
                })*
                fields.finish_non_exhaustive()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = to.serialize_map(None)?;
                $($(map.serialize_entry($required_key, &self.$required)?;)+)?
                $(if let Some(value) = &self.$field {
                    map.serialize_entry($key, value)?;
                })*
                for (key, value) in &self.other {
                    let is_written = match key.as_str() {
                        $($($required_key => true,)+)?
                        $($key => self.$field.is_some(),)*
                        _ => false,
                    };
                    if !is_written {
                        map.serialize_entry(key, value)?;
                    }
                }
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Fields;

                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        $($(let mut $required = None;)+)?
                        $(let mut $field = None;)*
                        let mut other = serde_json::Map::new();
                        while let Some(key) = map.next_key::<String>()? {
                            match key.as_str() {
                                $($($required_key => {
                                    $crate::platform::open::required(&mut map, $required_key, &mut $required)?;
                                })+)?
                                $($key => $crate::platform::open::$optional(&mut map, $key, &mut $field, &mut other)?,)*
                                _ => $crate::platform::open::keep(&mut map, key, &mut other)?,
                            }
                        }
                        Ok($name {
                            $($($required: $required
                                .ok_or_else(|| serde::de::Error::missing_field($required_key))?,)+)?
                            $($field,)*
                            other,
                        })
                    }
                }

                from.deserialize_map(Fields)
            }
        }
    };
    (lenient $($of:tt)*) => { open_struct! { @lenient $($of)* } };
    ($($of:tt)*) => { open_struct! { @optional $($of)* } };
}
pub(super) use open_struct;

/// Reads a required field.
pub(super) fn required<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    key: &'static str,
    field: &mut Option<T>,
) -> Result<(), A::Error> {
    if field.is_some() {
        return Err(A::Error::duplicate_field(key));
    }
    *field = Some(map.next_value()?);
    Ok(())
}

/// Reads an optional field; a `null` goes to `other`.
pub(super) fn optional<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    key: &'static str,
    field: &mut Option<T>,
    other: &mut Map<String, Value>,
) -> Result<(), A::Error> {
    if field.is_some() || other.contains_key(key) {
        return Err(A::Error::duplicate_field(key));
    }
    *field = map.next_value()?;
    if field.is_none() {
        other.insert(key.to_owned(), Value::Null);
    }
    Ok(())
}

/// Reads an optional field; what does not fit goes to `other`.
pub(super) fn lenient<'de, A: MapAccess<'de>, T: DeserializeOwned>(
    map: &mut A,
    key: &'static str,
    field: &mut Option<T>,
    other: &mut Map<String, Value>,
) -> Result<(), A::Error> {
    if field.is_some() || other.contains_key(key) {
        return Err(A::Error::duplicate_field(key));
    }
    let value: Value = map.next_value()?;
    *field = T::deserialize(&value).ok();
    if field.is_none() {
        other.insert(key.to_owned(), value);
    }
    Ok(())
}

/// Keeps a field without a type.
pub(super) fn keep<'de, A: MapAccess<'de>>(
    map: &mut A,
    key: String,
    other: &mut Map<String, Value>,
) -> Result<(), A::Error> {
    if other.contains_key(&key) {
        return Err(A::Error::custom("duplicate field"));
    }
    let value = map.next_value()?;
    other.insert(key, value);
    Ok(())
}
