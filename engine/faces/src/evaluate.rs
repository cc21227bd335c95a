//! Evaluation of the pipeline: its accuracy on a folder of labelled photographs.
//!
//! Every photograph is compared with every other, by the plain cosine and by the protected
//! template. The embeddings stay in this module: it returns figures, never a feature or a bit.

pub(crate) mod bootstrap;
pub(crate) mod calibrate;
pub(crate) mod curve;
pub(crate) mod levels;
pub(crate) mod persons;
pub(crate) mod several;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

pub use self::bootstrap::Interval;
pub use self::calibrate::{CalibrationReport, Calibrator, HeldOut, RateReport, ScoringReport};
use self::curve::FARS;
pub use self::curve::{Curve, DetPoint};
pub use self::levels::LevelFigures;
use self::levels::Tallies;
pub use self::persons::{PersonCurve, PersonCurves};
pub use self::several::SeveralFaces;
use crate::embedding::Embedding;
use crate::pipeline::protect::Protector;
use crate::pipeline::{Choose, Looks, Pipeline};
use crate::quality::{Quality, QualityLevel};
use likeness_types::Inside;
use likeness_types::error::{Error, OperatorError, RequestError, Result};
use likeness_types::span::Span;
use likeness_types::template::{Bits, Probe, Template};

/// The projection keys of an evaluation: fixed, so that it can be repeated; nothing is kept under them.
const KEYS_CONTEXT: &str = "likeness 2026-11-21 projection keys of evaluations v1";

/// What to measure, and with what.
pub struct Evaluator<'a> {
    /// The pipeline that is measured.
    pub pipeline: &'a Pipeline,
    /// Length of the templates.
    pub bits: Bits,
    /// Projection keys to try; all people share each key, as in a real gallery.
    pub keys: NonZeroU8,
    /// Looks at a face that is stored; those that ask are plain.
    pub stored: Looks,
    /// Photographs done and photographs in all, told after each one, from several threads.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

/// The outcome, as it is printed for scripts. Rates are fractions, 0 to 1.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Photographs in the folder.
    pub photographs: usize,
    /// People in the folder, each with at least one photograph.
    pub people: usize,
    /// Photographs that gave no embedding; the figures below are about the others.
    pub not_detected: usize,
    /// Why not: how many photographs for each reason.
    pub not_detected_reasons: BTreeMap<&'static str, usize>,
    /// Balanced accuracy of the cosine at its best threshold.
    pub accuracy: f64,
    /// Two photographs by the cosine of their plain features; a pair is one trial.
    pub cosine: Curve,
    /// A probe against a stored template. A pair is two trials for each key, for either photograph
    /// may be the stored one, and the two scores differ a little.
    pub template: TemplateCurve,
    /// What each level of the quality gate would do, by its name; the figures above are those of `none`.
    pub quality: BTreeMap<&'static str, LevelFigures>,
    /// People with several enrolled faces, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persons: Option<PersonCurves>,
}

/// The figures of the protected template.
#[derive(Debug, Clone, Serialize)]
pub struct TemplateCurve {
    /// Length of the templates.
    pub bits: usize,
    /// Projection keys that were tried.
    pub keys: u8,
    /// The least and the greatest `tar` of a single key at its own thresholds.
    pub tar_by_key: BTreeMap<&'static str, [f64; 2]>,
    /// The trials of all keys together.
    #[serde(flatten)]
    pub curve: Curve,
}

/// A photograph and the number of the person it shows.
struct Photograph {
    path: PathBuf,
    person: usize,
}

/// An embedding, what was measured of the face, and the number of its person.
struct Sample {
    embedding: Embedding,
    /// What is stored of it, where that is not the same.
    stored: Option<Embedding>,
    quality: Quality,
    person: usize,
}

impl Sample {
    /// How good two photographs are, and whether they show one person.
    fn with(&self, other: &Self) -> ([QualityLevel; 2], bool) {
        let levels = [self, other].map(|sample| sample.quality.level());
        (levels, self.person == other.person)
    }
}

impl Evaluator<'_> {
    /// Measures on `<dir>/<person>/<photograph>`; hidden files are passed over. In each photograph the
    /// face nearest the centre is the person's: several show bystanders.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] without two people and two photographs of one; [`OperatorError`] when
    /// the folder cannot be read or a model fails. A rejected photograph is no error but counted.
    pub fn run(&self, dir: &Path) -> Result<Evaluation> {
        let (photographs, people) = photographs(dir)?;
        let (samples, not_detected_reasons) = self.samples(&photographs)?;
        let by_cosine = every_pair(&samples, |tallies, i, j| {
            let (a, b) = (&samples[i], &samples[j]);
            let (levels, genuine) = a.with(b);
            tallies.add(
                levels,
                a.embedding.values(Inside).dot(&b.embedding.values(Inside)),
                genuine,
            );
        });
        let cosine = by_cosine.at(QualityLevel::None);
        if let (0, _) | (_, 0) = cosine.trials() {
            return Err(RequestError::invalid(
                "directory",
                "<person>/<photograph> with two people at least, and two photographs of one of them",
                format!("{people} people, {} photographs with a face", samples.len()),
            )
            .into());
        }
        let cosine = cosine.curve();
        let (template, by_template) = self.template(&samples);
        let qualities: Vec<_> = samples.iter().map(|sample| sample.quality).collect();
        Ok(Evaluation {
            photographs: photographs.len(),
            people,
            not_detected: photographs.len() - samples.len(),
            not_detected_reasons,
            accuracy: cosine.accuracy,
            cosine,
            template,
            quality: levels::figures(&qualities, &by_cosine, &by_template),
            persons: persons::person_curves(&samples, self.bits, self.keys.get()),
        })
    }

    /// The embeddings of all photographs, and why there is none of the others.
    fn samples(&self, photographs: &[Photograph]) -> Result<(Vec<Sample>, BTreeMap<&'static str, usize>)> {
        let done = AtomicUsize::new(0);
        let shares = on_all_cores(photographs.len(), Vec::new, |share, i| {
            let outcome = self.sample(&photographs[i]);
            (self.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, photographs.len());
            share.push((i, outcome));
        });
        let mut outcomes: Vec<_> = shares.into_iter().flatten().collect();
        outcomes.sort_unstable_by_key(|(i, _)| *i);
        let (mut samples, mut reasons) = (Vec::new(), BTreeMap::new());
        for (_, outcome) in outcomes {
            match outcome {
                Ok(sample) => samples.push(sample),
                Err(Error::Photo(rejection)) => *reasons.entry(rejection.name()).or_default() += 1,
                Err(error) => return Err(error),
            }
        }
        Ok((samples, reasons))
    }

    fn sample(&self, photograph: &Photograph) -> Result<Sample> {
        let path = &photograph.path;
        let bytes = fs::read(path).map_err(|error| OperatorError::file("reading", path, error))?;
        let look = |looks| {
            let mut span = Span::default();
            let wanted = Choose::NearestCentre.at(QualityLevel::None);
            self.pipeline.embedding_by(looks, &bytes, wanted, &mut span)
        };
        let (embedding, face) = look(Looks::Plain)?;
        Ok(Sample {
            embedding,
            stored: match self.stored {
                Looks::Plain => None,
                looks => Some(look(looks)?.0),
            },
            quality: face.quality,
            person: photograph.person,
        })
    }

    fn template(&self, samples: &[Sample]) -> (TemplateCurve, Tallies) {
        let mut all = Tallies::new();
        let mut tar_by_key: BTreeMap<_, _> = FARS.map(|(name, _)| (name, [1.0f64, 0.0])).into();
        for key in 0..self.keys.get() {
            let tallies = template_under(key, self.bits, samples);
            for (name, tar) in tallies.at(QualityLevel::None).curve().tar {
                let [least, greatest] = tar_by_key[name];
                tar_by_key.insert(name, [least.min(tar), greatest.max(tar)]);
            }
            all.merge(&tallies);
        }
        let curve = TemplateCurve {
            bits: self.bits.get(),
            keys: self.keys.get(),
            tar_by_key,
            curve: all.at(QualityLevel::None).curve(),
        };
        (curve, all)
    }
}

/// What is stored of a photograph, and what asks.
fn protect(protector: &Protector, sample: &Sample, bits: Bits) -> (Template, Probe) {
    let (template, probe) = protector.sample(&sample.embedding, bits);
    match &sample.stored {
        None => (template, probe),
        Some(stored) => (protector.sample(stored, bits).0, probe),
    }
}

/// The trials of the protected templates under one key.
fn template_under(key: u8, bits: Bits, samples: &[Sample]) -> Tallies {
    let Some(first) = samples.first() else {
        return Tallies::new();
    };
    let key = blake3::derive_key(KEYS_CONTEXT, &[key]);
    let protector = Protector::new(&key, first.embedding.values(Inside).len());
    let protected: Vec<_> = samples.iter().map(|s| protect(&protector, s, bits)).collect();
    every_pair(samples, |tallies, i, j| {
        let (levels, genuine) = samples[i].with(&samples[j]);
        for (stored, asking) in [(i, j), (j, i)] {
            let ((template, _), (_, probe)) = (&protected[stored], &protected[asking]);
            tallies.add(levels, probe.similarity(probe.score(template)), genuine);
        }
    })
}

/// The photographs of a folder in the order of their names, and the number of people.
fn photographs(dir: &Path) -> Result<(Vec<Photograph>, usize)> {
    let (mut photographs, mut people) = (Vec::new(), 0);
    for person in visible(dir)?.into_iter().filter(|path| path.is_dir()) {
        let before = photographs.len();
        let files = visible(&person)?.into_iter().filter(|path| path.is_file());
        photographs.extend(files.map(|path| Photograph { path, person: people }));
        people += usize::from(photographs.len() > before);
    }
    Ok((photographs, people))
}

fn visible(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        let mut visible: Vec<_> = entries
            .into_iter()
            .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
            .map(|entry| entry.path())
            .collect();
        visible.sort();
        Ok(visible)
    };
    Ok(read().map_err(|error| OperatorError::file("listing", dir, error))?)
}

/// Counts the trials of every unordered pair of samples; `trial` is given two different indices.
fn every_pair(samples: &[Sample], trial: impl Fn(&mut Tallies, usize, usize) + Sync) -> Tallies {
    let shares = on_all_cores(samples.len(), Tallies::new, |tallies, i| {
        for j in i + 1..samples.len() {
            trial(tallies, i, j);
        }
    });
    let mut all = Tallies::new();
    shares.iter().for_each(|tally| all.merge(tally));
    all
}

/// Does `work` for 0..count, each core taking the next number when it is free and adding to a share
/// of its own.
fn on_all_cores<S: Send>(
    count: usize,
    share: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) + Sync,
) -> Vec<S> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut share = share();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                i if i < count => work(&mut share, i),
                _ => return share,
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, S>| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;

    use super::*;

    /// Ten people with three photographs each: a direction of their own, and a little of another.
    fn samples() -> Vec<Sample> {
        let of = |person: usize, photo: usize| {
            let mut values = Array1::zeros(512);
            values[person] = 1.0;
            values[100 + 3 * person + photo] = 0.3;
            let embedding = Embedding::from_raw(values, "test").expect("it has a length");
            Sample {
                embedding,
                stored: None,
                quality: crate::quality::PORTRAIT,
                person,
            }
        };
        (0..30).map(|i| of(i / 3, i % 3)).collect()
    }

    #[test]
    fn every_pair_is_tried_once_and_each_way_by_template() {
        let samples = samples();
        let pairs = every_pair(&samples, |tallies, i, j| {
            assert!(i != j);
            let (levels, genuine) = samples[i].with(&samples[j]);
            tallies.add(levels, 0.0, genuine);
        });
        assert_eq!(
            pairs.at(QualityLevel::Strict).trials(),
            (10 * 3, 30 * 29 / 2 - 30)
        );
        assert_eq!(
            template_under(0, Bits::B512, &samples)
                .at(QualityLevel::None)
                .trials(),
            (2 * 30, 2 * (435 - 30))
        );
    }

    #[test]
    fn people_apart_stay_apart_by_template() {
        for key in 0..3 {
            let curve = template_under(key, Bits::B1024, &samples())
                .at(QualityLevel::None)
                .curve();
            assert_eq!((curve.accuracy, curve.tar["1e-4"]), (1.0, 1.0));
        }
    }

    #[test]
    fn every_photograph_asks_for_everybody_with_three() {
        let curves = persons::person_curves(&samples(), Bits::B512, 2).expect("ten people");
        assert_eq!(curves.people, 10);
        let trials = |curve: &PersonCurve| (curve.genuine_trials, curve.impostor_trials);
        assert_eq!(trials(&curves.one_face), (2 * 30 * 2, 2 * 30 * 9 * 3));
        assert_eq!(trials(&curves.best_face), (2 * 30, 2 * 30 * 9));
        assert_eq!(trials(&curves.fused), (2 * 30, 2 * 30 * 9));
        assert!(curves.fused.tar.values().all(|tar| *tar == 1.0));
        assert!(persons::person_curves(&samples()[..2], Bits::B512, 1).is_none());
    }

    #[test]
    fn every_number_is_worked_on_once() {
        let shares = on_all_cores(1000, Vec::new, |share, i| share.push(i));
        let mut all: Vec<usize> = shares.into_iter().flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }

    #[test]
    fn people_are_folders_and_photographs_the_files_in_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (person, files) in [
            ("b", &["1.jpg", ".hidden"][..]),
            ("a", &["2.jpg", "1.png"]),
            ("empty", &[]),
        ] {
            let person = dir.path().join(person);
            fs::create_dir(&person).expect("a new folder");
            files
                .iter()
                .for_each(|file| fs::write(person.join(file), b"").expect("a new file"));
        }
        fs::write(dir.path().join("README"), b"").expect("a new file");
        let (photographs, people) = photographs(dir.path()).expect("readable");
        let found: Vec<_> = photographs
            .iter()
            .map(|p| (p.path.strip_prefix(dir.path()).expect("inside"), p.person))
            .collect();
        assert_eq!(
            found,
            [
                (Path::new("a/1.png"), 0),
                (Path::new("a/2.jpg"), 0),
                (Path::new("b/1.jpg"), 1)
            ]
        );
        assert_eq!(people, 2);
    }
}
