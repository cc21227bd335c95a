//! Checks of new faces: whether they are the person's, and whether they are somebody else's already.

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::{Admitted, Looking, Match};
use crate::guard::comparison_limiter::Evaluation;
use likeness_faces::calibration::Limit;
use likeness_faces::pipeline::Looks;
use likeness_types::error::{Rejection, Result};
use likeness_types::names::PersonId;
use likeness_types::person::{Names, NewFace, Person, Profile};
use likeness_types::span::Step;

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
            .filter_map(|face| new.similarity_to(face.scheme, &face.template))
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
