//! The sweeps of expired persons and of expired idempotency tokens.

use std::sync::Arc;
use std::time::Duration;

use crate::gallery::commit::Writer;
use crate::people::expire::Eraser;
use likeness_store::retention::{Lane, Pace, Progress, Registry, Sweep};
use likeness_types::error::Result;
use likeness_types::person::Timestamp;

/// The longest pause after a failure. A store that failed takes no writes until it is opened again, and every retry is a
/// line in the server's log.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// From one sweep of the tokens to the next, and between the parts of one, so that no change waits long.
const TOKENS_INTERVAL: Duration = Duration::from_secs(3600);
const TOKENS_PAUSE: Duration = Duration::from_millis(100);

/// Registers both; persons are swept after each `look`.
pub(super) fn register(registry: &Registry, eraser: &Arc<Eraser>, look: Duration) {
    registry.register(Box::new(ExpiredPersons {
        eraser: Arc::clone(eraser),
        look,
    }));
    registry.register(Box::new(ExpiredTokens {
        writer: Arc::clone(&eraser.writer),
        after: Vec::new(),
    }));
}

struct ExpiredPersons {
    eraser: Arc<Eraser>,
    look: Duration,
}

impl Sweep for ExpiredPersons {
    fn class(&self) -> &'static str {
        "expired_persons"
    }

    fn pace(&self) -> Pace {
        pace(self.look)
    }

    /// An expiry may be changed until its erasure is planned, so the time is read anew there, from the same clock.
    fn sweep(&mut self, _now: Timestamp) -> Result<Progress> {
        Ok(match self.eraser.erase_some()? {
            0 => Progress::Done,
            _ => Progress::More(Duration::ZERO),
        })
    }
}

struct ExpiredTokens {
    writer: Arc<Writer>,
    /// The last key of the part before.
    after: Vec<u8>,
}

impl Sweep for ExpiredTokens {
    fn class(&self) -> &'static str {
        "idempotency_tokens"
    }

    fn pace(&self) -> Pace {
        pace(TOKENS_INTERVAL)
    }

    fn sweep(&mut self, _now: Timestamp) -> Result<Progress> {
        let after = self.after.clone();
        // ORDER: while no change runs. A call under an expired token writes the row anew, and between the look at the row
        // and its deletion that row would be lost.
        let last = self
            .writer
            .alone(move |storage| storage.tokens.sweep_tokens(&after))?;
        self.after = last.unwrap_or_default();
        Ok(match self.after.is_empty() {
            true => Progress::Done,
            false => Progress::More(TOKENS_PAUSE),
        })
    }
}

fn pace(interval: Duration) -> Pace {
    Pace {
        lane: Lane::Short,
        interval: Some(interval),
        wake_delay: Duration::ZERO,
        retry_max: RETRY_MAX,
    }
}
