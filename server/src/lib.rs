//! Likeness, the service.

pub mod plot;
