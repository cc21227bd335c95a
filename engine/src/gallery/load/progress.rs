//! How far a start is, for the log.

use std::time::{Duration, Instant};

/// Counts what was read, and says so now and then.
pub(super) struct Progress {
    read: usize,
    /// About.
    of: usize,
    next: Instant,
}

impl Progress {
    /// A line of the log this often.
    const EVERY: Duration = Duration::from_secs(1);
    /// The clock is asked once in so many records.
    const LOOK: usize = 1024;

    pub fn of(records: usize) -> Self {
        Self {
            read: 0,
            of: records,
            next: Instant::now() + Self::EVERY,
        }
    }

    pub fn one_more(&mut self) {
        self.read += 1;
        if self.read.is_multiple_of(Self::LOOK) && Instant::now() >= self.next {
            tracing::info!(read = self.read, about = self.of, "reading people");
            self.next = Instant::now() + Self::EVERY;
        }
    }
}
