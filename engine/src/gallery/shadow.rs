//! The second index of a collection that is being measured, of some of its faces.

use std::collections::HashMap;

use likeness_search::index::{Index, PersonNo, Row};
use likeness_types::template::Template;

/// An index of the kind that the collection does not have, of some of its faces.
pub(crate) struct Shadow {
    pub index: Index,
    pub rows: HashMap<PersonNo, Vec<Row>>,
}

impl Shadow {
    pub fn insert(&mut self, person: PersonNo, template: &Template) {
        let row = self.index.insert(person, template);
        self.rows.entry(person).or_default().push(row);
    }

    #[cfg(test)]
    pub fn faces(&self) -> usize {
        self.index.len()
    }

    /// Overwrites the bits of somebody who goes.
    pub fn remove(&mut self, person: PersonNo) {
        for row in self.rows.remove(&person).into_iter().flatten() {
            self.index.remove(row);
        }
    }
}
