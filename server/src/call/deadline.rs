//! When a call must have its answer.

use std::time::Duration;

use tokio::time::Instant;

/// The moment a call is over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The sooner of the client's time and the server's own, from this moment on.
    pub fn within(call_time_max: Duration, asked: Option<Duration>) -> Self {
        let time = asked.map_or(call_time_max, |asked| asked.min(call_time_max));
        Self(Instant::now() + time)
    }
}
