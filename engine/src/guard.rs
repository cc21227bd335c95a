//! What stands between a call and the people: how often a person may be compared, and what was done under a token.

pub(crate) mod comparison_limiter;
pub(crate) mod once;
mod replay;
pub(crate) mod tokens;
