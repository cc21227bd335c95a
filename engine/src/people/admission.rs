//! New faces that are somebody's already: found before they are kept, and also when two callers enrol one
//! human at the same time.
//!
//! The search runs on the caller's thread; in the writer's turn it runs again only if anybody came, changed or
//! went since. There it finds every change before it, because it begins a group of its own.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::gallery::collection::exists;
use crate::gallery::commit::edit::{Current, Edit};
use crate::guard::comparison_limiter::{Asker, Comparing, Evaluation};
use crate::guard::idempotency::key::Caller;
use crate::people::enroll::{adding, enrolling};
use crate::search::Match;
use crate::search::comparisons::same_scheme;
use likeness_faces::calibration::Limit;
use likeness_faces::pipeline::Looks;
use likeness_search::index::{Ask, ComparedFaces};
use likeness_store::codec::Digest;
use likeness_types::Inside;
use likeness_types::doors;
use likeness_types::error::{OperatorError, Rejection, RequestError, Result};
use likeness_types::names::PersonId;
use likeness_types::person::{Names, NewFace, Person, Profile, checked_expiry};
use likeness_types::span::Step;
use likeness_types::template::Probe;

/// The false accept rate of one comparison of a new face with one of the person's others.
const OWN_PERSON_FAR: f64 = 1e-3;

/// What is done with new faces beside taking them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks {
    /// From where on they are another person's; unset looks for nobody.
    pub duplicates: Option<Limit>,
    /// Whether they must be like the person's other faces.
    pub own_person: bool,
    /// How often each is looked at.
    pub looks: Looks,
}

/// What became of new faces that were looked for first.
pub enum Admission {
    /// They are kept with this person.
    Kept(Person),
    /// Nothing was kept: these people have them already, best first.
    Duplicates {
        /// Who.
        people: Vec<Match>,
        /// Faces that each new face was compared with.
        searched: u64,
    },
}

/// The checks that the new faces of one call are the person's: one evaluation.
#[derive(Default)]
pub struct OwnChecks(Evaluation);

impl Checks {
    pub(crate) fn need_probes(self) -> bool {
        self.duplicates.is_some() || self.own_person
    }
}

impl Engine {
    /// How similar a new face is to one of the person's others: to those `before` it in the call or, where it is like
    /// none of them, to those kept. None where there is none to compare with, or it may not be told.
    ///
    /// A comparison with those kept is one as [`Engine::verify`] makes: it counts, and no floor is lower. The faces of
    /// one call share one `evaluation`.
    ///
    /// # Errors
    /// [`Rejection::NotThePerson`] where it is not similar enough; too many comparisons with the person.
    pub fn check_own(
        &self,
        collection: &CollectionRef,
        new: &NewFace,
        (kept, before): (Option<&Person>, &[NewFace]),
        evaluation: &mut OwnChecks,
        call: &Call,
    ) -> Result<Option<f32>> {
        let scoring = collection.scoring();
        let mut own_min = self.calibration().similarity(scoring, OWN_PERSON_FAR);
        if kept.is_some() {
            own_min = own_min.max(self.floor(scoring));
        }
        let of_call = before
            .iter()
            .filter_map(|face| new.similarity_to(face.scheme, face.template(Inside), Inside))
            .max_by(f32::total_cmp);
        // Both photographs are the caller's: nothing that is kept is compared, and nothing counts.
        if of_call.is_some_and(|similarity| similarity >= own_min) {
            return Ok(of_call);
        }
        let asked = (call.asker(), own_min);
        let of_kept = match kept {
            Some(person) => self
                .gallery
                .compare_own(&collection.0, person, new, &mut evaluation.0, asked)?,
            None => None,
        };
        match (of_kept, of_call) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Rejection::NotThePerson {
                similarity_min: own_min,
            }
            .into()),
            (Some(own), _) if own.similarity >= own.threshold => Ok(own.is_told.then_some(own.similarity)),
            (Some(own), _) => Err(Rejection::NotThePerson {
                similarity_min: own.threshold,
            }
            .into()),
        }
    }

    /// As [`Self::enroll`], unless the faces are somebody's already. However many callers enrol one human at
    /// once, one of them succeeds.
    ///
    /// # Errors
    /// As there, and faces that were made without `duplicates` in their [`Checks`].
    pub fn enroll_unless_duplicate(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        profile: Profile,
        faces: Vec<NewFace>,
        limit: (Limit, Names),
        call: &mut Call,
    ) -> Result<Admission> {
        let profile = profile.checked()?;
        let caller = call.caller();
        self.admit(collection, limit, call, |looking| {
            let own = &collection.0;
            self.gallery
                .enroll_unless_duplicate(own, id, profile, faces, looking, &caller)
        })
    }

    /// As [`Self::add_faces`], unless the faces are somebody else's already.
    ///
    /// # Errors
    /// As there, and faces that were made without `duplicates` in their [`Checks`].
    pub fn add_faces_unless_duplicate(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        faces: Vec<NewFace>,
        limit: (Limit, Names),
        call: &mut Call,
    ) -> Result<Admission> {
        let caller = call.caller();
        self.admit(collection, limit, call, |looking| {
            self.gallery
                .add_faces_unless_duplicate(&collection.0, id, faces, looking, &caller)
        })
    }

    fn admit(
        &self,
        collection: &CollectionRef,
        (limit, names): (Limit, Names),
        call: &mut Call,
        change: impl FnOnce(Looking) -> Result<Admitted>,
    ) -> Result<Admission> {
        let (searched, scoring) = (collection.faces() as u64, collection.scoring());
        let asked = limit.similarity(self.calibration(), scoring, searched);
        let similarity_min = asked.max(self.search_floor(scoring, searched));
        let looking = Looking {
            similarity_min,
            asker: self.gallery.asker(call.asker()),
            names,
        };
        call.reads(&collection.0.readers);
        Ok(match call.step(Step::Store, || change(looking))? {
            Admitted::Person(person) => {
                self.note(call, &collection.0, &person, Part::Subject);
                Admission::Kept(person)
            }
            Admitted::Duplicates(people) => {
                let named = people.iter().enumerate();
                self.note_found(call, 0, named.map(|(at, found)| (at, &*collection.0, found)));
                Admission::Duplicates { people, searched }
            }
        })
    }
}

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
        let edit = enrolling(collection, id, profile);
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
        let edit = adding(collection, self.eraser.clock.now());
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
        by: ComparedFaces::BestFace,
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
        stored.filter_map(move |template| new.similarity_to(new.scheme, template, Inside))
    });
    each.fold(-1.0, f32::max)
}

fn probe(face: &NewFace) -> Result<&Probe> {
    let missing = || RequestError::invalid("checks", "faces made to be looked for", "other faces");
    Ok(face.probe(Inside).ok_or_else(missing)?)
}
