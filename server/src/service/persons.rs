//! Enrolling, reading, changing and erasing people.

use likeness_engine::{
    Admission, Call, Checks, Choose, CollectionName, CollectionRef, Error, Estimate, Face, Match, NewFace,
    Person, PersonId, QualityLevel, Rejection,
};
use likeness_proto::v1::person_service_server::PersonService;
use likeness_proto::v1::{
    self, AddFacesRequest, AddFacesResponse, CopyPersonRequest, CopyPersonResponse, DeleteFacesRequest,
    DeleteFacesResponse, DeletePersonRequest, DeletePersonResponse, DeletePersonsRequest,
    DeletePersonsResponse, EnrollPersonRequest, EnrollPersonResponse, EraseEverywhereRequest,
    EraseEverywhereResponse, ExportPersonRequest, ExportPersonResponse, GetPersonRequest, GetPersonResponse,
    ImportPersonsRequest, ImportPersonsResponse, ListConsentsRequest, ListConsentsResponse,
    ListPersonsRequest, ListPersonsResponse, PhotographOutcome, RenamePersonRequest, RenamePersonResponse,
    UpdatePersonRequest, UpdatePersonResponse, WithdrawConsentRequest, WithdrawConsentResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Ongoing, Service, Work, import, lifecycle};
use crate::convert;
use crate::status::{Refusal, rejection};

#[tonic::async_trait]
impl PersonService for Service {
    async fn enroll_person(
        &self,
        request: Request<EnrollPersonRequest>,
    ) -> Result<Response<EnrollPersonResponse>, Status> {
        let mut call = self.begin("EnrollPerson", &request);
        let answer = enroll(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn add_faces(
        &self,
        request: Request<AddFacesRequest>,
    ) -> Result<Response<AddFacesResponse>, Status> {
        let mut call = self.begin("AddFaces", &request);
        let answer = add_faces(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn get_person(
        &self,
        request: Request<GetPersonRequest>,
    ) -> Result<Response<GetPersonResponse>, Status> {
        let mut call = self.begin("GetPerson", &request);
        let answer = get(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_persons(
        &self,
        request: Request<ListPersonsRequest>,
    ) -> Result<Response<ListPersonsResponse>, Status> {
        let mut call = self.begin("ListPersons", &request);
        let answer = list(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn update_person(
        &self,
        request: Request<UpdatePersonRequest>,
    ) -> Result<Response<UpdatePersonResponse>, Status> {
        let mut call = self.begin("UpdatePerson", &request);
        let answer = update(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn delete_faces(
        &self,
        request: Request<DeleteFacesRequest>,
    ) -> Result<Response<DeleteFacesResponse>, Status> {
        let mut call = self.begin("DeleteFaces", &request);
        let answer = delete_faces(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn delete_person(
        &self,
        request: Request<DeletePersonRequest>,
    ) -> Result<Response<DeletePersonResponse>, Status> {
        let mut call = self.begin("DeletePerson", &request);
        let answer = delete(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn erase_everywhere(
        &self,
        request: Request<EraseEverywhereRequest>,
    ) -> Result<Response<EraseEverywhereResponse>, Status> {
        let mut call = self.begin("EraseEverywhere", &request);
        let answer = erase_everywhere(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    type DeletePersonsStream = ReceiverStream<Result<DeletePersonsResponse, Status>>;

    async fn delete_persons(
        &self,
        request: Request<Streaming<DeletePersonsRequest>>,
    ) -> Result<Response<Self::DeletePersonsStream>, Status> {
        lifecycle::delete_persons(self, request).await
    }

    type ImportPersonsStream = ReceiverStream<Result<ImportPersonsResponse, Status>>;

    async fn import_persons(
        &self,
        request: Request<Streaming<ImportPersonsRequest>>,
    ) -> Result<Response<Self::ImportPersonsStream>, Status> {
        import::import_persons(self, request).await
    }

    async fn copy_person(
        &self,
        request: Request<CopyPersonRequest>,
    ) -> Result<Response<CopyPersonResponse>, Status> {
        let mut call = self.begin("CopyPerson", &request);
        let answer = lifecycle::copy(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn rename_person(
        &self,
        request: Request<RenamePersonRequest>,
    ) -> Result<Response<RenamePersonResponse>, Status> {
        let mut call = self.begin("RenamePerson", &request);
        let answer = lifecycle::rename(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn export_person(
        &self,
        request: Request<ExportPersonRequest>,
    ) -> Result<Response<ExportPersonResponse>, Status> {
        let mut call = self.begin("ExportPerson", &request);
        let answer = lifecycle::export(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_consents(
        &self,
        request: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        let mut call = self.begin("ListConsents", &request);
        let answer = lifecycle::list_consents(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn withdraw_consent(
        &self,
        request: Request<WithdrawConsentRequest>,
    ) -> Result<Response<WithdrawConsentResponse>, Status> {
        let mut call = self.begin("WithdrawConsent", &request);
        let answer = lifecycle::withdraw_consent(&mut call, request.into_inner()).await;
        call.finish(answer)
    }
}

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

pub(super) async fn enroll(
    call: &mut Ongoing,
    mut request: EnrollPersonRequest,
) -> Result<EnrollPersonResponse, Refusal> {
    call.once(&mut request)?;
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    let photographs = Photographs::parse(
        request.photographs,
        request.face_choice,
        request.quality_level,
        request.all_or_nothing,
        request.checks,
    )?;
    let duplicates = photographs.checks.duplicates;
    let profile = convert::profile(request.name, request.tags, request.consent, request.expires)?;
    if let Some(person) = made_before(call, &collection, &person_id).await? {
        return Ok(EnrollPersonResponse {
            person: Some(convert::person(person)),
            ..Default::default()
        });
    }
    let Extracted {
        collection,
        faces,
        outcomes,
    } = extract(call, collection, None, photographs).await?;
    let admission = call
        .store(move |work, call| {
            let engine = &work.engine;
            let admission = match duplicates {
                None => Admission::Kept(engine.enroll(&collection, &person_id, profile, faces, call)?),
                Some(limit) => {
                    engine.enroll_unless_duplicate(&collection, &person_id, profile, faces, limit, call)?
                }
            };
            Ok(Admitted::new(work, &collection, admission, outcomes))
        })
        .await?;
    Ok(EnrollPersonResponse {
        call: None,
        person: admission.person,
        outcomes: admission.outcomes,
        duplicates: admission.duplicates,
    })
}

async fn add_faces(call: &mut Ongoing, mut request: AddFacesRequest) -> Result<AddFacesResponse, Refusal> {
    call.once(&mut request)?;
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    let photographs = Photographs::parse(
        request.photographs,
        request.face_choice,
        request.quality_level,
        request.all_or_nothing,
        request.checks,
    )?;
    let duplicates = photographs.checks.duplicates;
    if let Some(person) = made_before(call, &collection, &person_id).await? {
        return Ok(AddFacesResponse {
            person: Some(convert::person(person)),
            ..Default::default()
        });
    }
    let Extracted {
        collection,
        faces,
        outcomes,
    } = extract(call, collection, Some(person_id.clone()), photographs).await?;
    let admission = call
        .store(move |work, call| {
            let engine = &work.engine;
            let admission = match duplicates {
                None => Admission::Kept(engine.add_faces(&collection, &person_id, faces, call)?),
                Some(limit) => {
                    engine.add_faces_unless_duplicate(&collection, &person_id, faces, limit, call)?
                }
            };
            Ok(Admitted::new(work, &collection, admission, outcomes))
        })
        .await?;
    Ok(AddFacesResponse {
        call: None,
        person: admission.person,
        outcomes: admission.outcomes,
        duplicates: admission.duplicates,
    })
}

/// Enrols a person from features instead of photographs.
pub(super) async fn enroll_features(
    call: &mut Ongoing,
    request: EnrollPersonRequest,
    features: Vec<Vec<f32>>,
) -> Result<EnrollPersonResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    let profile = convert::profile(request.name, request.tags, request.consent, request.expires)?;
    let person = match made_before(call, &collection, &person_id).await? {
        Some(person) => person,
        None => {
            call.store(move |work, call| {
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
        person: Some(convert::person(person)),
        ..Default::default()
    })
}

/// The person whom this very call made or changed before: no photograph is looked at again.
async fn made_before(
    call: &mut Ongoing,
    collection: &CollectionName,
    person_id: &PersonId,
) -> Result<Option<Person>, Refusal> {
    if !call.call.is_once() {
        return Ok(None);
    }
    let (collection, person_id) = (collection.clone(), person_id.clone());
    call.store(move |work, call| {
        Ok(work
            .engine
            .person_before(&work.account, &collection, &person_id, call)?)
    })
    .await
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
            Admission::Kept(person) => (Some(convert::person(person)), Vec::new()),
            Admission::Duplicates { people, searched } => {
                outcomes.iter_mut().for_each(not_kept);
                let (calibration, scoring) = (work.engine.calibration(), collection.scoring());
                let duplicate = |found: Match| {
                    let means = calibration.estimate(scoring, found.similarity, Some(searched));
                    convert::matched(found, means)
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
    call: &mut Ongoing,
    collection: CollectionName,
    person_id: Option<PersonId>,
    photographs: Photographs,
) -> Result<Extracted, Refusal> {
    let extracted = call
        .compute(move |work, call| {
            let collection = work.collection(&collection)?;
            let kept = match person_id.filter(|_| photographs.checks.own_person) {
                Some(id) => Some(work.engine.person(&collection, &id, call)?),
                None => None,
            };
            faces_of(work, call, collection, kept.as_ref(), photographs)
        })
        .await?;
    call.scheme(&extracted.collection);
    Ok(extracted)
}

/// Each photograph's bytes go as soon as its face is extracted.
fn faces_of(
    work: &Work,
    call: &mut Call,
    collection: CollectionRef,
    kept: Option<&Person>,
    photographs: Photographs,
) -> Result<Extracted, Refusal> {
    let Photographs {
        photos,
        choose,
        level,
        all_or_nothing,
        checks,
    } = photographs;
    let wanted = choose.at(level.unwrap_or(collection.quality_level()));
    let mut faces = Vec::with_capacity(photos.len());
    let mut outcomes = Vec::with_capacity(photos.len());
    let mut rejected = Vec::new();
    for (index, photo) in photos.into_iter().enumerate() {
        let taken = work.engine.new_face(&collection, &photo, wanted, checks, call);
        let checked = taken.and_then(|(new, face)| {
            let own = match checks.own_person {
                true => work.engine.check_own(&collection, &new, kept, &faces)?,
                false => None,
            };
            Ok((new, face, own))
        });
        let outcome = match checked {
            Ok((new, face, own)) => {
                let means = |own| {
                    work.engine
                        .calibration()
                        .estimate(collection.scoring(), own, None)
                };
                let outcome = enrolled(&new, face, own.map(|own| (own, means(own))));
                faces.push(new);
                outcome
            }
            Err(Error::Photo(reason)) => {
                let outcome = refused(&reason);
                rejected.push((index, reason));
                outcome
            }
            Err(other) => return Err(other.into()),
        };
        outcomes.push(outcome);
    }
    if faces.is_empty() || (all_or_nothing && !rejected.is_empty()) {
        return Err(Refusal::Photographs(rejected));
    }
    Ok(Extracted {
        collection,
        faces,
        outcomes,
    })
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

async fn get(call: &mut Ongoing, request: GetPersonRequest) -> Result<GetPersonResponse, Refusal> {
    let person = on_person(
        call,
        &request.collection,
        &request.person_id,
        |_, _, _, _| Ok(None),
        |work, collection, id, call| Ok(work.engine.person(collection, id, call)?),
    );
    Ok(GetPersonResponse {
        call: None,
        person: Some(convert::person(person.await?)),
    })
}

async fn list(call: &mut Ongoing, request: ListPersonsRequest) -> Result<ListPersonsResponse, Refusal> {
    let collection = CollectionName::parse(&request.collection)?;
    let items_max = convert::page_size(request.page_size)?;
    let cursor = Some(request.cursor).filter(|c| !c.is_empty());
    let (collection, page) = call
        .store(move |work, call| {
            let collection = work.collection(&collection)?;
            let page = work
                .engine
                .list_persons(&collection, cursor.as_deref(), items_max, call)?;
            Ok((collection, page))
        })
        .await?;
    call.scheme(&collection);
    Ok(ListPersonsResponse {
        call: None,
        persons: page.items.into_iter().map(convert::person).collect(),
        next_cursor: page.next.unwrap_or_default(),
        damaged_persons: u32::try_from(page.damaged).expect("no more than a page"),
    })
}

async fn update(
    call: &mut Ongoing,
    mut request: UpdatePersonRequest,
) -> Result<UpdatePersonResponse, Refusal> {
    call.once(&mut request)?;
    let change = convert::profile_change(request.name, request.tags, request.consent, request.expiry)?;
    let person = on_person(
        call,
        &request.collection,
        &request.person_id,
        |work, collection, id, call| work.engine.person_before(&work.account, collection, id, call),
        |work, collection, id, call| Ok(work.engine.update_person(collection, id, change, call)?),
    );
    Ok(UpdatePersonResponse {
        call: None,
        person: Some(convert::person(person.await?)),
    })
}

async fn delete_faces(
    call: &mut Ongoing,
    mut request: DeleteFacesRequest,
) -> Result<DeleteFacesResponse, Refusal> {
    call.once(&mut request)?;
    let faces = convert::face_ids(&request.face_ids)?;
    let reduced = on_person(
        call,
        &request.collection,
        &request.person_id,
        |work, collection, id, call| work.engine.reduction_before(&work.account, collection, id, call),
        |work, collection, id, call| Ok(work.engine.delete_faces(collection, id, faces, call)?),
    );
    let (person, receipt) = reduced.await?;
    Ok(DeleteFacesResponse {
        call: None,
        person: person.map(convert::person),
        receipt: Some(convert::receipt(receipt)),
    })
}

async fn delete(
    call: &mut Ongoing,
    mut request: DeletePersonRequest,
) -> Result<DeletePersonResponse, Refusal> {
    call.once(&mut request)?;
    let erased = on_person(
        call,
        &request.collection,
        &request.person_id,
        |work, collection, id, call| work.engine.erasure_before(&work.account, collection, id, call),
        |work, collection, id, call| Ok(work.engine.delete_person(collection, id, call)?),
    );
    let erased = erased.await?;
    Ok(DeletePersonResponse {
        call: None,
        faces_erased: convert::count(erased.faces),
        receipt: Some(convert::receipt(erased.receipt)),
    })
}

async fn erase_everywhere(
    call: &mut Ongoing,
    mut request: EraseEverywhereRequest,
) -> Result<EraseEverywhereResponse, Refusal> {
    call.once(&mut request)?;
    let person_id = PersonId::parse(&request.person_id)?;
    let erased = call
        .store(move |work, call| Ok(work.engine.erase_everywhere(&work.account, &person_id, call)?))
        .await?;
    let erasures = erased.into_iter().map(convert::erasure_in);
    Ok(EraseEverywhereResponse {
        call: None,
        erasures: erasures.collect(),
    })
}

/// Reads or changes one person.
pub(super) async fn on_person<T: Send + 'static>(
    call: &mut Ongoing,
    collection: &str,
    person_id: &str,
    before: impl FnOnce(&Work, &CollectionName, &PersonId, &mut Call) -> likeness_engine::Result<Option<T>>
    + Send
    + 'static,
    act: impl FnOnce(&Work, &CollectionRef, &PersonId, &mut Call) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let (collection, person_id) = convert::names(collection, person_id)?;
    let (collection, answer) = call
        .store(move |work, call| {
            let found = work.collection(&collection);
            // ORDER: before the collection is missed: it may have gone since the earlier call.
            if let Some(answer) = before(work, &collection, &person_id, call)? {
                return Ok((found.ok(), answer));
            }
            let found = found?;
            let answer = act(work, &found, &person_id, call)?;
            Ok((Some(found), answer))
        })
        .await?;
    collection.iter().for_each(|collection| call.scheme(collection));
    Ok(answer)
}
