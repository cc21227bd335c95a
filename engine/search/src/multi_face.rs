//! People with more than one comparable face, and the agreement of their faces: a search by all faces of a
//! person needs it beside the scores. Nothing is kept of people with one face.

use crate::index::PersonNo;
use likeness_types::fused::Agreement;

/// The place of a person with one face.
const ONE_FACE: u32 = u32::MAX;

/// A person with several faces.
#[derive(Clone, Copy)]
pub struct Together {
    /// The person's number in the collection.
    pub person: PersonNo,
    /// How far the faces agree.
    pub agreement: Agreement,
}

/// The people of a collection with several faces.
#[derive(Default)]
pub struct Several {
    people: Vec<Together>,
    /// By person number, the place in `people`; it ends with the highest number that ever had several.
    places: Vec<u32>,
}

impl Several {
    /// Notes how far the faces of a person agree, who has more than one.
    pub fn set(&mut self, person: PersonNo, agreement: Agreement) {
        let together = Together { person, agreement };
        match self.place(person) {
            Some(place) => self.people[place] = together,
            None => {
                let at = person as usize;
                if at >= self.places.len() {
                    self.places.resize(at + 1, ONE_FACE);
                }
                self.places[at] = u32::try_from(self.people.len()).expect("no more than there are people");
                self.people.push(together);
            }
        }
    }

    /// Forgets a person, if it is known here.
    pub fn remove(&mut self, person: PersonNo) {
        let Some(place) = self.place(person) else {
            return;
        };
        self.people.swap_remove(place);
        if let Some(moved) = self.people.get(place) {
            self.places[moved.person as usize] = u32::try_from(place).expect("it was a place before");
        }
        self.places[person as usize] = ONE_FACE;
    }

    /// Where a person's scores are summed up; `None` for somebody with one face.
    pub fn place(&self, person: PersonNo) -> Option<usize> {
        let place = *self.places.get(person as usize)?;
        (place != ONE_FACE).then_some(place as usize)
    }

    /// Everybody with several faces, by place.
    pub fn people(&self) -> &[Together] {
        &self.people
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use likeness_types::template::Template;

    proptest! {
        #[test]
        fn everybody_has_a_place_of_their_own_after_any_changes(
            changes in prop::collection::vec((any::<bool>(), 0..20u32), 0..100)
        ) {
            let agreement = Agreement::of(&[&Template::from_signs(&[1; 256])]);
            let (mut several, mut model) = (Several::default(), BTreeSet::new());
            for (set, person) in changes {
                if set {
                    several.set(person, agreement);
                    model.insert(person);
                } else {
                    several.remove(person);
                    model.remove(&person);
                }
                prop_assert_eq!(several.people().len(), model.len());
                for person in 0..25 {
                    let place = several.place(person);
                    prop_assert_eq!(place.is_some(), model.contains(&person));
                    prop_assert!(place.is_none_or(|at| several.people()[at].person == person));
                }
            }
        }
    }
}
