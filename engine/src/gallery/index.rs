//! The index of one collection: rows of template bits, and whose they are.
//!
//! A closed enum, for there is one kind of index today and a graph will be the second. Whatever the
//! kind, "exact" means the integer score of `template.rs`.

use crate::gallery::flat::Flat;
use crate::template::{Bits, Probe, Template};

/// One stored face's place in the index, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row(pub(super) u32);

/// A person's number in the gallery, below [`PERSONS_MAX`].
pub(crate) type Person = u32;

/// Persons that an index can tell apart; the number itself marks a row that is nobody's.
pub(crate) const PERSONS_MAX: Person = Person::MAX;

/// A stored face that resembles the probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    /// Whose face it is.
    pub(crate) person: Person,
    /// Which of the person's faces.
    pub(crate) row: Row,
    /// The integer score; between two probes only `similarity` can be compared.
    pub(crate) score: i32,
    /// The estimated cosine, -1 to 1.
    pub(crate) similarity: f32,
}

/// The index of one collection. Wiped on drop.
pub(crate) enum Index {
    /// Compares with every face.
    Flat(Flat),
}

impl Index {
    /// An empty index of templates of `bits`.
    pub(crate) fn new(bits: Bits) -> Self {
        Self::Flat(Flat::new(bits))
    }

    /// Adds a face of `person`.
    pub(crate) fn insert(&mut self, person: Person, template: &Template) -> Row {
        match self {
            Self::Flat(flat) => flat.insert(person, template),
        }
    }

    /// Overwrites the face's bits with zeros; the row is used again for another face.
    pub(crate) fn remove(&mut self, row: Row) {
        match self {
            Self::Flat(flat) => flat.remove(row),
        }
    }

    /// The `k` persons that resemble the probe most, each by their best face, none below
    /// `similarity_min`; best first, and at equal scores by person number, lowest first.
    pub(crate) fn top(&self, probe: &Probe, k: usize, similarity_min: f32) -> Vec<Hit> {
        match self {
            Self::Flat(flat) => flat.top(probe, k, similarity_min),
        }
    }

    /// Faces in the index.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Flat(flat) => flat.len(),
        }
    }
}
