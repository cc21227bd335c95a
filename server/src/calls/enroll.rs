//! New faces: of new people, and of enrolled people.

use likeness_engine::{
    Act, Admission, Call, Checks, Choose, CollectionName, CollectionRef, Error, Estimate, Face, Match,
    NewFace, OwnChecks, Person, PersonId, Profile, QualityLevel, Rejection,
};
use likeness_proto::v1::{
    self, AddFacesRequest, AddFacesResponse, EnrollPersonRequest, EnrollPersonResponse, PhotographOutcome,
};

use super::disclosed;
use super::matching::told;
use crate::call::context::CallContext;
use crate::call::gate::Turn;
use crate::call::work::{Progress, Work};
use crate::convert;
use crate::refusal::{Refusal, rejection};

/// The photographs of a call, and what it wants of them.
struct Photographs {
    photos: Vec<Vec<u8>>,
    choose: Choose,
    level: Option<QualityLevel>,
    all_or_nothing: bool,
    checks: Checks,
}

impl Photographs {
    fn parse(
        photographs: Vec<v1::Photograph>,
        face_choice: i32,
        quality_level: i32,
        all_or_nothing: bool,
        checks: Option<v1::EnrollmentChecks>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            checks: convert::checks(checks)?,
            choose: convert::face_choice(face_choice)?,
            level: convert::quality_level(quality_level)?,
            photos: convert::photographs(photographs)?,
            all_or_nothing,
        })
    }
}

/// What the photographs of a call gave.
struct Extracted {
    collection: CollectionRef,
    faces: Vec<NewFace>,
    outcomes: Vec<PhotographOutcome>,
}

/// Whose the new faces are to be.
enum For {
    /// Somebody who is not in the collection yet.
    New(Profile),
    /// Somebody who is.
    Enrolled,
}

pub async fn enroll(
    call: &mut CallContext,
    mut request: EnrollPersonRequest,
) -> Result<EnrollPersonResponse, Refusal> {
    call.once(&mut request)?;
    let names = convert::names(&request.collection, &request.person_id)?;
    call.about(&names.0, &names.1);
    let photographs = Photographs::parse(
        request.photographs,
        request.face_choice,
        request.quality_level,
        request.all_or_nothing,
        request.checks,
    )?;
    let profile = convert::profile(request.name, request.tags, request.consent, request.expires)?;
    let admitted = admit(call, names, photographs, For::New(profile)).await?;
    Ok(EnrollPersonResponse {
        call: None,
        person: admitted.person,
        outcomes: admitted.outcomes,
        duplicates: admitted.duplicates,
    })
}

pub async fn add_faces(
    call: &mut CallContext,
    mut request: AddFacesRequest,
) -> Result<AddFacesResponse, Refusal> {
    call.once(&mut request)?;
    let names = convert::names(&request.collection, &request.person_id)?;
    call.about(&names.0, &names.1);
    let photographs = Photographs::parse(
        request.photographs,
        request.face_choice,
        request.quality_level,
        request.all_or_nothing,
        request.checks,
    )?;
    let admitted = admit(call, names, photographs, For::Enrolled).await?;
    Ok(AddFacesResponse {
        call: None,
        person: admitted.person,
        outcomes: admitted.outcomes,
        duplicates: admitted.duplicates,
    })
}

/// Keeps the faces of the photographs, unless this very call did before or somebody else has them.
async fn admit(
    call: &mut CallContext,
    (collection, person_id): (CollectionName, PersonId),
    photographs: Photographs,
    whose: For,
) -> Result<Admitted, Refusal> {
    if let Some(person) = made_before(call, &collection, &person_id).await? {
        return Ok(Admitted {
            person: Some(disclosed::person(&call.caller, person)),
            outcomes: Vec::new(),
            duplicates: Vec::new(),
        });
    }
    let duplicates = photographs.checks.duplicates;
    if duplicates.is_some() {
        call.resources.rates.search(call.account())?;
    }
    let own = matches!(whose, For::Enrolled).then(|| person_id.clone());
    let Extracted {
        collection,
        faces,
        outcomes,
    } = extract(call, collection, own, photographs).await?;
    let act = call.own_act(Act::NameFeatures, collection.name().as_str());
    call.on_storage_pool(move |work, call| {
        let (engine, id) = (&work.engine, &person_id);
        let duplicates = duplicates.map(|limit| (limit, work.names()));
        let admission = match (whose, duplicates) {
            (For::New(profile), None) => {
                Admission::Kept(engine.enroll(&collection, id, profile, faces, call)?)
            }
            (For::New(profile), Some(limit)) => {
                engine.enroll_unless_duplicate(&collection, id, profile, faces, limit, call)?
            }
            (For::Enrolled, None) => Admission::Kept(engine.add_faces(&collection, id, faces, call)?),
            (For::Enrolled, Some(limit)) => {
                engine.add_faces_unless_duplicate(&collection, id, faces, limit, call)?
            }
        };
        if let Admission::Duplicates { people, .. } = &admission
            && people.iter().any(|found| found.by_features)
        {
            // ORDER: written down before anybody is told.
            work.audited(&act, |_| Ok(()))?;
        }
        Ok(Admitted::new(work, &collection, admission, outcomes))
    })
    .await
}

/// Enrols a person from features instead of photographs.
pub async fn enroll_features(
    call: &mut CallContext,
    request: EnrollPersonRequest,
    features: Vec<Vec<f32>>,
) -> Result<EnrollPersonResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    call.about(&collection, &person_id);
    let profile = convert::profile(request.name, request.tags, request.consent, request.expires)?;
    let person = match made_before(call, &collection, &person_id).await? {
        Some(person) => person,
        None => {
            call.on_storage_pool(move |work, call| {
                let collection = work.collection(&collection)?;
                let faces = features
                    .into_iter()
                    .map(|values| work.engine.face_of_features(&collection, values, call))
                    .collect::<likeness_engine::Result<_>>()?;
                Ok(work
                    .engine
                    .enroll(&collection, &person_id, profile, faces, call)?)
            })
            .await?
        }
    };
    Ok(EnrollPersonResponse {
        person: Some(disclosed::person(&call.caller, person)),
        ..Default::default()
    })
}

/// The person whom this very call made or changed before: no photograph is looked at again.
async fn made_before(
    call: &mut CallContext,
    collection: &CollectionName,
    person_id: &PersonId,
) -> Result<Option<Person>, Refusal> {
    if !call.call.is_once() {
        return Ok(None);
    }
    let (collection, person_id) = (collection.clone(), person_id.clone());
    let (person, found) = call
        .on_storage_pool(move |work, call| {
            work.sees(&collection)?;
            let person = work
                .engine
                .person_before(&work.account, &collection, &person_id, call)?;
            Ok((person, work.collection(&collection).ok()))
        })
        .await?;
    found.iter().for_each(|collection| call.scheme(collection));
    Ok(person)
}

/// What became of new faces, on the wire.
struct Admitted {
    person: Option<v1::Person>,
    outcomes: Vec<PhotographOutcome>,
    duplicates: Vec<v1::Match>,
}

impl Admitted {
    fn new(
        work: &Work,
        collection: &CollectionRef,
        admission: Admission,
        mut outcomes: Vec<PhotographOutcome>,
    ) -> Self {
        let (person, duplicates) = match admission {
            Admission::Kept(person) => (Some(disclosed::person(&work.caller, person)), Vec::new()),
            Admission::Duplicates { people, searched } => {
                outcomes.iter_mut().for_each(not_kept);
                let duplicate = |found: Match| {
                    let told = told(work, &found, collection.scoring(), Some(searched));
                    disclosed::duplicate(&work.caller, convert::matched(found, told))
                };
                (None, people.into_iter().map(duplicate).collect())
            }
        };
        Self {
            person,
            outcomes,
            duplicates,
        }
    }
}

/// A face that is not kept after all has no id.
fn not_kept(outcome: &mut PhotographOutcome) {
    if let Some(v1::photograph_outcome::Outcome::Enrolled(face)) = &mut outcome.outcome {
        face.face_id.clear();
    }
}

/// Photographs to faces that this collection can keep; of a person who is in it, if they are to be added.
async fn extract(
    call: &mut CallContext,
    collection: CollectionName,
    person_id: Option<PersonId>,
    photographs: Photographs,
) -> Result<Extracted, Refusal> {
    let looking = Looking {
        collection,
        own: person_id.filter(|_| photographs.checks.own_person),
        choose: photographs.choose,
        level: photographs.level,
        all_or_nothing: photographs.all_or_nothing,
        checks: photographs.checks,
        faces: Vec::with_capacity(photographs.photos.len()),
        outcomes: Vec::with_capacity(photographs.photos.len()),
        rejected: Vec::new(),
        evaluation: OwnChecks::default(),
        left: photographs.photos.into_iter(),
    };
    let extracted = call
        .on_compute_pool_in_turns(looking, |looking| looking.left.len(), Looking::turn)
        .await?;
    call.scheme(&extracted.collection);
    Ok(extracted)
}

/// How far the photographs of a call have been looked at.
struct Looking {
    collection: CollectionName,
    /// Whose they must be, if that is checked.
    own: Option<PersonId>,
    choose: Choose,
    level: Option<QualityLevel>,
    all_or_nothing: bool,
    checks: Checks,
    /// Each one's bytes go as soon as its face is extracted.
    left: std::vec::IntoIter<Vec<u8>>,
    faces: Vec<NewFace>,
    outcomes: Vec<PhotographOutcome>,
    rejected: Vec<(usize, Rejection)>,
    evaluation: OwnChecks,
}

impl Looking {
    /// As many photographs as come before another call's turn: one, where any waits.
    fn turn(
        mut self,
        work: &Work,
        call: &mut Call,
        turn: &Turn,
    ) -> Result<Progress<Self, Extracted>, Refusal> {
        let collection = work.collection(&self.collection)?;
        let kept = match &self.own {
            Some(id) => {
                // ORDER: before the photographs are looked at: whoever is refused here costs nothing.
                if self.outcomes.is_empty() {
                    work.engine.may_compare(&collection, id, call)?;
                }
                // At each turn: an erasure between two of them leaves nothing to compare with.
                Some(work.engine.person(&collection, id, call)?)
            }
            None => None,
        };
        while let Some(photo) = self.left.next() {
            self.look(work, &collection, kept.as_ref(), &photo, call)?;
            if self.left.len() > 0 && turn.is_over() {
                // Erasures need not wait for the turns of others.
                call.read();
                return Ok(Progress::On(self));
            }
        }
        if self.faces.is_empty() || (self.all_or_nothing && !self.rejected.is_empty()) {
            return Err(Refusal::Photographs(self.rejected));
        }
        Ok(Progress::Done(Extracted {
            collection,
            faces: self.faces,
            outcomes: self.outcomes,
        }))
    }

    fn look(
        &mut self,
        work: &Work,
        collection: &CollectionRef,
        kept: Option<&Person>,
        photo: &[u8],
        call: &mut Call,
    ) -> Result<(), Refusal> {
        let wanted = self.choose.at(self.level.unwrap_or(collection.quality_level()));
        let taken = work.engine.new_face(collection, photo, wanted, self.checks, call);
        let checked = taken.and_then(|(new, face)| {
            let own = match self.checks.own_person {
                true => work.engine.check_own(
                    collection,
                    &new,
                    (kept, &self.faces),
                    &mut self.evaluation,
                    call,
                )?,
                false => None,
            };
            Ok((new, face, own))
        });
        let outcome = match checked {
            Ok((new, face, own)) => {
                let told = own.map(|own| {
                    let (engine, own) = (&work.engine, work.engine.rounded(own));
                    (
                        own,
                        engine.calibration().estimate(collection.scoring(), own, None),
                    )
                });
                let outcome = enrolled(&new, face, told);
                self.faces.push(new);
                outcome
            }
            Err(Error::Photo(reason)) => {
                let outcome = refused(&reason);
                self.rejected.push((self.outcomes.len(), reason));
                outcome
            }
            Err(other) => return Err(other.into()),
        };
        self.outcomes.push(outcome);
        Ok(())
    }
}

fn enrolled(new: &NewFace, face: Face, own: Option<(f32, Estimate)>) -> PhotographOutcome {
    let enrolled = v1::EnrolledFace {
        face_id: new.id.to_string(),
        face: Some(convert::face(face)),
        own_similarity: own.map(|(similarity, _)| similarity),
        own_estimate: own.map(|(_, means)| convert::estimate(means)),
    };
    PhotographOutcome {
        outcome: Some(v1::photograph_outcome::Outcome::Enrolled(enrolled)),
    }
}

fn refused(reason: &Rejection) -> PhotographOutcome {
    PhotographOutcome {
        outcome: Some(v1::photograph_outcome::Outcome::Rejection(rejection(reason))),
    }
}
