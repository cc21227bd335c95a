//! The people of each tag, in memory: keyed digests of the tags, never the tags themselves, and sets of person numbers.
//!
//! A projection of the records, rebuilt at every start under a key of its own. Two tags of one digest (one in
//! 2^64) let a person be compared who does not pass the filter; the records decide the answer.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use crate::index::PersonNo;
use likeness_types::crypto;
use likeness_types::crypto::Secret;

/// A tag, as this process knows it.
type TagDigest = u64;

/// The tags of a collection's people; nothing is kept of people without tags.
pub struct Tags {
    key: Secret,
    people: HashMap<TagDigest, RoaringBitmap>,
    /// What is to be undone when a person goes.
    tags: HashMap<PersonNo, Box<[TagDigest]>>,
}

impl Tags {
    /// No tags, under a random key.
    pub fn empty() -> Self {
        Self {
            key: Secret::random(),
            people: HashMap::new(),
            tags: HashMap::new(),
        }
    }

    /// Gives a person exactly these tags, who has none.
    pub fn set(&mut self, person: PersonNo, tags: &[String]) {
        if tags.is_empty() {
            return;
        }
        let digests: Box<[_]> = tags.iter().map(|tag| self.digest(tag)).collect();
        for digest in &digests {
            self.people.entry(*digest).or_default().insert(person);
        }
        let before = self.tags.insert(person, digests);
        debug_assert!(before.is_none(), "removed before it is set anew");
    }

    /// Takes all tags from a person.
    pub fn remove(&mut self, person: PersonNo) {
        for digest in self.tags.remove(&person).unwrap_or_default() {
            if let Some(people) = self.people.get_mut(&digest) {
                people.remove(person);
                // A tag that nobody has is forgotten.
                if people.is_empty() {
                    self.people.remove(&digest);
                }
            }
        }
    }

    /// Who has at least one of these tags.
    pub fn any(&self, tags: &[String]) -> RoaringBitmap {
        let mut people = RoaringBitmap::new();
        tags.iter()
            .filter_map(|tag| self.people.get(&self.digest(tag)))
            .for_each(|tagged| people |= tagged);
        people
    }

    /// Who of `people`, or of everybody, has all of these tags; `tags` is not empty.
    pub fn all(&self, tags: &[String], people: Option<RoaringBitmap>) -> RoaringBitmap {
        let nobody = RoaringBitmap::new();
        let tagged = tags
            .iter()
            .map(|tag| self.people.get(&self.digest(tag)).unwrap_or(&nobody));
        let common = tagged.fold(people, |common, tagged| {
            Some(common.map_or_else(|| tagged.clone(), |common| common & tagged))
        });
        common.unwrap_or_default()
    }

    fn digest(&self, tag: &str) -> TagDigest {
        u64::from_le_bytes(crypto::keyed_digest(
            &self.key,
            "likeness v1 tag in memory",
            &[tag.as_bytes()],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn numbers(people: RoaringBitmap) -> Vec<PersonNo> {
        people.into_iter().collect()
    }

    #[test]
    fn people_are_found_by_their_tags_until_they_go() {
        let mut all = Tags::empty();
        all.set(1, &tags(&["day", "door"]));
        all.set(2, &tags(&["day"]));
        all.set(3, &[]);
        assert_eq!(numbers(all.any(&tags(&["day", "night"]))), [1, 2]);
        assert_eq!(numbers(all.all(&tags(&["day", "door"]), None)), [1]);
        assert_eq!(numbers(all.all(&tags(&["day", "night"]), None)), [0; 0]);
        assert_eq!(numbers(all.all(&tags(&["day"]), Some([2, 3].into()))), [2]);
        all.remove(1);
        assert_eq!(numbers(all.any(&tags(&["day", "door"]))), [2]);
        all.remove(2);
        all.remove(3);
        assert!(
            all.people.is_empty() && all.tags.is_empty(),
            "nothing is left of them"
        );
    }

    #[test]
    fn a_digest_says_nothing_outside_its_collection() {
        assert_ne!(Tags::empty().digest("day"), Tags::empty().digest("day"));
    }
}
