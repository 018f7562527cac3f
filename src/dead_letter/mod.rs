//! What could not be delivered is kept, with everything that is needed to see why and to try again.

pub mod contract;
mod id;
pub mod json;
mod letter;
mod letters;
mod reason;
pub mod redrive;
pub mod sink;

#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sink::sqlite::SqliteLetters;
pub use self::{
    id::{LetterId, NotAnId},
    letter::{Cause, Direction, Letter, LetterBody},
    letters::{DeadLetters, LetterEnd, NotWritten},
    reason::Reason,
    sink::{
        Cursor, Discarded, Filter, LetterClaim, LetterStore, Listing, NotACursor, Page, Sink,
        SinkError, SinkErrorKind, Summary,
        callback::{CallbackForm, CallbackSink},
        jsonl::JsonlLetters, memory::MemoryLetters,
    },
};
