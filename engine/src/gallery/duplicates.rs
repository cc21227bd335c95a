//! New faces that are somebody's already: found before they are kept, and also when two callers enrol one
//! human at the same time.
//!
//! The search runs on the caller's thread; in the writer's turn it runs again only if anybody came, changed or
//! went since. There it finds every change before it, because it begins a group of its own.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::gallery::collection::Collection;
use crate::gallery::commit::{Current, Edit};
use crate::gallery::search::{Match, same_scheme};
use crate::gallery::{Gallery, exists, persons};
use crate::guard::comparison_limiter::{Asker, Comparing};
use crate::guard::once::Caller;
use likeness_search::index::{Ask, By};
use likeness_store::codec::Digest;
use likeness_types::doors;
use likeness_types::error::{OperatorError, RequestError, Result};
use likeness_types::names::PersonId;
use likeness_types::person::{Names, NewFace, Person, Profile, checked_expiry};
use likeness_types::template::Probe;

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

/// How people are looked for whose faces the new ones are already.
#[derive(Clone, Copy)]
pub(crate) struct Looking {
    /// From where on a face is theirs.
    pub similarity_min: f32,
    /// Who asks.
    pub asker: Asker,
    /// Which of their faces count.
    pub names: Names,
}

/// Whose faces the new ones are.
#[derive(Default)]
struct Named {
    /// Best first.
    people: Vec<Match>,
    /// Those who were named as duplicates so often that day that they are not there for this check.
    withheld: Vec<Digest>,
}

/// What is asked about new faces.
struct New {
    faces: Vec<NewFace>,
    looking: Looking,
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
        looking: Looking,
        caller: &Caller,
    ) -> Result<Admitted> {
        checked_expiry(profile.expires, self.eraser.clock.now())?;
        self.make_way(collection, id)?;
        let edit = persons::enrolling(collection, id, profile);
        let new = New {
            faces,
            looking,
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
        looking: Looking,
        caller: &Caller,
    ) -> Result<Admitted> {
        let edit = persons::adding(collection, self.eraser.clock.now());
        let new = New {
            faces,
            looking,
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
        let New { faces, looking, who } = new;
        exists(collection)?;
        faces
            .iter()
            .try_for_each(|face| same_scheme(face.scheme, collection))?;
        let own = self.digest(collection, id);
        let (seen, found) = resembling(collection, &faces, own, looking)?;
        let mut withheld = Vec::new();
        // Whether the PersonID is taken is told before whom the faces resemble.
        if self.still_there(collection, id).is_ok() == (who == For::Enrolled) && !found.is_empty() {
            let named = self.named(collection, &found, &faces, looking)?;
            if !named.people.is_empty() {
                return Ok(Admitted::Duplicates(named.people));
            }
            withheld = named.withheld;
        }
        let (put, left) = sync_channel(1);
        let place = Arc::clone(collection);
        let nobody = found.iter().all(|digest| withheld.contains(digest));
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
                    let (_, mut found) = resembling(&place, &faces, own, looking)?;
                    found.retain(|digest| !withheld.contains(digest));
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
            Ok((found, faces)) => self.named(collection, &found, &faces, looking)?.people,
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
        looking: Looking,
    ) -> Result<Named> {
        let (mut named, comparing) = (Vec::new(), Comparing::at(&doors::ENROL));
        let similarity_min = looking.similarity_min;
        for digest in found {
            match self.read_person(collection, *digest) {
                Ok(None) => {}
                Ok(Some(person)) => named.push(Match {
                    similarity: similarity(&person, faces, looking.names, &comparing),
                    threshold: similarity_min,
                    is_told: false,
                    by_features: looking.names == Names::Features
                        && similarity(&person, faces, Names::Photographs, &comparing) < similarity_min,
                    collection: collection.name.clone(),
                    person,
                }),
                Err(error) if error.is_damage() => self.note_damage(collection, *digest),
                Err(error) => return Err(error),
            }
        }
        named.retain(|found| {
            found.similarity >= similarity_min && self.still_there(collection, &found.person.id).is_ok()
        });
        named.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        named.truncate(NAMED_MAX);
        let mut answer = Named::default();
        for mut found in named {
            let key = self.meter_key(collection, &found.person.id);
            if !self.vault.limiter.may_name(&key)? {
                answer.withheld.push(self.digest(collection, &found.person.id));
                continue;
            }
            // Nobody is enrolled twice because the first was doubted too often: the threshold stays.
            self.count_named(collection, &mut found, looking.asker)?;
            found.threshold = similarity_min;
            self.may_be_told(collection, &mut found)?;
            answer.people.push(found);
        }
        self.vault.limiter.withhold_duplicates(answer.withheld.len());
        Ok(answer)
    }
}

/// Who resembles any of the faces, but for the person they are for; and the number of the index' latest change.
fn resembling(
    collection: &Collection,
    faces: &[NewFace],
    own: Digest,
    looking: Looking,
) -> Result<(u64, Vec<Digest>)> {
    let comparing = Comparing::at(&doors::ENROL);
    let people = collection.people.read();
    let mut found = Vec::new();
    let probes: Vec<_> = faces.iter().map(probe).collect::<Result<_>>()?;
    let resembling = people.index.compare(&comparing).top(&Ask {
        probes: &probes,
        // One more, for the person may be among them.
        k: NAMED_MAX + 1,
        similarity_min: looking.similarity_min,
        among: people.nameable(looking.names),
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
fn similarity(person: &Person, faces: &[NewFace], names: Names, comparing: &Comparing) -> f32 {
    let each = faces.iter().flat_map(|new| {
        let stored = person.nameable(new.scheme, names, comparing).into_iter();
        stored.filter_map(move |template| new.similarity_to(new.scheme, template))
    });
    each.fold(-1.0, f32::max)
}

fn probe(face: &NewFace) -> Result<&Probe> {
    let missing = || RequestError::invalid("checks", "faces made to be looked for", "other faces");
    Ok(face.probe.as_ref().ok_or_else(missing)?)
}
