//! Recorders that write to somebody else's metrics.

mod facade;
mod names;

pub use self::facade::{FacadeRecorder, FacadeRecorderBuilder, FacadeSeries};
