//! The one way from a handler to blocking work: a bounded number at work, a bounded number waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use likeness_engine::{Call, Step};
use tokio::sync::{Semaphore, TryAcquireError};

use crate::status::Refusal;

/// Lets a bounded number of calls do blocking work at once.
#[derive(Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

impl Gate {
    /// A gate for `working_max` calls at work and `waiting_max` more that wait.
    pub fn new(working_max: usize, waiting_max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(working_max)),
            waiting: Arc::new(AtomicUsize::new(0)),
            waiting_max,
        }
    }

    /// Calls that wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Runs `work` on a blocking thread, never on the async ones. The time spent waiting is added to
    /// the call's steps.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at once when too many wait already, unless `patient`; otherwise what `work` answers.
    pub async fn pass<T: Send + 'static>(
        &self,
        mut call: Call,
        patient: bool,
        work: impl FnOnce(&mut Call) -> Result<T, Refusal> + Send + 'static,
    ) -> (Call, Result<T, Refusal>) {
        let arrived = Instant::now();
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return (call, Err(Refusal::Busy)),
            Err(TryAcquireError::NoPermits) => {
                let place = Place::take(self);
                if place.is_none() && !patient {
                    return (call, Err(Refusal::Busy));
                }
                match Arc::clone(&self.permits).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => return (call, Err(Refusal::Busy)),
                }
            }
        };
        call.add(Step::Queue, arrived.elapsed());
        let worked = tokio::task::spawn_blocking(move || {
            // The permit goes back only when the work is over, even if its caller went away earlier.
            let _permit = permit;
            let answer = work(&mut call);
            (call, answer)
        });
        match worked.await {
            Ok(worked) => worked,
            // The panic's own message may hold anything, so it is not passed on.
            Err(_) => (Call::default(), Err(Refusal::Panicked)),
        }
    }
}

/// A place among those who wait, given back on drop.
struct Place<'a>(&'a Gate);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Option<Self> {
        let place = Self(gate);
        (gate.waiting.fetch_add(1, Ordering::AcqRel) < gate.waiting_max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn whoever_finds_the_queue_full_is_refused_at_once_and_the_others_are_served() {
        let gate = Gate::new(1, 1);
        let (release, held) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let gate = gate.clone();
            async move {
                gate.pass(Call::default(), false, move |_| Ok(held.recv().is_ok()))
                    .await
                    .1
            }
        });
        while gate.permits.available_permits() == 1 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass(Call::default(), false, |_| Ok(2)).await.1 }
        });
        while gate.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let third = gate.pass(Call::default(), false, |_| Ok(3)).await.1;
        assert!(matches!(third, Err(Refusal::Busy)));
        release.send(()).expect("the first waits");
        assert!(matches!(first.await, Ok(Ok(true))));
        assert!(matches!(second.await, Ok(Ok(2))));
    }

    #[tokio::test]
    async fn a_panic_in_the_work_refuses_its_call_and_no_other() {
        let gate = Gate::new(1, 1);
        let refused = gate
            .pass(Call::default(), false, |_| -> Result<(), Refusal> {
                panic!("on purpose")
            })
            .await
            .1;
        assert!(matches!(refused, Err(Refusal::Panicked)));
        assert!(matches!(
            gate.pass(Call::default(), false, |_| Ok(1)).await.1,
            Ok(1)
        ));
    }
}
