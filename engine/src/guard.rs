//! What stands between a call and the people: how often a person may be compared, and what was done under an idempotency
//! token.

pub(crate) mod comparison_limiter;
pub(crate) mod idempotency;
