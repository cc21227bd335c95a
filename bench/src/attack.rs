//! The score as an oracle: an attacker with the distribution of faces compares with a person until the face is known.
//!
//! The attacker knows everything but the person's template and the projection key: the models, the population
//! (`population.rs`), the thresholds, the limits. Each channel is a file of its own; what is learnt by an answer, and which
//! question says most, is in `knowledge`.

pub mod baselines;
mod batch;
mod gauss;
pub mod honest;
pub mod knowledge;
pub mod pairing;
pub mod rules;
pub mod searching;
pub mod verifying;
pub mod victim;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The same for each of so many people, on all cores; in their order.
pub fn each<T: Send>(people: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let (next, cores) = (
        AtomicU64::new(0),
        thread::available_parallelism().map_or(1, |n| n.get()),
    );
    let some = || {
        let mut done = Vec::new();
        loop {
            let person = next.fetch_add(1, Ordering::Relaxed);
            if person >= people {
                return done;
            }
            done.push((person, work(person)));
        }
    };
    let mut done: Vec<(u64, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(some)).collect();
        let done = threads
            .into_iter()
            .map(|thread| thread.join().expect("no attack panics"));
        done.flatten().collect()
    });
    done.sort_unstable_by_key(|(person, _)| *person);
    done.into_iter().map(|(_, result)| result).collect()
}
