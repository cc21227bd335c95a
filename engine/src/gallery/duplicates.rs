//! New faces that are somebody's already: found before they are kept, and also when two callers enrol one
//! human at the same time.
//!
//! The search runs on the caller's thread; in the writer's turn it runs again only if anybody came, changed or
//! went since. There it finds every change before it, because it begins a group of its own.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::error::{OperatorError, RequestError, Result};
use crate::gallery::codec::Digest;
use crate::gallery::collection::Collection;
use crate::gallery::index::{Ask, By};
use crate::gallery::meter::Asker;
use crate::gallery::search::{Match, same_scheme};
use crate::gallery::writer::{Current, Edit};
use crate::gallery::{Gallery, exists, persons};
use crate::names::PersonId;
use crate::once::Caller;
use crate::person::{NewFace, Person, Profile, checked_expiry};
use crate::template::Probe;

/// Most people that are named.
const NAMED_MAX: usize = 5;

/// What became of new faces.
pub(crate) enum Admitted {
    /// They are kept.
    Person(Person),
    /// They are not kept: they are these people's, best first.
    Duplicates(Vec<Match>),
}

/// Whether the faces are for somebody new.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    New,
    Enrolled,
}

/// What is asked about new faces.
struct New {
    faces: Vec<NewFace>,
    /// From where on they are another person's, and who asks.
    limit: (f32, Asker),
    who: For,
}

impl Gallery {
    /// Enrols a person unless somebody enrolled is at least as similar.
    pub fn enroll_unless_duplicate(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        profile: Profile,
        faces: Vec<NewFace>,
        limit: (f32, Asker),
        caller: &Caller,
    ) -> Result<Admitted> {
        checked_expiry(profile.expires, self.eraser.clock.now())?;
        self.make_way(collection, id)?;
        let edit = persons::enrolling(collection, id, profile);
        let new = New {
            faces,
            limit,
            who: For::New,
        };
        self.unless_duplicate(collection, id, new, caller, edit)
    }

    /// Adds faces to a person unless somebody else is at least as similar.
    pub fn add_faces_unless_duplicate(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        faces: Vec<NewFace>,
        limit: (f32, Asker),
        caller: &Caller,
    ) -> Result<Admitted> {
        let edit = persons::adding(collection, self.eraser.clock.now());
        let new = New {
            faces,
            limit,
            who: For::Enrolled,
        };
        self.unless_duplicate(collection, id, new, caller, edit)
    }

    fn unless_duplicate(
        &self,
        collection: &Arc<Collection>,
        id: &PersonId,
        new: New,
        caller: &Caller,
        edit: impl FnOnce(Current, Vec<NewFace>) -> Result<Edit> + Send + 'static,
    ) -> Result<Admitted> {
        let New {
            faces,
            limit: (similarity_min, asker),
            who,
        } = new;
        exists(collection)?;
        faces
            .iter()
            .try_for_each(|face| same_scheme(face.scheme, collection))?;
        let own = self.digest(collection, id);
        let (seen, found) = resembling(collection, &faces, own, similarity_min)?;
        // Whether the PersonID is taken is told before whom the faces resemble.
        if self.still_there(collection, id).is_ok() == (who == For::Enrolled) && !found.is_empty() {
            let named = self.named(collection, &found, &faces, (similarity_min, asker))?;
            if !named.is_empty() {
                return Ok(Admitted::Duplicates(named));
            }
        }
        let (put, left) = sync_channel(1);
        let place = Arc::clone(collection);
        let nobody = found.is_empty();
        let claim = self.claim(caller);
        let changed = self
            .writer
            .change_looking(collection, own, claim.clone(), move |current| {
                let fits = match who {
                    For::New => matches!(current, Current::Absent),
                    For::Enrolled => matches!(current, Current::Present(_)),
                };
                let same = nobody && place.people.read().changes == seen;
                if fits && !same {
                    let (_, found) = resembling(&place, &faces, own, similarity_min)?;
                    if !found.is_empty() {
                        // Room for the one message was made above.
                        let _ = put.send((found, faces));
                        return Ok(Edit::Leave);
                    }
                }
                edit(current, faces)
            })?;
        if changed.person.is_some() || changed.done.is_some() {
            return self.kept(collection, id, claim, changed).map(Admitted::Person);
        }
        let named = match left.recv() {
            Ok((found, faces)) => self.named(collection, &found, &faces, (similarity_min, asker))?,
            Err(_) => Vec::new(),
        };
        if named.is_empty() {
            return Err(OperatorError::Store {
                doing: "looking for duplicates",
                detail: "whoever resembled the new faces went meanwhile; nothing was kept".to_owned(),
            }
            .into());
        }
        Ok(Admitted::Duplicates(named))
    }

    /// Who was found, by the records, which have the last word.
    fn named(
        &self,
        collection: &Arc<Collection>,
        found: &[Digest],
        faces: &[NewFace],
        (similarity_min, asker): (f32, Asker),
    ) -> Result<Vec<Match>> {
        let mut named = Vec::new();
        for digest in found {
            match self.read_person(collection, *digest) {
                Ok(None) => {}
                Ok(Some(person)) => named.push(Match {
                    similarity: similarity(&person, faces),
                    threshold: similarity_min,
                    is_told: false,
                    collection: collection.name.clone(),
                    person,
                }),
                Err(crate::Error::Request(RequestError::Damaged)) => self.note_damage(collection, *digest),
                Err(error) => return Err(error),
            }
        }
        named.retain(|found| {
            found.similarity >= similarity_min && self.still_there(collection, &found.person.id).is_ok()
        });
        named.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        named.truncate(NAMED_MAX);
        for found in &mut named {
            // Nobody is enrolled twice because the first was doubted too often: the threshold stays.
            self.count_named(collection, found)?;
            found.threshold = similarity_min;
            self.may_be_told(collection, found, asker)?;
        }
        Ok(named)
    }
}

/// Who resembles any of the faces, but for the person they are for; and the number of the index' latest change.
fn resembling(
    collection: &Collection,
    faces: &[NewFace],
    own: Digest,
    similarity_min: f32,
) -> Result<(u64, Vec<Digest>)> {
    let people = collection.people.read();
    let mut found = Vec::new();
    let probes: Vec<_> = faces.iter().map(probe).collect::<Result<_>>()?;
    let resembling = people.index.top(&Ask {
        probes: &probes,
        // One more, for the person may be among them.
        k: NAMED_MAX + 1,
        similarity_min,
        among: None,
        by: By::BestFace,
        // Of those at the limit the flat index passes over one in a million: nothing beside those who stay below it.
        // A graph passes over more.
        exact: people.index.is_graph(),
    });
    for hits in resembling.hits {
        for hit in hits {
            let digest = people.digest(hit.person);
            if digest != own && !found.contains(&digest) {
                found.push(digest);
            }
        }
    }
    Ok((people.changes, found))
}

/// Of the two faces most alike.
fn similarity(person: &Person, faces: &[NewFace]) -> f32 {
    let each = faces.iter().filter_map(|new| new.similarity(&person.faces));
    each.fold(-1.0, f32::max)
}

fn probe(face: &NewFace) -> Result<&Probe> {
    let missing = || RequestError::invalid("checks", "faces made to be looked for", "other faces");
    Ok(face.probe.as_ref().ok_or_else(missing)?)
}
