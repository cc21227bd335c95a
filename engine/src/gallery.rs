//! The people of a collection.

mod flat;
pub(crate) mod index;
mod scan;
mod top;
