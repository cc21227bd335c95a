//! The one way from a handler to blocking work: a bounded number at work, a bounded time to wait for it.
//!
//! Calls wait in a line of their account's own, and the next turn is that of the account which has had the least
//! time ([`lines`]): however many calls one account sends, and however much work is in each, another's next call is
//! served after one step of them. A call that computes gives its place away between two steps where another account
//! goes first, and between two photographs where any call does. A call that would wait too long, by what turns took
//! of late, is refused at once, so that those that are accepted stay fast however many come (as CoDel does, at the
//! door instead of inside: nothing that was accepted is thrown away later).

mod lines;
mod places;
mod room;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;
use std::time::Instant;

use likeness_engine::{Call, Step, wipe_stack};

use self::places::Entered;
pub use self::places::Gate;
pub use self::room::{Arrival, Room};
pub use self::turn::Turn;
use self::turn::Working;
use crate::refusal::Refusal;

impl Gate {
    /// Runs `work` on a blocking thread, never on the async ones. The time spent waiting is added to
    /// the call's steps.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at once when the call would wait too long; otherwise what `work` answers.
    pub async fn pass<T: Send + 'static>(
        &self,
        mut call: Call,
        arrival: Arrival,
        work: impl FnOnce(&mut Call, &Turn) -> Result<T, Refusal> + Send + 'static,
    ) -> (Call, Result<T, Refusal>) {
        let arrived = Instant::now();
        let permit = match self.arrive(&arrival) {
            Ok(Entered::Now(permit)) => permit,
            Ok(Entered::Waits(place)) => place.permit().await,
            Err(refusal) => return (call, Err(refusal)),
        };
        call.add(Step::Queue, arrived.elapsed());
        let worked = tokio::task::spawn_blocking(move || {
            let turn = Turn::new(permit, arrival.turns);
            // The place goes back only when the work is over, even if its caller went away earlier.
            let working = Working(turn.clone());
            call.compute_by(Some(Arc::new(turn.clone())));
            let answer = work(&mut call, &turn);
            call.compute_by(None);
            drop(working);
            wipe_stack();
            (call, answer)
        });
        match worked.await {
            Ok(worked) => worked,
            // The panic's own message may hold anything, so it is not passed on.
            Err(_) => (Call::default(), Err(Refusal::Panicked)),
        }
    }
}
