//! The Tarnet Name System: zones, records and their resolution.

mod record;

pub use record::Record;
