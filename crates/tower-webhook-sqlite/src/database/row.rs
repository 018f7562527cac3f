use super::{DatabaseError, DatabaseErrorKind, Value};
use bytes::Bytes;
use std::sync::Arc;

/// One row of a result.
///
/// # Examples
///
/// ```
/// # use tower_webhook_sqlite::database::{Database, DatabaseError, Statement};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_webhook::BoxError> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let database = Database::open(dir.path().join("rows.db")).unwrap();
/// let rows = database.query(Statement::new("SELECT 1 AS id, 'paid' AS state, NULL AS error")).await?;
///
/// assert_eq!(rows[0].get::<i64>("id")?, 1);
/// assert_eq!(rows[0].get::<String>(1)?, "paid");
/// assert_eq!(rows[0].get::<Option<String>>("error")?, None);
/// assert!(rows[0].get::<i64>("state").is_err()); // it is text
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Shared by the rows of a result.
    columns: Arc<[Box<str>]>,
    values: Box<[Value]>,
}

impl Row {
    pub(super) fn new(columns: Arc<[Box<str>]>, values: Box<[Value]>) -> Self {
        Self { columns, values }
    }

    /// The value of a column, by its index (from 0) or its name.
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Mistyped`] if there is no such column, or its value has another type or
    /// is out of range.
    pub fn get<T: FromValue>(&self, column: impl sealed::Column) -> Result<T, DatabaseError> {
        let value = column
            .find(&self.columns)
            .and_then(|at| self.values.get(at));
        let Some(value) = value else {
            return Err(DatabaseError::caused(
                DatabaseErrorKind::Mistyped,
                format!("there is no column {}", column.describe()),
            ));
        };
        T::from_value(value).ok_or_else(|| {
            DatabaseError::caused(
                DatabaseErrorKind::Mistyped,
                format!("column {} holds {}", column.describe(), value.type_name()),
            )
        })
    }

    /// The names of the columns.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &str> {
        self.columns.iter().map(AsRef::as_ref)
    }

    /// The values, in the order of the columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Converts the row into its values.
    pub fn into_values(self) -> Vec<Value> {
        self.values.into_vec()
    }
}

/// The trait cannot be named outside, so nobody else implements it.
mod sealed {
    /// The index of a column, from 0, or its name.
    pub trait Column: Copy {
        fn find(&self, names: &[Box<str>]) -> Option<usize>;
        fn describe(&self) -> String;
    }

    impl Column for usize {
        fn find(&self, _names: &[Box<str>]) -> Option<usize> {
            Some(*self)
        }

        fn describe(&self) -> String {
            self.to_string()
        }
    }

    impl Column for &str {
        fn find(&self, names: &[Box<str>]) -> Option<usize> {
            names.iter().position(|name| **name == **self)
        }

        fn describe(&self) -> String {
            format!("`{self}`")
        }
    }
}

/// A type that [`Row::get`] can read.
pub trait FromValue: Sized {
    /// Reads `value`. `None` if it has another type or is out of range.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Integer(integer) => Self::try_from(*integer).ok(),
                    _ => None,
                }
            }
        }
    )+};
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64, usize);

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            _ => None,
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Real(real) => Some(*real),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for Bytes {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(blob) => Some(blob.clone()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(blob) => Some(blob.to_vec()),
            _ => None,
        }
    }
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}
