//! What could not be delivered is kept, with everything that is needed to see why and to try again.

mod case;
mod cause;
pub mod contract;
mod describe;
mod error;
mod future;
mod http;
mod id;
pub mod json;
mod layer;
mod letter;
mod letters;
mod reason;
mod redaction;
pub mod redrive;
mod service;
pub mod sink;

#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sink::sqlite::SqliteLetters;
pub use self::{
    describe::{Describe, DescribeAnswer, DescribeFn, describe_fn},
    error::{Buried, CallError, LetterLost},
    future::ResponseFuture,
    http::HttpRequests,
    id::{LetterId, NotAnId},
    layer::DeadLetterLayer,
    letter::{Cause, Direction, Letter, LetterBody},
    letters::{DeadLetters, LetterEnd, NotWritten},
    reason::Reason,
    redaction::Redaction,
    service::DeadLetter,
    sink::{
        Cursor, Discarded, Filter, LetterClaim, LetterStore, Listing, NotACursor, Page, Sink,
        SinkError, SinkErrorKind, Summary,
        callback::{CallbackForm, CallbackSink},
        jsonl::JsonlLetters,
        memory::MemoryLetters,
    },
};
