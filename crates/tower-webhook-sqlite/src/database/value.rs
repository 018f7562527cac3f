use bytes::Bytes;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use std::fmt;

/// A value in a database, as statements bind and rows contain it.
///
/// `Debug` shows the type and length of text and blobs, not their content, which may be private.
///
/// # Examples
///
/// ```
/// use tower_webhook_sqlite::database::Value;
///
/// assert_eq!(Value::from("text"), Value::Text("text".to_owned()));
/// assert_eq!(Value::from(7_u32), Value::Integer(7));
/// assert_eq!(Value::from(None::<i64>), Value::Null);
/// ```
#[derive(Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A signed integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Bytes),
}

impl Value {
    /// The name of its type in SQLite.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Integer(_) => "INTEGER",
            Self::Real(_) => "REAL",
            Self::Text(_) => "TEXT",
            Self::Blob(_) => "BLOB",
        }
    }

    pub(super) fn read(value: ValueRef<'_>) -> rusqlite::Result<Self> {
        Ok(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(integer) => Self::Integer(integer),
            ValueRef::Real(real) => Self::Real(real),
            ValueRef::Text(text) => Self::Text(
                std::str::from_utf8(text)
                    .map_err(|error| rusqlite::Error::Utf8Error(0, error))?
                    .to_owned(),
            ),
            ValueRef::Blob(blob) => Self::Blob(Bytes::copy_from_slice(blob)),
        })
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Integer(integer) => write!(f, "Integer({integer})"),
            Self::Real(real) => write!(f, "Real({real})"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Blob(blob) => write!(f, "Blob({} bytes)", blob.len()),
        }
    }
}

/// Binds a value without copying it. Private, because the trait belongs to the driver.
pub(super) struct Bound<'a>(pub(super) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl From<$type> for Value {
            fn from(integer: $type) -> Self {
                Self::Integer(i64::from(integer))
            }
        }
    )+};
}

// Not `u64` and `usize`: the upper half of their range does not fit.
integer!(bool, i8, i16, i32, i64, u8, u16, u32);

impl From<f64> for Value {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(blob: &[u8]) -> Self {
        Self::Blob(Bytes::copy_from_slice(blob))
    }
}

impl From<Vec<u8>> for Value {
    fn from(blob: Vec<u8>) -> Self {
        Self::Blob(blob.into())
    }
}

impl From<Bytes> for Value {
    fn from(blob: Bytes) -> Self {
        Self::Blob(blob)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
