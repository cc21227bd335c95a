//! Checks of new faces: whether they are the person's, and whether they are somebody else's already.

use crate::calibration::Limit;
use crate::call::{Call, Step};
use crate::engine::{CollectionRef, Engine};
use crate::error::{Rejection, Result};
use crate::gallery::meter::Asker;
use crate::gallery::running::row::Part;
use crate::gallery::{Admitted, Match};
use crate::names::PersonId;
use crate::person::{NewFace, Person, Profile};
use crate::pipeline::Looks;

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

impl Checks {
    pub(crate) fn need_probes(self) -> bool {
        self.duplicates.is_some() || self.own_person
    }
}

impl Engine {
    /// How similar a new face is to the most similar of the person's others: those kept, and those `before`
    /// it in the call. None where there is none to compare with, or it may not be told.
    ///
    /// A comparison with those kept is one as [`Engine::verify`] makes: it counts, and no floor is lower.
    ///
    /// # Errors
    /// [`Rejection::NotThePerson`] where it is not similar enough; too many comparisons with the person.
    pub fn check_own(
        &self,
        collection: &CollectionRef,
        new: &NewFace,
        kept: Option<&Person>,
        before: &[NewFace],
        call: &Call,
    ) -> Result<Option<f32>> {
        let scoring = collection.scoring();
        let of_kept = kept.and_then(|person| new.similarity(&person.faces));
        let of_call = before
            .iter()
            .filter_map(|face| new.similarity_to(face.scheme, &face.template));
        let best = of_call.chain(of_kept).max_by(f32::total_cmp);
        let mut similarity_min = self.calibration().similarity(scoring, OWN_PERSON_FAR);
        if of_kept.is_some() {
            similarity_min = similarity_min.max(self.floor(scoring));
        }
        if let (Some(person), Some(best), Some(_)) = (kept, best, of_kept) {
            similarity_min = self
                .gallery
                .compared(&collection.0, &person.id, best, similarity_min)?;
        }
        let is_own = best.is_none_or(|best| best >= similarity_min);
        let mut is_told = true;
        if let (Some(person), Some(_)) = (kept, of_kept) {
            is_told = is_own && self.gallery.may_tell(&collection.0, &person.id, call.asker())?;
        }
        match is_own {
            true => Ok(best.filter(|_| is_told)),
            false => Err(Rejection::NotThePerson { similarity_min }.into()),
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
        limit: Limit,
        call: &mut Call,
    ) -> Result<Admission> {
        let profile = profile.checked()?;
        let caller = call.caller();
        self.admit(collection, limit, call, |limit| {
            let own = &collection.0;
            self.gallery
                .enroll_unless_duplicate(own, id, profile, faces, limit, &caller)
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
        limit: Limit,
        call: &mut Call,
    ) -> Result<Admission> {
        let caller = call.caller();
        self.admit(collection, limit, call, |limit| {
            self.gallery
                .add_faces_unless_duplicate(&collection.0, id, faces, limit, &caller)
        })
    }

    fn admit(
        &self,
        collection: &CollectionRef,
        limit: Limit,
        call: &mut Call,
        change: impl FnOnce((f32, Asker)) -> Result<Admitted>,
    ) -> Result<Admission> {
        let (searched, scoring) = (collection.faces() as u64, collection.scoring());
        let asked = limit.similarity(self.calibration(), scoring, searched);
        let similarity_min = asked.max(self.search_floor(scoring, searched));
        let limit = (similarity_min, self.gallery.asker(call.asker()));
        call.reads(&collection.0.readers);
        Ok(match call.step(Step::Store, || change(limit))? {
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
