//! What of a person's record a reply discloses, by the scopes of the caller's key.

use likeness_engine::{Person, Scope};
use likeness_proto::v1;

use crate::call::caller::Caller;
use crate::convert;

/// A person as the call left the record. Without scope read the ids only: a key that may change a record need not be
/// able to read it.
pub fn person(caller: &Caller, person: Person) -> v1::Person {
    if caller.has(Scope::Read) {
        return convert::person(person);
    }
    v1::Person {
        person_id: person.id.as_str().to_owned(),
        faces: person.faces.iter().map(face_id).collect(),
        ..Default::default()
    }
}

fn face_id(face: &likeness_engine::StoredFace) -> v1::StoredFace {
    v1::StoredFace {
        face_id: face.id.to_string(),
        ..Default::default()
    }
}

/// A person found by the check for duplicates. Name and tags are in the answer of a search, and so need scope search
/// or read.
pub fn duplicate(caller: &Caller, found: v1::Match) -> v1::Match {
    if caller.has(Scope::Read) || caller.has(Scope::Search) {
        return found;
    }
    v1::Match {
        name: String::new(),
        tags: Vec::new(),
        ..found
    }
}
