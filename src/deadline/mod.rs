//! A total deadline that everything inside can read.

mod current;

pub use self::current::Deadline;
