//! Faces of synthetic people, as similar to each other as faces of real people.
//!
//! Random bits are no measure of a search: real faces have look-alikes. A person here is drawn from the
//! mean and the covariances of real embeddings (`data/population.bin`, made by `scripts/population.py`),
//! and so are that person's photographs:
//!
//! > person = mean + N(0, between); photograph = person + s N(0, within), s = exp(-0.1 + 0.4 N(0, 1))
//!
//! normalised. Every person and photograph follows from the seed and its numbers alone, in any order.

use likeness_engine::Embedding;
use likeness_engine::bench::embedding;

/// Values of an embedding.
pub const DIM: usize = 512;

const FILE: &[u8] = include_bytes!("../data/population.bin");
const MAGIC: &[u8; 8] = b"LKPOP\x00\x00\x01";

/// The statistics, and a seed.
pub struct Population {
    mean: Vec<f32>,
    /// Rows whose sum of outer products is a covariance, `[rank][DIM]`.
    between: Vec<[f32; DIM]>,
    within: Vec<[f32; DIM]>,
    seed: u64,
}

/// Somebody, by number.
pub type Person = u64;

impl Population {
    /// The same seed gives the same people.
    ///
    /// # Panics
    /// On a file that its script did not write.
    pub fn new(seed: u64) -> Self {
        let mut file = Reader(FILE);
        assert_eq!(&file.take::<8>(), MAGIC, "data/population.bin is of this format");
        let [dim, rank] = [(); 2].map(|()| u32::from_le_bytes(file.take()) as usize);
        assert_eq!(dim, DIM);
        Self {
            mean: (0..dim).map(|_| file.float()).collect(),
            between: (0..rank).map(|_| file.row()).collect(),
            within: (0..rank).map(|_| file.row()).collect(),
            seed,
        }
    }

    /// One photograph of a person.
    pub fn photograph(&self, person: Person, photograph: u64) -> Embedding {
        embedding(self.values(person, photograph))
    }

    /// The features of that photograph, of unit length, for peers that take floats.
    pub fn unit_values(&self, person: Person, photograph: u64) -> Vec<f32> {
        let mut values = self.values(person, photograph);
        let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= length);
        values
    }

    /// What all faces have in common.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Vectors that span how faces differ.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.between.iter().chain(&self.within).map(|row| &row[..])
    }

    /// The covariance of photographs, of whomever, times a vector.
    pub fn covariance_times(&self, vector: &[f32]) -> Vec<f32> {
        let mut product = vec![0.0; DIM];
        // The mean of the square of a photograph's spread: exp(-0.2 + 2 * 0.4^2).
        for (rows, scale) in [(&self.between, 1.0), (&self.within, (-0.2f32 + 0.32).exp())] {
            for row in rows {
                let part = scale * row.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
                product
                    .iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += part * value);
            }
        }
        product
    }

    /// The features of that photograph, of any length.
    pub fn values(&self, person: Person, photograph: u64) -> Vec<f32> {
        let mut values = self.mean.clone();
        let mut draw = Normals::new(&[self.seed, person]);
        add(&mut values, &self.between, 1.0, &mut draw);
        let mut draw = Normals::new(&[self.seed, person, photograph + 1]);
        let spread = (0.4 * draw.next() - 0.1).exp();
        add(&mut values, &self.within, spread, &mut draw);
        values
    }
}

fn add(values: &mut [f32], rows: &[[f32; DIM]], scale: f32, draw: &mut Normals) {
    for row in rows {
        let weight = scale * draw.next();
        for (value, part) in values.iter_mut().zip(row) {
            *value += weight * part;
        }
    }
}

struct Reader(&'static [u8]);

impl Reader {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("data/population.bin is whole");
        self.0 = rest;
        *taken
    }

    fn float(&mut self) -> f32 {
        f32::from_le_bytes(self.take())
    }

    fn row(&mut self) -> [f32; DIM] {
        let scale = self.float();
        std::array::from_fn(|_| f32::from(i16::from_le_bytes(self.take())) * scale)
    }
}

/// Normally distributed numbers: Marsaglia's polar method over SplitMix64.
pub struct Normals {
    state: u64,
    spare: Option<f32>,
}

impl Normals {
    /// The same names give the same numbers.
    pub fn new(names: &[u64]) -> Self {
        let mut state = 0;
        for name in names {
            state = mix(state ^ mix(*name));
        }
        Self { state, spare: None }
    }

    /// From -1 to 1.
    pub fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        // 24 bits are as many as an f32 holds.
        (mix(self.state) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// From 0 on, below a count that is no larger than 24 bits hold.
    pub fn below(&mut self, count: usize) -> usize {
        let part = f64::from(self.uniform() + 1.0) / 2.0;
        ((part * count as f64) as usize).min(count - 1)
    }

    /// The next one: mean 0, variance 1.
    #[allow(clippy::should_implement_trait, reason = "there is always a next one")]
    pub fn next(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (self.uniform(), self.uniform());
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let length = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * length);
                return x * length;
            }
        }
    }
}

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantile(sorted: &[f32], part: f64) -> f32 {
        sorted[((sorted.len() - 1) as f64 * part).round() as usize]
    }

    fn cosines(pairs: impl Iterator<Item = ((u64, u64), (u64, u64))>) -> Vec<f32> {
        let population = Population::new(1);
        let photograph = |(person, photograph)| population.photograph(person, photograph);
        let mut cosines: Vec<_> = pairs.map(|(a, b)| photograph(a).cosine(photograph(b))).collect();
        cosines.sort_unstable_by(f32::total_cmp);
        cosines
    }

    #[test]
    fn people_and_photographs_follow_from_their_numbers_alone() {
        let (one, same) = (Population::new(7), Population::new(7));
        assert_eq!(one.values(3, 0), same.values(3, 0));
        assert_ne!(one.values(3, 0), one.values(3, 1));
        assert_ne!(one.values(3, 0), one.values(4, 0));
        assert_ne!(one.values(3, 0), Population::new(8).values(3, 0));
    }

    #[test]
    fn photographs_of_one_person_are_as_alike_as_real_ones() {
        let cosines = cosines((0..4000).map(|person| ((person, 0), (person, 1))));
        // The model's own quantiles, of the statistics in full precision.
        for (part, expected) in [
            (0.01, 0.35),
            (0.05, 0.46),
            (0.5, 0.70),
            (0.95, 0.87),
            (0.99, 0.91),
        ] {
            let found = quantile(&cosines, part);
            assert!(
                (found - expected).abs() < 0.03,
                "{part}: {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn people_have_look_alikes_as_real_ones_do() {
        let cosines = cosines((0..20_000).map(|person| ((2 * person, 0), (2 * person + 1, 0))));
        for (part, expected) in [(0.01, -0.22), (0.99, 0.23), (0.999, 0.30)] {
            let found = quantile(&cosines, part);
            assert!(
                (found - expected).abs() < 0.03,
                "{part}: {found}, expected {expected}"
            );
        }
    }
}
