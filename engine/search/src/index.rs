//! The index of one collection: rows of template bits, each with the number of its person.
//!
//! A closed enum: the flat index drops a row only by its bits, the graph may miss a mated face. In either
//! kind, a score is the integer score of `template.rs`.

use crate::flat::Flat;
use crate::graph::{Graph, Work};
use crate::multi_face::Several;
use crate::rows::Rows;
use likeness_types::doors::Comparing;
use likeness_types::template::{Bits, Probe, Template};

/// How a collection is searched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IndexKind {
    /// Compares with every face.
    #[default]
    Flat,
    /// Walks from neighbour to neighbour: it may miss somebody.
    Graph,
}

impl IndexKind {
    /// Whether such a collection is searched by a graph. Built without the feature `graph`, none is: the setting is
    /// kept, and the flat index serves.
    pub fn is_graph(self) -> bool {
        cfg!(feature = "graph") && self == Self::Graph
    }

    /// As records have it.
    pub fn number(self) -> u8 {
        match self {
            Self::Flat => 1,
            Self::Graph => 2,
        }
    }

    /// The kind that records have so.
    pub fn numbered(number: u8) -> Option<Self> {
        [Self::Flat, Self::Graph]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// The least and the most candidates that a search of a graph may keep.
pub const EF_RANGE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Candidates where none are named: twice as many as find 98 of 100 among 4,000 in `graph/tests.rs`.
pub const EF_DEFAULT: u32 = 256;

/// One stored face's place in the index, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]

pub struct Row(pub u32);

/// A person's number in the gallery, below `PERSONS_MAX`.
pub type PersonNo = u32;

/// Persons that an index can tell apart; the number itself marks a row that is nobody's.
pub(crate) const PERSONS_MAX: PersonNo = PersonNo::MAX;

/// What is asked of an index.
pub struct Ask<'a> {
    /// Faces to look for, each answered by itself; all of them in one pass over the index.
    pub probes: &'a [&'a Probe],
    /// Most persons for each.
    pub k: usize,
    /// The estimated cosine below which nobody is answered.
    pub similarity_min: f32,
    /// Which rows count; none: all of them.
    pub among: Option<&'a Rows>,
    /// What of a person is compared.
    pub by: ComparedFaces<'a>,
    /// Whether nobody may be missed; otherwise a face at `similarity_min` is with a probability of
    /// `MISS_PROBABILITY`.
    pub exact: bool,
}

/// What of a person is compared.
#[derive(Clone, Copy)]
pub enum ComparedFaces<'a> {
    /// The face that resembles the probe most.
    BestFace,
    /// All faces together, see [`likeness_types::fused`]; with the people who have more than one.
    AllFaces(&'a Several),
}

/// A person who resembles the probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The person's number in the collection.
    pub person: PersonNo,
    /// The estimated cosine, -1 to 1.
    pub similarity: f32,
}

/// What an index answers.
pub struct Found {
    /// For each probe the persons that resemble it most, best first, and at equal similarities by person
    /// number, lowest first.
    pub hits: Vec<Vec<Hit>>,
    /// Faces that each probe was compared with.
    pub compared: usize,
}

/// A stored face that resembles another stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Near {
    /// Which of the templates that were asked with.
    pub asking: usize,
    /// The number of the person whose face it is.
    pub person: PersonNo,
    /// Where the face is that resembles it.
    pub row: Row,
    /// Bits that differ.
    pub distance: u32,
}

/// The index of one collection. Wiped on drop.
pub enum Index {
    /// Compares with every face.
    Flat(Flat),
    /// Walks from neighbour to neighbour.
    Graph(Graph),
}

impl Index {
    /// An empty index of templates of `bits`; `ef` is for a graph.
    pub fn new(bits: Bits, kind: IndexKind, ef: u32) -> Self {
        match kind {
            IndexKind::Flat => Self::Flat(Flat::new(bits)),
            IndexKind::Graph => Self::graph(bits, ef),
        }
    }

    #[cfg(feature = "graph")]
    fn graph(bits: Bits, ef: u32) -> Self {
        Self::Graph(Graph::new(bits, ef as usize))
    }

    #[cfg(not(feature = "graph"))]
    fn graph(bits: Bits, _: u32) -> Self {
        Self::Flat(Flat::new(bits))
    }

    /// Whether a search that is not exact may miss somebody by where they lie, and not only by what was measured
    /// of the bits.
    pub fn is_graph(&self) -> bool {
        matches!(self, Self::Graph(_))
    }

    /// The faces, to be compared with others.
    pub fn compare<'a>(&'a self, _: &'a Comparing) -> Compare<'a> {
        Compare(self)
    }

    /// Faces that a graph has not linked yet.
    pub fn unlinked(&self) -> usize {
        match self {
            Self::Flat(_) => 0,
            Self::Graph(graph) => graph.unlinked(),
        }
    }

    /// Takes another `ef`.
    pub fn set_ef(&mut self, ef: u32) {
        match self {
            Self::Flat(_) => {}
            Self::Graph(graph) => graph.set_ef(ef as usize),
        }
    }

    /// Whether a keeper has something to do.
    pub fn has_work(&self) -> bool {
        match self {
            Self::Flat(_) => false,
            Self::Graph(graph) => graph.has_work(),
        }
    }

    /// What a keeper should do next: at most `rows_max` rows into the graph, or a graph anew.
    pub fn work(&mut self, rows_max: usize) -> Option<Work> {
        match self {
            Self::Flat(_) => None,
            Self::Graph(graph) => graph.work(rows_max),
        }
    }

    /// At most `rows_max` rows that should go into a graph, and never a graph anew.
    pub fn more(&mut self, rows_max: usize) -> Option<Work> {
        match self {
            Self::Flat(_) => None,
            Self::Graph(graph) => graph.more(rows_max),
        }
    }

    /// Takes over what a keeper has done; what is left is dropped best where no lock is held.
    #[must_use = "dropping a graph takes long: let no lock be held"]
    pub fn adopt(&mut self, work: Work) -> Work {
        match self {
            Self::Flat(_) => work,
            Self::Graph(graph) => graph.adopt(work),
        }
    }

    /// Takes back what a keeper failed to do: there is nothing more to do for it.
    pub fn give_up(&mut self, work: &Work) {
        match self {
            Self::Flat(_) => {}
            Self::Graph(graph) => graph.give_up(work),
        }
    }

    /// Overwrites every face of an index that goes. What is left of it, a whole graph, is dropped best where that holds
    /// nobody up.
    #[must_use = "dropping a graph takes long: let no lock be held"]
    pub fn wiped(self) -> Option<Graph> {
        match self {
            // It is wiped as it is dropped, and that is all there is to do.
            Self::Flat(_) => None,
            Self::Graph(graph) => {
                graph.wipe();
                Some(graph)
            }
        }
    }

    /// Adds a face of `person`.
    pub fn insert(&mut self, person: PersonNo, template: &Template) -> Row {
        match self {
            Self::Flat(flat) => flat.insert(person, template),
            Self::Graph(graph) => graph.insert(person, template),
        }
    }

    /// Overwrites the face's bits with zeros; the row is used again for another face.
    pub fn remove(&mut self, row: Row) {
        match self {
            Self::Flat(flat) => flat.remove(row),
            Self::Graph(graph) => graph.remove(row),
        }
    }

    /// A copy of one stored face, to be put into another index.
    pub fn moved(&self, row: Row) -> Template {
        match self {
            Self::Flat(flat) => flat.template(row),
            Self::Graph(graph) => graph.template(row),
        }
    }

    /// Faces in the index.
    pub fn len(&self) -> usize {
        match self {
            Self::Flat(flat) => flat.len(),
            Self::Graph(graph) => graph.len(),
        }
    }

    /// Whether it has no face.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An index that may be compared with.
pub struct Compare<'a>(&'a Index);

impl Compare<'_> {
    /// The persons that resemble each probe most.
    pub fn top(&self, ask: &Ask<'_>) -> Found {
        match self.0 {
            Index::Flat(flat) => flat.top(ask),
            Index::Graph(graph) => graph.top(ask, graph.ef()),
        }
    }

    /// What [`Self::top`] answers to each of several, none of which looks at some rows only, in one pass.
    pub fn top_together(&self, asks: &[Ask<'_>]) -> Vec<Found> {
        match self.0 {
            Index::Flat(flat) => flat.top_together(asks),
            Index::Graph(graph) => asks.iter().map(|ask| graph.top(ask, graph.ef())).collect(),
        }
    }

    /// For each probe the faces that a scan looks at beyond their first bits; none where nothing is scanned.
    pub fn looked_at(&self, ask: &Ask<'_>) -> Vec<u64> {
        match self.0 {
            Index::Flat(flat) => flat.looked_at(ask),
            Index::Graph(_) => Vec::new(),
        }
    }

    /// A copy of one stored face, to be compared with the others.
    pub fn template(&self, row: Row) -> Template {
        match self.0 {
            Index::Flat(flat) => flat.template(row),
            Index::Graph(graph) => graph.template(row),
        }
    }

    /// Tells of every stored face within `distance_max` bits of one of `templates`, in one pass.
    pub fn near(&self, templates: &[Template], distance_max: u32, tell: &mut dyn FnMut(Near)) {
        match self.0 {
            Index::Flat(flat) => flat.near(templates, distance_max, tell),
            Index::Graph(graph) => graph.near(templates, distance_max, tell),
        }
    }

    /// What [`Self::top`] answers with another `ef`, where there is a graph.
    pub fn walk(&self, ask: &Ask<'_>, ef: u32) -> Found {
        match self.0 {
            Index::Flat(flat) => flat.top(ask),
            Index::Graph(graph) => graph.top(ask, ef as usize),
        }
    }
}
