//! A calibration, counted on labelled photographs, and how far it can be trusted.
//!
//! Trials are not independent: a photograph takes part in many pairs, and a person in more. So intervals are
//! computed by drawing people again, not pairs; and the test is on people outside the calibration.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::path::Path;

use serde::Serialize;

use super::bootstrap::{Bootstrap, Interval};
use super::curve::Tally;
use super::several::{SeveralFaces, fused, several_faces};
use super::{Evaluator, KEYS_CONTEXT, Photograph, Sample, on_all_cores, photographs};
use crate::calibration::{Calibration, Population, Rates, Scoring, ScoringCount, document, name};
use crate::pipeline::protect::Protector;
use crate::pipeline::{Looks, Pipeline};
use likeness_types::Inside;
use likeness_types::error::{RequestError, Result};
use likeness_types::template::{Bits, Probe, Template};

/// A rate is shown by 30 pairs that pass at least (Doddington's rule of 30: the true rate then lies within
/// 30 % of the counted one, with 90 % confidence, if trials are independent).
const RULE_OF: f64 = 30.0;
/// The tail is fitted to so many times more pairs than that.
const TAIL_PAIRS: f64 = 10.0;
/// Fewer impostor pairs show nothing: 30 of them pass at a rate of 1e-2.
const PAIRS_MIN: u64 = 3000;
/// The rates of a report.
const REPORTED: [f64; 4] = [1e-2, 1e-3, 1e-4, 1e-5];
/// The rates that are tested on other people.
const TESTED: [f64; 2] = [1e-3, 1e-4];

/// What to calibrate, and on what.
pub struct Calibrator<'a> {
    /// The pipeline that is measured.
    pub pipeline: &'a Pipeline,
    /// Lengths of templates.
    pub bits: Vec<Bits>,
    /// Projection keys to pool.
    pub keys: NonZeroU8,
    /// Also calibrate on one half of the people and test on the other, both ways.
    pub holdout: bool,
    /// Photographs done and photographs in all, told after each one, from several threads.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

/// The outcome, as it is printed for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct CalibrationReport {
    /// Photographs in the folder.
    pub photographs: usize,
    /// People in the folder.
    pub people: usize,
    /// Photographs that gave no embedding; the figures are about the others.
    pub not_detected: usize,
    /// Pairs of photographs of two people.
    pub impostor_pairs: u64,
    /// Pairs of photographs of one person.
    pub genuine_pairs: u64,
    /// The least false accept rate that so many pairs can show.
    pub supported_far: f64,
    /// Each scoring by itself.
    pub scorings: Vec<ScoringReport>,
    /// What the calibration of one stored face comes to for people with several.
    pub several_faces: Vec<SeveralFaces>,
    /// The calibration, to be kept as `calibration.toml`.
    #[serde(skip)]
    pub document: String,
}

/// The figures of one scoring.
#[derive(Debug, Clone, Serialize)]
pub struct ScoringReport {
    /// As in `probe-1024`.
    pub scoring: String,
    /// Similarities at stated rates.
    pub rates: Vec<RateReport>,
    /// The test on people who had no part in the calibration; empty without it.
    pub holdout: Vec<HeldOut>,
}

/// What a false accept rate comes to. Intervals are of 95 %, by drawing people again.
#[derive(Debug, Clone, Serialize)]
pub struct RateReport {
    /// The false accept rate.
    pub far: f64,
    /// The similarity at which it is met.
    pub similarity: f32,
    /// Whether it lies beyond what the pairs can show.
    pub extrapolated: bool,
    /// Of `similarity`; none where extrapolated.
    pub similarity_interval: Option<Interval>,
    /// Of the rate at `similarity`; none where extrapolated.
    pub far_interval: Option<Interval>,
    /// Of pairs of one person, those that pass.
    pub tar: f64,
    /// Of `tar`.
    pub tar_interval: Interval,
}

/// A rate tested on other people: each half's similarity on the other half.
#[derive(Debug, Clone, Serialize)]
pub struct HeldOut {
    /// The rate that was asked for.
    pub stated: f64,
    /// The rate of both halves together.
    pub measured: f64,
    /// The greater of the two through the other.
    pub factor: f64,
    /// The rate of each half by the other's similarity.
    pub measured_by_half: [f64; 2],
    /// Pairs of photographs in the test.
    pub pairs: u64,
}

/// The similarities of a pair of samples, by their indices; several where either may be the stored one, and
/// under several keys.
type Scores<'a> = dyn Fn(usize, usize, &mut dyn FnMut(f32)) + Sync + 'a;

/// What all scorings are counted on.
struct People<'a> {
    samples: &'a [Sample],
    /// Whose calibration is tested on the others, by sample.
    halves: [Vec<usize>; 2],
    all: Vec<usize>,
    bootstrap: Bootstrap,
    holdout: bool,
}

impl Calibrator<'_> {
    /// Calibrates on `<dir>/<person>/<photograph>`, as [`Evaluator::run`] measures.
    ///
    /// # Errors
    /// As there; and [`RequestError::Invalid`] with fewer than 3,000 impostor pairs, which show nothing.
    pub fn run(&self, dir: &Path) -> Result<CalibrationReport> {
        let (photographs, people) = photographs(dir)?;
        let evaluator = Evaluator {
            pipeline: self.pipeline,
            bits: Bits::default(),
            keys: self.keys,
            stored: Looks::Plain,
            progress: self.progress,
        };
        let (samples, _) = evaluator.samples(&photographs)?;
        let population = population(&samples);
        if population.genuine_pairs == 0 || population.impostor_pairs < PAIRS_MIN {
            let found = format!("{} impostor pairs", population.impostor_pairs);
            let expected =
                "<person>/<photograph> with 3,000 pairs of two people at least, and one of one person";
            return Err(RequestError::invalid("directory", expected, found).into());
        }
        let people_of = People::new(&photographs, &samples, self.holdout);
        let (counts, scorings, several_faces) = self.scorings(&people_of)?;
        Ok(CalibrationReport {
            photographs: photographs.len(),
            people,
            not_detected: photographs.len() - samples.len(),
            impostor_pairs: population.impostor_pairs,
            genuine_pairs: population.genuine_pairs,
            supported_far: RULE_OF / population.impostor_pairs as f64,
            scorings,
            several_faces,
            document: document(self.pipeline.embedder_digest(), population, &counts),
        })
    }

    fn scorings(
        &self,
        people: &People<'_>,
    ) -> Result<(Vec<ScoringCount>, Vec<ScoringReport>, Vec<SeveralFaces>)> {
        let samples = people.samples;
        let cosine = |i: usize, j: usize, add: &mut dyn FnMut(f32)| {
            add(samples[i]
                .embedding
                .values(Inside)
                .dot(&samples[j].embedding.values(Inside)));
        };
        let (mut several, mut together) = (Vec::new(), Vec::new());
        let mut done = vec![people.count(Scoring::Photographs, &cosine)?];
        for bits in &self.bits {
            let protected = self.protected(*bits, samples);
            let probe = |i: usize, j: usize, add: &mut dyn FnMut(f32)| {
                for key in &protected {
                    for (stored, asking) in [(i, j), (j, i)] {
                        let ((template, _), (_, probe)) = (&key[stored], &key[asking]);
                        add(probe.similarity(probe.score(template)));
                    }
                }
            };
            done.push(people.count(Scoring::Probe(*bits), &probe)?);
            let rates = Rates::of(&done[done.len() - 1].0)?;
            several.extend(several_faces(*bits, samples, &protected, &rates));
            let (tally, pairs) = fused(samples, &protected);
            if pairs >= PAIRS_MIN {
                together.push(counted(Scoring::Fused(*bits), &tally, pairs));
            }
            let stored = |i: usize, j: usize, add: &mut dyn FnMut(f32)| {
                protected
                    .iter()
                    .for_each(|key| add(key[i].0.similarity(&key[j].0)));
            };
            done.push(people.count(Scoring::Stored(*bits), &stored)?);
        }
        let (mut counts, reports): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        counts.extend(together);
        Ok((counts, reports, several))
    }

    /// Template and probe of every sample, under each key.
    fn protected(&self, bits: Bits, samples: &[Sample]) -> Vec<Vec<(Template, Probe)>> {
        let dim = self.pipeline.dim();
        let under = |key: u8| {
            let protector = Protector::new(&blake3::derive_key(KEYS_CONTEXT, &[key]), dim);
            let each = samples.iter().map(|s| protector.sample(&s.embedding, bits));
            each.collect()
        };
        (0..self.keys.get()).map(under).collect()
    }
}

fn population(samples: &[Sample]) -> Population {
    let mut of_person = BTreeMap::<usize, u64>::new();
    samples
        .iter()
        .for_each(|s| *of_person.entry(s.person).or_default() += 1);
    let pairs = |n: u64| n * n.saturating_sub(1) / 2;
    let (photographs, genuine_pairs) = (samples.len() as u64, of_person.values().map(|n| pairs(*n)).sum());
    Population {
        people: of_person.len() as u64,
        photographs,
        impostor_pairs: pairs(photographs) - genuine_pairs,
        genuine_pairs,
    }
}

impl<'a> People<'a> {
    fn new(photographs: &[Photograph], samples: &'a [Sample], holdout: bool) -> Self {
        let halves: BTreeMap<usize, bool> = photographs
            .iter()
            .map(|photograph| (photograph.person, in_second_half(&photograph.path)))
            .collect();
        let (second, first) = (0..samples.len()).partition(|i| halves[&samples[*i].person]);
        let people = samples.iter().map(|s| s.person);
        Self {
            samples,
            halves: [first, second],
            all: (0..samples.len()).collect(),
            bootstrap: Bootstrap::new(people),
            holdout,
        }
    }

    fn count(&self, scoring: Scoring, scores: &Scores<'_>) -> Result<(ScoringCount, ScoringReport)> {
        let tally = self.tally(&self.all, scores);
        let pairs = pairs(self.samples, &self.all);
        let count = counted(scoring, &tally, pairs);
        let rates = Rates::of(&count)?;
        let report = ScoringReport {
            scoring: name(scoring),
            rates: self.rates(&rates, &tally, scores),
            holdout: if self.holdout {
                self.held_out(scoring, scores)?
            } else {
                Vec::new()
            },
        };
        Ok((count, report))
    }

    fn tally(&self, set: &[usize], scores: &Scores<'_>) -> Tally {
        let shares = on_all_cores(set.len(), Tally::new, |tally, a| {
            for b in a + 1..set.len() {
                let (i, j) = (set[a], set[b]);
                let genuine = self.samples[i].person == self.samples[j].person;
                scores(i, j, &mut |score| tally.add(score, genuine));
            }
        });
        let mut all = Tally::new();
        shares.iter().for_each(|tally| all.merge(tally));
        all
    }

    fn rates(&self, rates: &Rates, tally: &Tally, scores: &Scores<'_>) -> Vec<RateReport> {
        let reported = REPORTED.map(|far| (far, rates.similarity(far)));
        let counted: Vec<_> = reported
            .into_iter()
            .filter(|(far, _)| !rates.is_extrapolated(*far))
            .collect();
        let lowest = counted.iter().map(|(_, s)| *s).fold(f32::INFINITY, f32::min);
        // Every replicate's similarity lies near: a fifth of the way down to 0 is farther than any goes.
        let trials = self.trials(lowest * 0.8, scores);
        let drawn = self.bootstrap.impostors(&trials, tally.trials().1, &counted);
        let genuine = reported.map(|(_, similarity)| self.genuine(similarity, scores));
        let each = reported.into_iter().zip(genuine).enumerate();
        each.map(|(i, ((far, similarity), genuine))| RateReport {
            far,
            similarity,
            extrapolated: rates.is_extrapolated(far),
            similarity_interval: drawn.get(i).map(|(similarity, _)| *similarity),
            far_interval: drawn.get(i).map(|(_, far)| *far),
            tar: tally.passing(similarity).0 as f64 / tally.trials().0 as f64,
            tar_interval: self.bootstrap.genuine(&genuine),
        })
        .collect()
    }

    /// Impostor trials at and above a similarity, with the two people of each.
    fn trials(&self, similarity_min: f32, scores: &Scores<'_>) -> Vec<(f32, [usize; 2])> {
        let shares = on_all_cores(self.all.len(), Vec::new, |share, i| {
            for j in i + 1..self.all.len() {
                let people = [self.samples[i].person, self.samples[j].person];
                scores(i, j, &mut |score| {
                    if score >= similarity_min && people[0] != people[1] {
                        share.push((score, people));
                    }
                });
            }
        });
        shares.into_iter().flatten().collect()
    }

    /// Each person's genuine trials, and those that pass.
    fn genuine(&self, similarity: f32, scores: &Scores<'_>) -> BTreeMap<usize, [u64; 2]> {
        let mut of_person = BTreeMap::<usize, [u64; 2]>::new();
        for i in 0..self.samples.len() {
            let person = self.samples[i].person;
            for j in (i + 1..self.samples.len()).filter(|j| self.samples[*j].person == person) {
                scores(i, j, &mut |score| {
                    let [all, passed] = of_person.entry(person).or_default();
                    *all += 1;
                    *passed += u64::from(score >= similarity);
                });
            }
        }
        of_person
    }

    fn held_out(&self, scoring: Scoring, scores: &Scores<'_>) -> Result<Vec<HeldOut>> {
        let tallies = [0, 1].map(|half| self.tally(&self.halves[half], scores));
        let pairs = [0, 1].map(|half| pairs(self.samples, &self.halves[half]));
        let rates = [0, 1].map(|half| Rates::of(&counted(scoring, &tallies[half], pairs[half])));
        let [first, second] = rates;
        let rates = [first?, second?];
        let test = |stated: f64| {
            // Each half by the other's similarity.
            let passed = [0, 1].map(|half| tallies[half].passing(rates[1 - half].similarity(stated)).1);
            let trials = [0, 1].map(|half| tallies[half].trials().1);
            let measured = (passed[0] + passed[1]) as f64 / (trials[0] + trials[1]) as f64;
            HeldOut {
                stated,
                measured,
                factor: (measured / stated).max(stated / measured),
                measured_by_half: [0, 1].map(|half| passed[half] as f64 / trials[half] as f64),
                pairs: pairs[0] + pairs[1],
            }
        };
        Ok(TESTED.map(test).to_vec())
    }
}

/// Impostor pairs of a set of samples.
fn pairs(samples: &[Sample], set: &[usize]) -> u64 {
    let mut of_person = BTreeMap::<usize, u64>::new();
    set.iter()
        .for_each(|i| *of_person.entry(samples[*i].person).or_default() += 1);
    let all = set.len() as u64;
    (all * all - of_person.values().map(|n| n * n).sum::<u64>()) / 2
}

/// By the folder's name, so that a person is always in the same half.
fn in_second_half(photograph: &Path) -> bool {
    let folder = photograph.parent().and_then(Path::file_name).unwrap_or_default();
    blake3::hash(folder.as_encoded_bytes()).as_bytes()[0] & 1 == 1
}

/// Points down to the least rate that so many pairs can show, and the tail beyond.
fn counted(scoring: Scoring, tally: &Tally, pairs: u64) -> ScoringCount {
    let supported = RULE_OF / pairs as f64;
    let steps = (0..).flat_map(|decade| [5, 2, 1].map(|n| f64::from(n) * 10f64.powi(-1 - decade)));
    let fars: Vec<f64> = steps
        .take_while(|far| *far > supported)
        .chain([supported])
        .collect();
    let mut points = vec![(-1.0, 1.0)];
    for (far, similarity) in fars.iter().zip(tally.impostor_quantiles(&fars)) {
        let (last, _) = points[points.len() - 1];
        // The file keeps five places.
        if similarity > last + 1e-5 {
            points.push((similarity, *far));
        }
    }
    // The mean excess over a high limit is what an exponential tail is wide.
    let [from] = tally.impostor_quantiles(&[(supported * TAIL_PAIRS).min(0.5)])[..] else {
        unreachable!("as many as asked for");
    };
    let width = tally.impostor_excess(from).max(1e-3);
    ScoringCount {
        scoring,
        points,
        tail: 1.0 / (width * std::f64::consts::LN_10),
        supported,
    }
}

impl CalibrationReport {
    /// The calibration, as the engine reads it.
    ///
    /// # Errors
    /// The pipeline's embedder is not the one that was measured.
    pub fn calibration(&self, pipeline: &Pipeline) -> Result<Calibration> {
        Calibration::read(
            pipeline.embedder_digest(),
            pipeline.stated_rates(),
            &self.document,
        )
    }
}
