//! Calibration: the rate at which unrelated people reach a similarity.
//!
//! A calibration is counted on labelled photographs of one embedder, for each way of scoring by itself: two
//! photographs, a photograph against a stored template of each length, and two stored templates. It says
//! which embedder it belongs to and is refused beside another. Where there is none, the two similarities of
//! the models' manifest stand in, and everything said by them is marked as extrapolated.

pub(crate) mod file;
pub(crate) mod limit;
pub(crate) mod rates;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use self::file::{ScoringCount, document, name};
pub use self::limit::Limit;
pub use self::rates::Rates;
use crate::manifest::{Manifest, StatedRates, mismatch};
use likeness_types::error::Result;
use likeness_types::template::Bits;

/// The calibration of the default models, counted on a tenth of Labeled Faces in the Wild.
pub const DEFAULT_CALIBRATION: &str = include_str!("../calibration.toml");

/// The name of the file beside the models.
pub const CALIBRATION_FILE: &str = "calibration.toml";
use self::CALIBRATION_FILE as FILE;

/// The score of a rate of 1: what any two faces reach.
const SCORE_LEAST: f64 = 20.0;
/// What a power of ten is worth.
const SCORE_DECADE: f64 = 10.0;
/// How much more often several faces together pass at the same similarity than one face does, where it was
/// not counted: 3 to 5 times at 1e-4 (docs/scores.md).
const FUSED_TIMES: f64 = 4.0;
/// The highest score.
const SCORE_MAX: f64 = 100.0;

/// How a similarity came about. Similarities of two scorings do not mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scoring {
    /// The cosine of two photographs.
    Photographs,
    /// A photograph against a stored template.
    Probe(Bits),
    /// Two stored templates.
    Stored(Bits),
    /// A photograph against all stored templates of a person together.
    Fused(Bits),
}

/// What a similarity means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// 20 - 10 log10(far), at most 100.
    pub score: f32,
    /// The part of unrelated pairs that are at least as similar.
    pub far: f64,
    /// `far` lies below what the counted pairs can show, and follows their tail.
    pub extrapolated: bool,
    /// The part of searches for somebody not enrolled that find anybody as similar; of searches only.
    pub fpir: Option<f64>,
}

/// What similarities of one embedder mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    rates: BTreeMap<Scoring, Rates>,
    stand_in: BTreeMap<Scoring, Rates>,
    counted_on: Option<Population>,
}

/// What a calibration was counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Population {
    /// People.
    pub people: u64,
    /// Photographs in which a face was found.
    pub photographs: u64,
    /// Pairs of photographs of two people.
    pub impostor_pairs: u64,
    /// Pairs of photographs of one person.
    pub genuine_pairs: u64,
}

impl Scoring {
    /// Every scoring.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_templates = Bits::ALL
            .into_iter()
            .flat_map(|bits| [Self::Probe(bits), Self::Stored(bits), Self::Fused(bits)]);
        std::iter::once(Self::Photographs).chain(of_templates)
    }

    /// The variance that taking signs adds to the cosine of unrelated faces. Of a sum of m signs times
    /// normal values, as a cosine: (pi/2 - 1) / m; of the angle counted on m pairs of signs: pi^2 / 4 / m.
    fn noise(self) -> f64 {
        use std::f64::consts::{FRAC_PI_2, PI};
        match self {
            Self::Photographs => 0.0,
            Self::Probe(bits) | Self::Fused(bits) => (FRAC_PI_2 - 1.0) / bits.get() as f64,
            Self::Stored(bits) => PI * PI / 4.0 / bits.get() as f64,
        }
    }
}

impl Calibration {
    /// The calibration of a manifest's embedder: `text`, the file beside the models if there is one, or
    /// the one that comes with the default embedder, or the manifest's own two similarities.
    pub(crate) fn of(manifest: &Manifest, text: Option<&str>) -> Result<Self> {
        let (embedder, stated) = (manifest.embedder.blake3, manifest.calibration);
        match text {
            Some(text) => Self::read(embedder, stated, text),
            None if file::parse(DEFAULT_CALIBRATION)?.embedder == embedder => {
                Self::read(embedder, stated, DEFAULT_CALIBRATION)
            }
            None => Ok(Self::stated(stated)),
        }
    }

    /// The text of a calibration of this embedder.
    pub fn read(embedder: blake3::Hash, stated: StatedRates, text: &str) -> Result<Self> {
        let file = file::parse(text)?;
        if file.embedder != embedder {
            return Err(mismatch(FILE, "embedder", embedder, file.embedder));
        }
        Ok(Self {
            rates: file.rates,
            counted_on: Some(file.population),
            ..Self::stated(stated)
        })
    }

    /// Only what the manifest says.
    pub fn stated(StatedRates { far_1e3, far_1e4 }: StatedRates) -> Self {
        let line = |scoring: Scoring| {
            let times = if matches!(scoring, Scoring::Fused(_)) {
                FUSED_TIMES
            } else {
                1.0
            };
            let rates = Rates::of_two_points(far_1e3, far_1e4, scoring.noise(), times);
            (scoring, rates)
        };
        Self {
            rates: BTreeMap::new(),
            stand_in: Scoring::all().map(line).collect(),
            counted_on: None,
        }
    }

    /// What it was counted on; none for the two similarities of a manifest.
    #[cfg(test)]
    pub(crate) fn counted_on(&self) -> Option<Population> {
        self.counted_on
    }

    /// What a similarity means. `searched` faces were compared, where it is the answer to a search.
    pub fn estimate(&self, scoring: Scoring, similarity: f32, searched: Option<u64>) -> Estimate {
        let rates = self.rates(scoring);
        let far = rates.far(similarity);
        Estimate {
            score: score(far),
            far,
            extrapolated: rates.is_extrapolated(far),
            fpir: searched.map(|faces| fpir(far, faces)),
        }
    }

    /// The similarity at which no more than this part of unrelated pairs pass; 1, the greatest there is, where
    /// the tail of a short template's rates does not fall so low.
    pub fn similarity(&self, scoring: Scoring, far: f64) -> f32 {
        self.rates(scoring).similarity(far)
    }

    fn rates(&self, scoring: Scoring) -> &Rates {
        let rates = self.rates.get(&scoring).or_else(|| self.stand_in.get(&scoring));
        rates.expect("every scoring has a stand-in")
    }
}

fn score(far: f64) -> f32 {
    (SCORE_LEAST - SCORE_DECADE * far.log10()).clamp(0.0, SCORE_MAX) as f32
}

/// The rate of a score of 0 to 100; the inverse of [`score`].
fn far_of_score(score: f32) -> f64 {
    10f64
        .powf((SCORE_LEAST - f64::from(score)) / SCORE_DECADE)
        .min(1.0)
}

/// 1 - (1 - far)^faces: as if the comparisons of a search were independent. Those with the faces of one
/// person are not, which makes the true rate lower.
fn fpir(far: f64, faces: u64) -> f64 {
    if faces == 0 {
        return 0.0;
    }
    -((-far).ln_1p() * faces as f64).exp_m1()
}

/// The rate of one comparison that comes to this rate of a search; the inverse of [`fpir`].
fn far_of_fpir(fpir: f64, faces: u64) -> f64 {
    -((-fpir).ln_1p() / faces.max(1) as f64).exp_m1()
}
