//! The people of a collection: dense person numbers to digests and to rows of the index, in few bytes a person.
//!
//! A person with one face takes 20 bytes, and 5 for each place of a table that is at least 7/16 full:
//! the table holds numbers only, for the digest that is compared lies with the person.

use std::collections::HashMap;

use hashbrown::HashTable;

use crate::index::{PersonNo, Row};
use likeness_types::digest::Digest;

/// Stands for a row where there is not exactly one. No index has a row of that number: 2^32 rows are 128 GiB
/// of the shortest templates.
const ELSEWHERE: Row = Row(u32::MAX);

/// The people who can be found.
#[derive(Default)]
pub struct PersonTable {
    by_digest: HashTable<PersonNo>,
    /// By number; a freed one has no digest.
    entries: Vec<Entry>,
    /// The faces of those who have none or several.
    elsewhere: HashMap<PersonNo, Box<[Row]>>,
    free: Vec<PersonNo>,
}

struct Entry {
    digest: Digest,
    row: Row,
}

impl PersonTable {
    /// People who can be found.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Whether the collection has no people.
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    /// The number that the next person gets.
    pub fn next(&self) -> PersonNo {
        self.free.last().copied().unwrap_or_else(|| {
            PersonNo::try_from(self.entries.len()).expect("a collection has fewer than 2^32 people")
        })
    }

    /// Adds a person that is not in the table, with these rows, as number [`Self::next`].
    pub fn insert(&mut self, digest: Digest, rows: Vec<Row>) {
        let number = self.next();
        let row = match rows[..] {
            [row] => row,
            _ => ELSEWHERE,
        };
        if row == ELSEWHERE {
            self.elsewhere.insert(number, rows.into());
        }
        let entry = Entry { digest, row };
        if self.free.pop().is_some() {
            self.entries[number as usize] = entry;
        } else {
            // By an eighth and not twofold: half of it would be unused.
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact(self.entries.len() / 8 + 16);
            }
            self.entries.push(entry);
        }
        let entries = &self.entries;
        let hash = |number: &PersonNo| hash(entries[*number as usize].digest);
        self.by_digest.insert_unique(hash(&number), number, hash);
    }

    /// Removes a person; answers the number and the rows.
    pub fn remove(&mut self, digest: Digest) -> Option<(PersonNo, Vec<Row>)> {
        let entries = &self.entries;
        let own = |number: &PersonNo| entries[*number as usize].digest == digest;
        let (number, _) = self.by_digest.find_entry(hash(digest), own).ok()?.remove();
        let rows = self.rows(number).to_vec();
        self.elsewhere.remove(&number);
        self.entries[number as usize].digest = Digest([0; 16]);
        self.free.push(number);
        Some((number, rows))
    }

    /// The number of a person in the table.
    pub fn of(&self, digest: Digest) -> Option<PersonNo> {
        let own = |number: &PersonNo| self.digest(*number) == digest;
        self.by_digest.find(hash(digest), own).copied()
    }

    /// The digest of the person with this number; zeros if the number is free.
    pub fn digest(&self, number: PersonNo) -> Digest {
        self.entries[number as usize].digest
    }

    /// Where the index has a person's faces.
    pub fn rows(&self, number: PersonNo) -> &[Row] {
        match &self.entries[number as usize].row {
            &ELSEWHERE => self.elsewhere.get(&number).map_or(&[], |rows| rows),
            row => std::slice::from_ref(row),
        }
    }

    /// Replaces the row of every face of every person.
    pub fn relocate(&mut self, mut row_of: impl FnMut(PersonNo, Row) -> Row) {
        for number in &self.by_digest {
            match &mut self.entries[*number as usize].row {
                &mut ELSEWHERE => {
                    let rows = self.elsewhere.get_mut(number).into_iter().flatten();
                    rows.for_each(|row| *row = row_of(*number, *row));
                }
                row => *row = row_of(*number, *row),
            }
        }
    }

    /// All people, in no order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Digest, PersonNo)> {
        self.by_digest
            .iter()
            .map(|number| (self.digest(*number), *number))
    }

    /// Bytes that people with one face take.
    #[cfg(any(test, feature = "testing"))]
    pub fn bytes(&self) -> usize {
        self.by_digest.allocation_size()
            + self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * size_of::<PersonNo>()
    }
}

/// A digest is keyed, and so its bits are as good as a hash, and no client can choose two of them alike.
fn hash(digest: Digest) -> u64 {
    let (first, _) = digest.0.split_first_chunk().expect("16 bytes");
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::arena::Arena;
    use likeness_types::template::{Bits, Template};

    fn digest(n: u64) -> Digest {
        let digest = blake3::hash(&n.to_le_bytes());
        Digest(*digest.as_bytes().first_chunk().expect("32 bytes"))
    }

    #[test]
    fn a_person_with_one_face_of_1024_bits_takes_at_most_250_bytes_of_memory() {
        const BYTES_MAX: usize = 250;
        for people in [10_000, 100_000, 200_000] {
            let (mut numbers, mut arena) = (PersonTable::default(), Arena::new(Bits::B1024));
            let template = Template::from_signs(&[1; 1024]);
            for n in 0..people {
                let row = arena.insert(numbers.next(), &template);
                numbers.insert(digest(n), vec![row]);
            }
            let bytes = (numbers.bytes() + arena.bytes()) / people as usize;
            println!("{people} people: {bytes} bytes each");
            assert!(bytes <= BYTES_MAX, "{bytes} bytes each for {people} people");
        }
    }

    proptest! {
        #[test]
        fn every_person_has_a_number_of_their_own_and_their_faces_after_any_changes(
            changes in prop::collection::vec((0..40_u64, prop::option::of(0..4_usize)), 0..200)
        ) {
            let (mut numbers, mut model) = (PersonTable::default(), BTreeMap::new());
            let mut next = 0;
            for (who, faces) in changes {
                let taken = numbers.remove(digest(who)).map(|(_, rows)| rows);
                prop_assert_eq!(taken, model.remove(&who));
                if let Some(faces) = faces {
                    let rows: Vec<_> = (next..).take(faces).map(Row).collect();
                    next += 4;
                    numbers.insert(digest(who), rows.clone());
                    model.insert(who, rows);
                }
                prop_assert_eq!(numbers.len(), model.len());
                prop_assert!(numbers.entries.len() <= 40, "numbers are given out again");
                for who in 0..40 {
                    let rows = numbers.of(digest(who)).map(|number| numbers.rows(number));
                    prop_assert_eq!(rows, model.get(&who).map(|rows| &rows[..]));
                }
                for (digest, number) in numbers.iter() {
                    prop_assert_eq!(numbers.of(digest), Some(number));
                }
            }
        }
    }
}
