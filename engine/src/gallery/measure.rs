//! How good a graph would be for a collection, or is, and how long it and the flat index take: measured on the faces
//! that are there.
//!
//! One kind the collection has; an index of the other is made of its faces for as long as the measurement lasts. It is
//! a part of the collection's people, under the same lock: whoever is erased meanwhile is overwritten in it too,
//! before the erasure is acknowledged.
//!
//! No photographs are at hand, so a probe is made of a stored face: values whose signs are its bits, and noise on top
//! as between two photographs of somebody. What is counted is agreement with the exact scan, and no identity.
//!
//! It goes on a slice at a time, so that no call's worker is held for long; dropped, it leaves nothing.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::gallery::collection::{Collection, IndexKind, People, exists};
use crate::gallery::shadow::Shadow;
use crate::guard::comparison_limiter::Comparing;
use likeness_search::index::{Ask, ComparedFaces, Index};
use likeness_store::codec::Digest;
use likeness_types::error::{RequestError, Result};
use likeness_types::template::{Probe, Template};
use likeness_types::{Inside, doors};

/// How long a slice works.
const SLICE: Duration = Duration::from_millis(50);

/// People who are copied, and faces that are linked, before the clock is looked at.
const COPIED: usize = 2048;

const LINKED: usize = 32;

/// Candidates of a graph that are tried.
pub const EF_TRIED: [u32; 7] = [32, 64, 128, 256, 512, 1024, 2048];

/// The least agreement with which a graph is recommended.
pub const RECALL_MIN: f64 = 0.99;

/// A graph is recommended where it takes at most this part of the flat index's time: it costs memory, and may miss.
const FASTER: f64 = 0.5;

/// So many in a hundred may the faces of two indexes differ that are compared: people come and go while they are
/// measured, and so few change no figure that decides.
const APART_PERCENT_MAX: usize = 5;

/// The cosine between a stored face and what asks for it: half of people's photographs are more alike.
const COSINE: f64 = 0.7;

/// The largest value of a probe in standard deviations: that of a thousand normal ones.
const LARGEST: f64 = 3.3;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// People of the index that is made for it, at most. The collection's own has all.
    pub people_max: usize,
    /// Probes.
    pub probes: usize,
}

/// One way of searching.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// By which index.
    pub kind: IndexKind,
    /// Candidates that a walk keeps; none where everybody was compared with.
    pub ef: Option<u32>,
    /// Whether nobody could be missed.
    pub exact: bool,
    /// The part of the probes that had the exact scan's answer: 0 to 1.
    pub recall: f64,
    /// Half of the searches took at most so long.
    pub p50: Duration,
    /// 99 of a hundred did.
    pub p99: Duration,
    /// Faces in that index.
    pub faces: usize,
}

/// How far a measurement is, and at its end what came out.
pub struct MeasuredSlice {
    /// Of `total` steps.
    pub done: usize,
    /// People to copy, faces to link, and probes.
    pub total: usize,
    /// At the end, in the order of [`EF_TRIED`], behind the flat index's.
    pub rows: Option<Vec<Measured>>,
}

/// A measurement under way.
pub struct Measuring {
    collection: Arc<Collection>,
    plan: Measurement,
    /// The kind that the collection has.
    own: IndexKind,
    /// Whom it had at the beginning.
    people: Vec<Digest>,
    /// Of those, how many are in the other index.
    copied: usize,
    /// Faces to link when all were.
    to_link: usize,
    asked: usize,
    ways: Vec<Way>,
    noise: Noise,
}

/// A way of searching, whether each probe agreed with the exact scan, and how long it took.
struct Way {
    kind: IndexKind,
    ef: Option<u32>,
    exact: bool,
    agreed: usize,
    took: Vec<Duration>,
}

impl Way {
    fn new(kind: IndexKind, ef: Option<u32>, exact: bool) -> Self {
        Self {
            kind,
            ef,
            exact,
            agreed: 0,
            took: Vec::new(),
        }
    }

    fn measured(&mut self, faces: usize) -> Measured {
        self.took.sort_unstable();
        let of = self.took.len().max(1);
        let quantile = |part: usize| self.took.get((of - 1) * part / 100).copied();
        Measured {
            kind: self.kind,
            ef: self.ef,
            exact: self.exact,
            recall: self.agreed as f64 / of as f64,
            p50: quantile(50).unwrap_or_default(),
            p99: quantile(99).unwrap_or_default(),
            faces,
        }
    }
}

impl Measuring {
    /// Begins. One at a time in each collection.
    pub(crate) fn begin(collection: &Arc<Collection>, plan: Measurement) -> Result<Self> {
        exists(collection)?;
        let settings = collection.settings.read().clone();
        let other = match settings.index {
            IndexKind::Flat => IndexKind::Graph,
            IndexKind::Graph => IndexKind::Flat,
        };
        let mut people = collection.people.write();
        if people.shadow.is_some() {
            return Err(changed("a collection that is not being measured", "one that is"));
        }
        people.shadow = Some(Shadow {
            index: Index::new(settings.bits, other, settings.ef),
            rows: HashMap::new(),
        });
        let all: Vec<_> = people.everybody().map(|(digest, _)| digest).collect();
        drop(people);
        let flat = [false, true].map(|exact| Way::new(IndexKind::Flat, None, exact));
        let walks = EF_TRIED.map(|ef| Way::new(IndexKind::Graph, Some(ef), false));
        Ok(Self {
            collection: Arc::clone(collection),
            plan,
            own: settings.index,
            people: all,
            copied: 0,
            to_link: 0,
            asked: 0,
            ways: flat.into_iter().chain(walks).collect(),
            noise: Noise(1),
        })
    }

    /// Goes on for some 50 milliseconds.
    ///
    /// # Errors
    /// The collection went, or is searched in another way since.
    pub(crate) fn go_on(&mut self) -> Result<MeasuredSlice> {
        exists(&self.collection)?;
        if self.collection.settings.read().index != self.own {
            let expected = "a collection that is searched as when the measurement began";
            return Err(changed(expected, "one that changed"));
        }
        let until = Instant::now() + SLICE;
        let mut over = false;
        while !over && Instant::now() < until {
            over = !self.step();
        }
        let linked = self.to_link.saturating_sub(self.to_be_linked());
        let to_link = self.to_link.max(self.to_copy() - self.copied);
        Ok(MeasuredSlice {
            done: self.copied + linked + self.asked,
            total: self.to_copy() + to_link + self.probes(),
            rows: over.then(|| self.rows()),
        })
    }

    /// Whether there was something to do.
    fn step(&mut self) -> bool {
        if self.copied < self.to_copy() {
            self.copy();
            self.to_link = self.to_be_linked();
            return true;
        }
        if self.link() {
            return true;
        }
        if self.asked < self.probes() {
            self.ask();
            self.asked += 1;
            return true;
        }
        false
    }

    /// People whose faces go into the other index.
    fn to_copy(&self) -> usize {
        self.people.len().min(self.plan.people_max)
    }

    /// Faces to look for.
    fn probes(&self) -> usize {
        if self.people.is_empty() {
            0
        } else {
            self.plan.probes
        }
    }

    /// The next people's faces into the other index, of people spread over all.
    fn copy(&mut self) {
        let all = self.to_copy();
        let to = (self.copied + COPIED).min(all);
        let mut people = self.collection.people.write();
        let people = &mut *people;
        for n in self.copied..to {
            // Whoever went since is nobody's number any more.
            let number = people.number(self.people[n * self.people.len() / all]);
            if let (Some(number), Some(shadow)) = (number, &mut people.shadow) {
                for row in people.numbers.rows(number) {
                    shadow.insert(number, &people.index.moved(*row));
                }
            }
        }
        self.copied = to;
    }

    /// Links some faces of the graph that was made for it; whether there were any.
    fn link(&self) -> bool {
        // Never anew, however many went meanwhile: a slice would last as long as that takes, and nothing could stop it.
        let graph = |people: &mut People| people.shadow.as_mut()?.index.more(LINKED);
        let Some(mut work) = graph(&mut self.collection.people.write()) else {
            return false;
        };
        work.run(&AtomicBool::new(false));
        let left = match &mut self.collection.people.write().shadow {
            Some(shadow) => shadow.index.adopt(work),
            None => work,
        };
        drop(left);
        true
    }

    /// Faces that the graph that was made for it still lacks.
    fn to_be_linked(&self) -> usize {
        let people = self.collection.people.read();
        people.shadow.as_ref().map_or(0, |shadow| shadow.index.unlinked())
    }

    /// Asks for somebody in every way.
    fn ask(&mut self) {
        let similarity_min = self.collection.settings.read().threshold;
        let asked_for = self.people[self.asked * self.people.len() / self.plan.probes];
        let Some(probe) = self.probe(asked_for) else {
            return;
        };
        let (collection, own) = (&self.collection, self.own);
        let comparing = Comparing::at(&doors::MEASURE);
        let best = |kind: IndexKind, ef: Option<u32>, exact: bool| {
            // Let go after each search, for a writer waits until then, and other searches behind it. Whoever went
            // meanwhile is asked for no more.
            let people = collection.people.read();
            people.number(asked_for)?;
            let other = &people.shadow.as_ref()?.index;
            let index = if kind == own { &people.index } else { other };
            let ask = Ask {
                probes: &[&probe],
                k: 1,
                similarity_min,
                among: None,
                by: ComparedFaces::BestFace,
                exact,
            };
            let index = index.compare(&comparing);
            let began = Instant::now();
            let found = match ef {
                Some(ef) => index.walk(&ask, ef),
                None => index.top(&ask),
            };
            Some((found.hits[0].first().map(|hit| hit.person), began.elapsed()))
        };
        // Each index by its own exact scan: the one that was made for it may have fewer faces.
        let truth = |kind| best(kind, None, true).map(|(person, _)| person);
        let (Some(flat), Some(graph)) = (truth(IndexKind::Flat), truth(IndexKind::Graph)) else {
            return;
        };
        for way in &mut self.ways {
            let Some((found, took)) = best(way.kind, way.ef, way.exact) else {
                return;
            };
            let truth = match way.kind {
                IndexKind::Flat => flat,
                IndexKind::Graph => graph,
            };
            way.agreed += usize::from(found == truth);
            way.took.push(took);
        }
    }

    /// What asks for somebody, if there is anybody.
    fn probe(&mut self, asked_for: Digest) -> Option<Probe> {
        let people = self.collection.people.read();
        let face = people.rows(people.number(asked_for)?).first()?;
        let comparing = Comparing::at(&doors::MEASURE);
        Some(
            self.noise
                .probe(&people.index.compare(&comparing).template(*face)),
        )
    }

    fn rows(&mut self) -> Vec<Measured> {
        let people = self.collection.people.read();
        let other = people.shadow.as_ref().map_or(0, |shadow| shadow.index.len());
        let (own, own_faces) = (self.own, people.index.len());
        let faces = |kind| if kind == own { own_faces } else { other };
        self.ways
            .iter_mut()
            .map(|way| way.measured(faces(way.kind)))
            .collect()
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        let shadow = self.collection.people.write().shadow.take();
        // A large graph takes long: no lock is held.
        drop(shadow);
    }
}

fn changed(expected: &'static str, received: &str) -> crate::Error {
    RequestError::invalid("collection", expected, received.to_owned()).into()
}

/// The kind that these rows speak for, and for a graph the least `ef` that agrees often enough: a graph where it
/// agrees in [`RECALL_MIN`] and is at least twice as fast as the flat index of about as many faces, else the flat
/// index.
pub fn recommended(rows: &[Measured]) -> (IndexKind, Option<u32>) {
    let flat = rows.iter().find(|row| row.kind == IndexKind::Flat && !row.exact);
    let good = |row: &&Measured| {
        row.kind == IndexKind::Graph
            && row.recall >= RECALL_MIN
            && flat.is_some_and(|flat| {
                flat.faces.abs_diff(row.faces) * 100 <= flat.faces * APART_PERCENT_MAX
                    && row.p50.as_secs_f64() <= FASTER * flat.p50.as_secs_f64()
            })
    };
    match rows.iter().filter(good).min_by_key(|row| row.ef) {
        Some(graph) => (IndexKind::Graph, graph.ef),
        None => (IndexKind::Flat, None),
    }
}

/// SplitMix64, and normal values from it: the same probes of the same faces.
struct Noise(u64);

impl Noise {
    fn normal(&mut self) -> f64 {
        let mut uniform = || {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        // Box and Muller; 1 minus it is never 0.
        let (a, b) = (1.0 - uniform(), uniform());
        (-2.0 * a.ln()).sqrt() * (TAU * b).cos()
    }

    /// What asks for a stored face as another photograph would: each value is its bit's, as large as chance has it,
    /// with noise on top.
    fn probe(&mut self, stored: &Template) -> Probe {
        let words = stored.words(Inside).iter();
        let bits = words.flat_map(|word| (0..64).map(move |i| word >> i & 1 == 1));
        let values: Vec<i8> = bits
            .map(|bit| {
                let kept = self.normal().abs() * if bit { 1.0 } else { -1.0 };
                let value = COSINE * kept + (1.0 - COSINE * COSINE).sqrt() * self.normal();
                // The cast rounds, and ends at 127.
                (value * 127.0 / LARGEST).round().clamp(-127.0, 127.0) as i8
            })
            .collect();
        Probe::from_values(&Zeroizing::new(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: IndexKind, ef: Option<u32>, recall: f64, micros: u64) -> Measured {
        Measured {
            kind,
            ef,
            exact: false,
            recall,
            p50: Duration::from_micros(micros),
            p99: Duration::from_micros(micros),
            faces: 9,
        }
    }

    #[test]
    fn a_graph_is_recommended_where_it_seldom_misses_and_is_twice_as_fast() {
        let flat = row(IndexKind::Flat, None, 1.0, 100);
        let graph = |ef, recall, micros| row(IndexKind::Graph, Some(ef), recall, micros);
        let rows = [
            flat,
            graph(32, 0.9, 10),
            graph(64, 0.995, 30),
            graph(128, 1.0, 49),
        ];
        assert_eq!(recommended(&rows), (IndexKind::Graph, Some(64)));
        let slow = [flat, graph(32, 0.9, 10), graph(64, 0.995, 51)];
        assert_eq!(recommended(&slow), (IndexKind::Flat, None));
        let of_some = Measured {
            faces: 5,
            ..graph(64, 1.0, 1)
        };
        assert_eq!(recommended(&[flat, of_some]), (IndexKind::Flat, None));
        let of = |faces, row: Measured| Measured { faces, ..row };
        let cases = [
            (95, IndexKind::Graph),
            (105, IndexKind::Graph),
            (94, IndexKind::Flat),
        ];
        for (faces, expected) in cases {
            let rows = [of(100, flat), of(faces, graph(64, 1.0, 1))];
            assert_eq!(recommended(&rows).0, expected, "{faces} of 100");
        }
        assert_eq!(recommended(&[]), (IndexKind::Flat, None));
    }

    #[test]
    fn a_probe_resembles_the_stored_face_as_another_photograph_does() {
        let mut noise = Noise(3);
        let words: Vec<u64> = (0..16u64)
            .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .collect();
        let stored = Template::from_words(words.into_iter());
        let probes = (0..40).map(|_| noise.probe(&stored));
        let similarities = probes.map(|probe| probe.similarity(probe.score(&stored)));
        let mean = similarities.sum::<f32>() / 40.0;
        assert!((mean - COSINE as f32).abs() < 0.03, "{mean}");
    }
}
