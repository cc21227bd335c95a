//! What the `bench` crate measures and nobody else should use: no part of the engine's API.

use std::sync::Arc;

use ndarray::Array1;

use crate::search::Query;
use likeness_faces::embedding::Embedding;
use likeness_faces::pipeline::protect::Protector;
use likeness_search::cores;
use likeness_search::index::{Ask, ComparedFaces, Index, Row};
use likeness_types::Inside;
use likeness_types::person::NewFace;
use likeness_types::template::{Bits, Probe, Template};

use crate::guard::comparison_limiter::Comparing;
pub use crate::guard::comparison_limiter::Pace;
pub use likeness_faces::pipeline::stages::{Aligned, RawModel, Stages, Traces};
pub use likeness_search::kernels::{Kernels, Reading};
use likeness_types::doors;

/// The features of somebody who does not exist.
///
/// # Panics
/// On values without a length.
pub fn embedding(values: Vec<f32>) -> Embedding {
    Embedding::from_raw(Array1::from(values), "synthetic").expect("the values have a length")
}

/// The projection key of synthetic galleries: fixed, so that they can be made again.
const KEY_CONTEXT: &str = "likeness 2026-11-22 projection key of synthetic galleries v1";

/// What protects synthetic people; nothing of anybody real is kept under its key.
pub fn protector(dim: usize) -> Protector {
    Protector::new(&blake3::derive_key(KEY_CONTEXT, &[]), dim)
}

/// The bits of a synthetic template, for the peers that ours are measured beside: `[bits / 8]`.
pub fn bytes(template: &Template) -> Vec<u8> {
    template.to_bytes(Inside).to_vec()
}

/// The template of these bits.
///
/// # Panics
/// On a length that no template has.
pub fn template(bytes: &[u8]) -> Template {
    Template::from_bytes(bytes).expect("as `bytes` wrote it")
}

/// How similar a synthetic face is, as a search or a verification has it.
pub fn similarity(probe: &Probe, template: &Template) -> f32 {
    probe.similarity(probe.score(template))
}

/// How similar two enrolled synthetic faces are, as a search for duplicates has it.
pub fn stored_similarity(one: &Template, other: &Template) -> f32 {
    one.similarity(other)
}

/// A face that could be enrolled, as one to look for.
///
/// # Panics
/// When it was made without what a search needs.
pub fn query(face: NewFace) -> Query {
    let scheme = face.scheme;
    let probe = face.into_probe(Inside).expect("faces of features have one");
    Query {
        probes: vec![(scheme, Arc::new(probe))],
    }
}

/// Lets nobody borrow a core while it is held: what a search takes on one.
pub struct OneCore(#[allow(dead_code, reason = "held for its cores")] cores::Busy);

/// As if all cores but the caller's were busy.
pub fn one_core() -> OneCore {
    OneCore(cores::idle(cores::CORES.saturating_sub(1)))
}

/// An index of synthetic templates, one a person.
pub struct RandomFaces {
    index: Index,
    bits: Bits,
    numbers: Numbers,
}

impl RandomFaces {
    /// An empty one. The same seed gives the same templates and probes.
    pub fn new(bits: Bits, seed: u64) -> Self {
        Self {
            index: Index::new(bits, crate::IndexKind::Flat, crate::EF_DEFAULT),
            bits,
            numbers: Numbers(seed),
        }
    }

    /// Adds faces until there are so many.
    pub fn grow_to(&mut self, faces: u32) {
        for person in self.index.len() as u32..faces {
            let words = (0..self.bits.words()).map(|_| self.numbers.next());
            self.index.insert(person, &Template::from_words(words));
        }
    }

    /// Adds somebody's face, and says where it is.
    pub fn insert(&mut self, template: &Template) -> Place {
        Place(self.index.insert(self.index.len() as u32, template))
    }

    /// A face to look for.
    pub fn probe(&mut self) -> Probe {
        let values: Vec<i8> = (0..self.bits.get())
            .map(|_| (self.numbers.next() % 255) as u8)
            .map(|value| i8::try_from(i16::from(value) - 127).expect("-127 to 127"))
            .collect();
        Probe::from_values(&values)
    }

    /// An exact search; answers how many it found.
    pub fn search(&self, probe: &Probe, top_k: usize) -> usize {
        self.search_all(&[probe], top_k, -1.0, true)
    }

    /// Who resembles each face most, and how much, in one pass; nobody below `similarity_min`.
    pub fn best(&self, probes: &[&Probe], similarity_min: f32, exact: bool) -> Vec<Option<(u32, f32)>> {
        let comparing = Comparing::at(&doors::SEARCH);
        let found = self
            .index
            .compare(&comparing)
            .top(&best(probes, similarity_min, exact));
        let best = found.hits.iter().map(|hits| hits.first());
        best.map(|hit| hit.map(|hit| (hit.person, hit.similarity)))
            .collect()
    }

    /// For each probe the faces of which such a search, in stages, reads more than the first bits.
    pub fn looked_at(&self, probes: &[&Probe], similarity_min: f32) -> Vec<u64> {
        let comparing = Comparing::at(&doors::SEARCH);
        self.index
            .compare(&comparing)
            .looked_at(&best(probes, similarity_min, false))
    }

    /// A search for several faces in one pass, in stages where it need not be exact; answers how many it found.
    pub fn search_all(&self, probes: &[&Probe], top_k: usize, similarity_min: f32, exact: bool) -> usize {
        let comparing = Comparing::at(&doors::SEARCH);
        let found = self.index.compare(&comparing).top(&Ask {
            probes,
            k: top_k,
            similarity_min,
            among: None,
            by: ComparedFaces::BestFace,
            exact,
        });
        found.hits.iter().map(Vec::len).sum()
    }
}

/// Who resembles each face most.
fn best<'a>(probes: &'a [&'a Probe], similarity_min: f32, exact: bool) -> Ask<'a> {
    Ask {
        probes,
        k: 1,
        similarity_min,
        among: None,
        by: ComparedFaces::BestFace,
        exact,
    }
}

/// Where a face is.
pub struct Place(Row);

/// What a graph has beyond a flat index.
#[cfg(feature = "graph")]
impl RandomFaces {
    /// An empty graph.
    pub fn graph(bits: Bits, seed: u64) -> Self {
        Self {
            index: Index::new(bits, crate::IndexKind::Graph, crate::EF_DEFAULT),
            ..Self::new(bits, seed)
        }
    }

    /// Candidates that a search keeps from now on.
    pub fn set_ef(&mut self, ef: u32) {
        self.index.set_ef(ef);
    }

    /// One turn of the keeper: at most `rows_max` faces into the graph, or a graph anew without the dead. Answers
    /// whether there was anything to do.
    pub fn link(&mut self, rows_max: usize) -> bool {
        let Some(mut work) = self.index.work(rows_max) else {
            return false;
        };
        work.run(&std::sync::atomic::AtomicBool::new(false));
        drop(self.index.adopt(work));
        true
    }
}

impl RandomFaces {
    /// Overwrites a face. Nobody else may be inserted after that: people are numbered as they come.
    pub fn erase(&mut self, place: Place) {
        self.index.remove(place.0);
    }
}

/// SplitMix64: every seed a different sequence, good enough for templates that resemble nobody.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
