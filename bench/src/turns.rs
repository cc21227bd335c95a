//! Several kinds of work timed in turn, so that a machine that slows down meanwhile slows all alike.
//!
//! Criterion times one function for seconds before the next, and on a shared machine their ratio says
//! more about the neighbours than about the code.
//!
//! Neighbours in the list change places in every second round: the first work after a pause wakes disk and
//! processors for the next, which is no difference between the two.

use std::time::Instant;

/// Seconds of every kind of work in every round.
pub struct Turns<const N: usize>(Vec<[f64; N]>);

impl<const N: usize> Turns<N> {
    /// Does all kinds of work `rounds` times, and as often as a tenth of that before anything counts.
    pub fn take(rounds: usize, mut works: [&mut dyn FnMut(); N]) -> Self {
        let mut round = |number: usize| {
            let mut seconds = [0.0; N];
            for place in 0..N {
                let work = Self::at(place, number);
                let start = Instant::now();
                works[work]();
                seconds[work] = start.elapsed().as_secs_f64();
            }
            seconds
        };
        for number in 0..rounds / 10 {
            round(number);
        }
        Self((0..rounds).map(round).collect())
    }

    /// Which work has this place in a round.
    fn at(place: usize, round: usize) -> usize {
        let neighbour = place ^ 1;
        if round % 2 == 1 && neighbour < N {
            neighbour
        } else {
            place
        }
    }

    /// The median over the rounds of what is computed of one round's seconds.
    pub fn median(&self, of: impl Fn(&[f64; N]) -> f64) -> f64 {
        median(self.0.iter().map(of).collect())
    }

    /// The median of one kind of work, in seconds.
    pub fn p50(&self, work: usize) -> f64 {
        self.median(|round| round[work])
    }
}

/// The middle value.
///
/// # Panics
/// Of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn neighbours_change_places_and_the_last_of_an_odd_number_stays() {
        let order = |round| [0, 1, 2, 3, 4].map(|place| Turns::<5>::at(place, round));
        assert_eq!(order(0), [0, 1, 2, 3, 4]);
        assert_eq!(order(1), [1, 0, 3, 2, 4]);
    }

    #[test]
    fn a_tenth_of_the_rounds_warms_up() {
        let (mut one, mut other) = (0, 0);
        let turns = Turns::take(20, [&mut || one += 1, &mut || other += 1]);
        assert!(turns.p50(0) >= 0.0);
        assert_eq!((one, other, turns.0.len()), (22, 22, 20));
    }
}
