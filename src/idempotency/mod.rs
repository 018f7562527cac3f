//! Run the handler once per key, and give repeats the stored answer.

pub mod contract;
mod key;
pub mod store;

#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use self::store::sqlite::SqliteStore;
pub use self::{
    key::{Key, KeyError, MAX_ID_LEN, MAX_SCOPE_LEN},
    store::{Begin, Fingerprint, Settled, Store, StoreError, StoreErrorKind, Token},
};
