//! The graph index (HNSW): it walks from neighbour to neighbour and compares with a few thousand faces
//! instead of all of them. It may miss somebody; the flat index never does.
//!
//! How it differs from a graph of vectors:
//!
//! - Its points are row numbers, and a distance reads the rows' words in an arena of ours. So an erased face's
//!   bits are overwritten at once, in the one place where they are; what stays in the graph is a number.
//! - The probe keeps its precision: on the way down and in the last layer distances are those of the integer score.
//!   Two stored faces are compared by the cosine that their Hamming distance estimates.
//! - What was enrolled since the last turn of the keeper is not in the graph yet and is compared with in full: whoever is
//!   enrolled is found by the next search.
//! - hnsw_rs cannot remove a point. A dead row leads nowhere and is in no answer; when a tenth of the points is dead, a
//!   new graph is built of the living while the old one serves, or the graph is let go where few live.
//! - A filter makes graphs slow and blind, so filtered searches compare with everyone who is allowed, in full. So do
//!   searches that may miss nobody, those by all faces of a person, and the search for people enrolled twice.

pub(crate) mod arena;
pub(crate) mod work;

use std::collections::VecDeque;
use std::f32::consts::PI;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;
use zeroize::Zeroizing;

use self::arena::Arena;
pub use self::work::Work;
use crate::cascade::Sink;
use crate::cores;
use crate::index::{Ask, ComparedFaces, Found, Near, PERSONS_MAX, PersonNo, Row};
use crate::rows;
use crate::rows::Rows;
use crate::simd::{Kernel, Simd, Task};
use crate::top::Tally;
use likeness_types::Inside;
use likeness_types::template::{Bits, PLANE_WEIGHTS, PLANES, Probe, Template};

/// Neighbours of a point in each layer; twice as many in the lowest.
const NEIGHBOURS: usize = 16;
/// Layers; hnsw_rs allows 16.
const LAYERS: usize = 16;
/// Candidates kept while a point is linked: half as many take half as long and find fewer (`bench/README.md`).
const EF_BUILD: usize = 200;
/// Of a hundred points so many may be dead before the graph is built anew.
const DEAD_PERCENT_MAX: usize = 10;
/// Below so many faces comparing with all of them is faster than any walk. Tests walk among fewer.
const GRAPH_FACES_MIN: usize = if cfg!(test) { 16 } else { 2_000 };

/// Owner of a row that is nobody's.
const NO_PERSON: PersonNo = PERSONS_MAX;

/// What the graph knows of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In no graph, and nobody's: used next.
    Free,
    /// Not in the graph yet, or on the way into it.
    Outside,
    /// In the graph.
    Inside,
}

type Links = Hnsw<'static, u64, Nearness>;

/// A graph over the faces of one collection. Its words are wiped on drop.
pub struct Graph {
    bits: Bits,
    arena: Arc<Arena>,
    owners: Vec<PersonNo>,
    places: Vec<Place>,
    free: Vec<Row>,
    /// Rows that the graph does not know: compared with in full. All of them live, but those that are `gone`.
    outside: VecDeque<Row>,
    /// Rows that were erased since a keeper began, and that the graph did not know then.
    gone: Vec<Row>,
    /// Rows that the graph knows and that are nobody's.
    dead: usize,
    living: usize,
    links: Arc<Links>,
    /// Whether a keeper has begun and not finished: one at a time.
    kept: bool,
    /// Whether a keeper failed. It would again, so none begins.
    failed: bool,
    /// Candidates that a walk keeps: the more, the slower and the surer.
    ef: usize,
}

impl Graph {
    /// An empty graph; `ef` as in [`Self::ef`].
    pub fn new(bits: Bits, ef: usize) -> Self {
        let arena = Arc::new(Arena::new(bits));
        Self {
            bits,
            ef,
            links: Arc::new(links(&arena, bits, 0)),
            arena,
            owners: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            outside: VecDeque::new(),
            gone: Vec::new(),
            dead: 0,
            living: 0,
            kept: false,
            failed: false,
        }
    }

    /// Adds a face. Its links are made by the next turn of the keeper.
    pub fn insert(&mut self, person: PersonNo, template: &Template) -> Row {
        assert!(person != NO_PERSON, "person numbers are below {PERSONS_MAX}");
        assert_eq!(
            template.bits(),
            self.bits,
            "templates of two schemes are never compared"
        );
        let row = self.free.pop().unwrap_or_else(|| {
            self.owners.push(NO_PERSON);
            self.places.push(Place::Free);
            Row(u32::try_from(self.owners.len() - 1)
                .expect("2^32 rows are 128 GiB of the shortest templates"))
        });
        self.arena.write(row.0, template.words(Inside).iter().copied());
        self.owners[row.0 as usize] = person;
        self.places[row.0 as usize] = Place::Outside;
        self.outside.push_back(row);
        self.living += 1;
        row
    }

    /// Overwrites the face's bits with zeros.
    pub fn remove(&mut self, row: Row) {
        let at = row.0 as usize;
        // Removed twice, a row would be handed out twice, and two people would share a face.
        assert!(self.owners[at] != NO_PERSON, "the row is nobody's");
        self.arena.write(row.0, std::iter::repeat(0));
        self.owners[at] = NO_PERSON;
        self.living -= 1;
        match self.places[at] {
            Place::Inside => self.dead += 1,
            // On its way into the graph perhaps: it is dealt with when the keeper comes back.
            Place::Outside if self.kept => self.gone.push(row),
            Place::Outside | Place::Free => {
                self.outside.retain(|outside| *outside != row);
                self.release(row);
            }
        }
    }

    fn release(&mut self, row: Row) {
        self.places[row.0 as usize] = Place::Free;
        self.free.push(row);
    }

    /// Faces in the index.
    pub(crate) fn len(&self) -> usize {
        self.living
    }

    /// Candidates that a walk keeps.
    pub fn ef(&self) -> usize {
        self.ef
    }

    /// Changes how many candidates a walk keeps.
    pub fn set_ef(&mut self, ef: usize) {
        self.ef = ef;
    }

    /// Faces that are not linked yet; where there are few, none ever are.
    pub fn unlinked(&self) -> usize {
        if self.living < GRAPH_FACES_MIN {
            0
        } else {
            self.outside.len()
        }
    }

    /// The persons that resemble each probe most, of those whom a walk that keeps `ef` candidates meets or of all who
    /// are asked for.
    pub fn top(&self, ask: &Ask<'_>, ef: usize) -> Found {
        let _own = cores::busy();
        let by_best_face = matches!(ask.by, ComparedFaces::BestFace);
        let walks = by_best_face && !ask.exact && ask.among.is_none() && self.living >= GRAPH_FACES_MIN;
        let hits = Tally::of_each(ask).map(|mut tally| {
            match ask.k {
                0 => {}
                k if walks => self.walk(&mut tally, k, ef),
                _ => self.scan(&mut tally, ask.among),
            }
            tally.finish()
        });
        Found {
            hits: hits.collect(),
            compared: ask.among.map_or(self.living, Rows::len),
        }
    }

    fn walk(&self, tally: &mut Tally<'_>, k: usize, ef: usize) {
        // Several of the nearest faces may be one person's.
        let ef = ef.max(2 * k.min(self.living));
        // The walk's own distances are floats: what it meets is scored again, in integers.
        let met = self.links.search(&asked(tally.probe()), ef, ef);
        let met = met.iter().filter_map(|met| u32::try_from(met.d_id).ok());
        for row in met.map(Row).chain(self.outside.iter().copied()) {
            self.offer(tally, row);
        }
    }

    fn scan(&self, tally: &mut Tally<'_>, among: Option<&Rows>) {
        for block in self.all().step_by(rows::BLOCK) {
            let mask = among.map_or(u64::MAX, |among| among.mask(block));
            let rows = (0..rows::BLOCK as u32).filter(|i| mask >> i & 1 == 1);
            rows.map(|i| Row(block.0 + i))
                .take_while(|row| (row.0 as usize) < self.owners.len())
                .for_each(|row| self.offer(tally, row));
        }
        if tally.lacks_scores() {
            // Rare: somebody with several faces was found by one, and is compared by all.
            for row in self.all() {
                let person = self.owners[row.0 as usize];
                if person != NO_PERSON && tally.lacks(person) {
                    tally.add(person, self.score(tally.probe(), row));
                }
            }
        }
    }

    fn offer(&self, tally: &mut Tally<'_>, row: Row) {
        let person = self.owners[row.0 as usize];
        if person == NO_PERSON {
            return;
        }
        let score = self.score(tally.probe(), row);
        if score >= tally.bar() {
            tally.offer(score, person, row);
        }
    }

    /// Every row, whether or not it is anybody's.
    fn all(&self) -> impl Iterator<Item = Row> + use<> {
        (0..self.owners.len() as u32).map(Row)
    }

    /// The integer score of a row.
    fn score(&self, probe: &Probe, row: Row) -> i32 {
        score(probe.planes(Inside), probe.sum(), self.arena.row(row.0))
    }

    /// The template in this row.
    pub fn template(&self, row: Row) -> Template {
        let words = self.arena.row(row.0).iter();
        Template::from_words(words.map(|word| word.load(Ordering::Relaxed)))
    }

    /// Tells of every stored face within `distance_max` bits of one of `templates`.
    pub fn near(&self, templates: &[Template], distance_max: u32, tell: &mut dyn FnMut(Near)) {
        for row in self.all() {
            let person = self.owners[row.0 as usize];
            if person == NO_PERSON {
                continue;
            }
            let stored = self.template(row);
            for (asking, template) in templates.iter().enumerate() {
                let distance = template.distance(&stored);
                if distance <= distance_max {
                    tell(Near {
                        asking,
                        person,
                        row,
                        distance,
                    });
                }
            }
        }
    }

    /// Whether a keeper has something to do.
    pub fn has_work(&self) -> bool {
        !self.kept && !self.failed && (self.is_stale() || self.unlinked() > 0)
    }

    fn is_stale(&self) -> bool {
        self.dead * 100 > (self.dead + self.living) * DEAD_PERCENT_MAX
    }

    /// What a keeper should do next, if anything: at most `rows_max` rows into the graph, or a graph anew, or none
    /// where few are left.
    pub fn work(&mut self, rows_max: usize) -> Option<Work> {
        if !self.is_stale() {
            return self.more(rows_max);
        }
        if !self.has_work() {
            return None;
        }
        Some(if self.living < GRAPH_FACES_MIN {
            self.dissolved()
        } else {
            self.renewal()
        })
    }

    /// At most `rows_max` rows that should go into the graph, however much of it is dead: that takes no longer than
    /// these rows do.
    pub fn more(&mut self, rows_max: usize) -> Option<Work> {
        if !self.has_work() || self.unlinked() == 0 {
            return None;
        }
        let rows: Vec<_> = self.outside.iter().copied().take(rows_max).collect();
        self.kept = true;
        Some(Work {
            first: rows.len(),
            rows,
            ..Work::new(&self.arena, Arc::clone(&self.links))
        })
    }

    /// A graph of all living rows.
    fn renewal(&mut self) -> Work {
        let (living, gone): (Vec<_>, Vec<_>) = self
            .all()
            .partition(|row| self.owners[row.0 as usize] != NO_PERSON);
        let inside = |row: &Row| self.places[row.0 as usize] == Place::Inside;
        let released = gone.into_iter().filter(inside).collect();
        self.kept = true;
        let links = Arc::new(links(&self.arena, self.bits, living.len()));
        Work {
            rows: living,
            first: self.outside.len(),
            anew: true,
            released,
            ..Work::new(&self.arena, links)
        }
    }

    /// Forgets the graph, for so few are left that nobody walks; what is answered holds it, with nothing to link.
    fn dissolved(&mut self) -> Work {
        let none = Arc::new(links(&self.arena, self.bits, 0));
        let before = std::mem::replace(&mut self.links, none);
        self.kept = true;
        self.dead = 0;
        for row in self.all() {
            match (self.places[row.0 as usize], self.owners[row.0 as usize]) {
                (Place::Inside, NO_PERSON) => self.release(row),
                (Place::Inside, _) => {
                    self.places[row.0 as usize] = Place::Outside;
                    self.outside.push_back(row);
                }
                (Place::Free | Place::Outside, _) => {}
            }
        }
        Work::new(&self.arena, before)
    }

    /// Takes over what a keeper has done; what is left of it, perhaps a whole graph, is dropped best where it
    /// holds nobody up.
    #[must_use = "dropping a graph takes long: let no lock be held"]
    pub fn adopt(&mut self, mut work: Work) -> Work {
        if !Arc::ptr_eq(&self.arena, &work.arena) {
            // Made for a graph that is gone.
            return work;
        }
        self.kept = false;
        if work.anew && work.stopped {
            // Half a graph serves nobody; the old one still does.
            self.forget_gone();
            return work;
        }
        if work.anew {
            std::mem::swap(&mut self.links, &mut work.links);
            self.dead = 0;
            for row in std::mem::take(&mut work.released) {
                self.release(row);
            }
        }
        for row in &work.rows {
            self.places[row.0 as usize] = Place::Inside;
            // Erased while it was linked: the graph knows it, and it is nobody's.
            self.dead += usize::from(self.owners[row.0 as usize] == NO_PERSON);
        }
        // Whoever came since stands behind them. A stopped keeper has not linked all that it took.
        self.outside.drain(..work.first.min(work.rows.len()));
        self.forget_gone();
        work
    }

    /// Takes back what a keeper failed to do. The graph stays as it is from now on: rows that are in it already, and
    /// stand outside as well, are met twice, and who else is outside is compared with in full.
    pub fn give_up(&mut self, work: &Work) {
        if !Arc::ptr_eq(&self.arena, &work.arena) {
            return;
        }
        self.kept = false;
        self.failed = true;
        self.forget_gone();
    }

    /// Overwrites all faces of a graph that goes.
    pub fn wipe(&self) {
        self.arena.wipe();
    }

    /// Rows that were erased while a keeper was at work, and are in no graph.
    fn forget_gone(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        self.outside
            .retain(|row| self.owners[row.0 as usize] != NO_PERSON);
        for row in std::mem::take(&mut self.gone) {
            if self.places[row.0 as usize] == Place::Outside {
                self.release(row);
            }
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // ORDER: here, and not with the arena: a keeper may hold that for as long as it works.
        self.wipe();
    }
}

fn links(arena: &Arc<Arena>, bits: Bits, expected: usize) -> Links {
    Hnsw::new(
        NEIGHBOURS,
        expected.max(GRAPH_FACES_MIN),
        LAYERS,
        EF_BUILD,
        Nearness::new(arena, bits),
    )
}

/// The distance of two points: 1 minus their estimated cosine, 0 to 2.
///
/// A point is `[row]`; a probe is `[score_max, sum, planes...]`.
struct Nearness {
    arena: Arc<Arena>,
    /// By Hamming distance.
    stored: Box<[f32]>,
}

impl Nearness {
    fn new(arena: &Arc<Arena>, bits: Bits) -> Self {
        let bits = bits.get();
        Self {
            arena: Arc::clone(arena),
            stored: (0..=bits)
                .map(|h| 1.0 - (PI * h as f32 / bits as f32).cos())
                .collect(),
        }
    }

    fn row(&self, point: &[u64]) -> &[AtomicU64] {
        self.arena.row(u32::try_from(point[0]).expect("a row number"))
    }
}

impl Distance<u64> for Nearness {
    fn eval(&self, a: &[u64], b: &[u64]) -> f32 {
        let probe = match (a.len(), b.len()) {
            (1, 1) => {
                return self.stored[distance(self.row(a), self.row(b))];
            }
            (_, 1) => (a, b),
            _ => (b, a),
        };
        let (planes, _) = probe.0[2..].as_chunks::<PLANES>();
        let sum = probe.0[1].cast_signed() as i32;
        let similarity = score(planes, sum, self.row(probe.1)) as f32 / probe.0[0] as f32;
        // A rounding must not make it negative: the graph orders by it.
        (1.0 - similarity).max(0.0)
    }
}

/// A probe as a point of the graph.
fn asked(probe: &Probe) -> Zeroizing<Vec<u64>> {
    let mut point = Zeroizing::new(Vec::with_capacity(2 + probe.planes(Inside).len() * PLANES));
    point.push(u64::from(probe.score_max().max(1).unsigned_abs()));
    point.push(i64::from(probe.sum()).cast_unsigned());
    point.extend(probe.planes(Inside).iter().flatten());
    point
}

/// S, as `template.rs` defines it.
fn score(planes: &[[u64; PLANES]], sum: i32, row: &[AtomicU64]) -> i32 {
    let mut ones = 0;
    Kernel::best().run(Ones {
        planes,
        row,
        ones: &mut ones,
    });
    2 * ones - sum
}

/// Bits that differ.
fn distance(a: &[AtomicU64], b: &[AtomicU64]) -> usize {
    let mut differing = 0;
    Kernel::best().run(Differing {
        a,
        b,
        differing: &mut differing,
    });
    differing as usize
}

/// The sum of a probe's values where a row has ones.
struct Ones<'a> {
    planes: &'a [[u64; PLANES]],
    row: &'a [AtomicU64],
    ones: &'a mut i32,
}

impl Task for Ones<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        // Wrapping, or the checks would keep it out of the vector registers: a count is at most 2048.
        let mut counts = [0u64; PLANES];
        for (word, planes) in self.row.iter().zip(self.planes) {
            let word = word.load(Ordering::Relaxed);
            for p in 0..PLANES {
                counts[p] = counts[p].wrapping_add(u64::from((word & planes[p]).count_ones()));
            }
        }
        for (count, weight) in counts.iter().zip(PLANE_WEIGHTS) {
            *self.ones = self.ones.wrapping_add((*count as i32).wrapping_mul(weight));
        }
    }
}

/// The bits in which two rows differ.
///
/// Word by word: no processor counts in several atomics at a time, and copying them first takes longer than that.
struct Differing<'a> {
    a: &'a [AtomicU64],
    b: &'a [AtomicU64],
    differing: &'a mut u64,
}

impl Task for Differing<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for (a, b) in self.a.iter().zip(self.b) {
            let differing = a.load(Ordering::Relaxed) ^ b.load(Ordering::Relaxed);
            *self.differing = self.differing.wrapping_add(u64::from(differing.count_ones()));
        }
    }
}

#[cfg(test)]
mod tests;
