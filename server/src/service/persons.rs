//! Enrolling, reading, changing and erasing people.

use likeness_engine::{
    Call, Choose, CollectionName, CollectionRef, Error, Face, NewFace, PersonId, ProfileChange, QualityLevel,
    Rejection,
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
}

impl Photographs {
    fn parse(
        photographs: Vec<v1::Photograph>,
        face_choice: i32,
        quality_level: i32,
        all_or_nothing: bool,
    ) -> Result<Self, Refusal> {
        Ok(Self {
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

async fn enroll(call: &mut Ongoing, request: EnrollPersonRequest) -> Result<EnrollPersonResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    let photographs = Photographs::parse(
        request.photographs,
        request.face_choice,
        request.quality_level,
        request.all_or_nothing,
    )?;
    let profile = convert::profile(request.name, request.tags, request.consent)?;
    let Extracted {
        collection,
        faces,
        outcomes,
    } = extract(call, collection, photographs).await?;
    let person = call
        .store(move |work, call| {
            let engine = &work.engine;
            Ok(engine.enroll(&collection, &person_id, profile, faces, call)?)
        })
        .await?;
    Ok(EnrollPersonResponse {
        call: None,
        person: Some(convert::person(person)),
        outcomes,
        duplicates: Vec::new(),
    })
}

async fn add_faces(call: &mut Ongoing, request: AddFacesRequest) -> Result<AddFacesResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    let photographs = Photographs::parse(
        request.photographs,
        request.face_choice,
        request.quality_level,
        request.all_or_nothing,
    )?;
    let Extracted {
        collection,
        faces,
        outcomes,
    } = extract(call, collection, photographs).await?;
    let person = call
        .store(move |work, call| Ok(work.engine.add_faces(&collection, &person_id, faces, call)?))
        .await?;
    Ok(AddFacesResponse {
        call: None,
        person: Some(convert::person(person)),
        outcomes,
        duplicates: Vec::new(),
    })
}

/// Photographs to faces that this collection can keep.
async fn extract(
    call: &mut Ongoing,
    collection: CollectionName,
    photographs: Photographs,
) -> Result<Extracted, Refusal> {
    let extracted = call
        .compute(move |work, call| faces_of(work, call, work.collection(&collection)?, photographs))
        .await?;
    call.scheme(&extracted.collection);
    Ok(extracted)
}

/// Each photograph's bytes go as soon as its face is extracted.
fn faces_of(
    work: &Work,
    call: &mut Call,
    collection: CollectionRef,
    photographs: Photographs,
) -> Result<Extracted, Refusal> {
    let Photographs {
        photos,
        choose,
        level,
        all_or_nothing,
    } = photographs;
    let wanted = choose.at(level.unwrap_or(collection.quality_level()));
    let mut faces = Vec::with_capacity(photos.len());
    let mut outcomes = Vec::with_capacity(photos.len());
    let mut rejected = Vec::new();
    for (index, photo) in photos.into_iter().enumerate() {
        let outcome = match work.engine.new_face(&collection, &photo, wanted, call) {
            Ok((new, face)) => {
                let outcome = enrolled(&new, face);
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

fn enrolled(new: &NewFace, face: Face) -> PhotographOutcome {
    let enrolled = v1::EnrolledFace {
        face_id: new.id.to_string(),
        face: Some(convert::face(face)),
        own_similarity: None,
        own_estimate: None,
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

async fn update(call: &mut Ongoing, request: UpdatePersonRequest) -> Result<UpdatePersonResponse, Refusal> {
    let change = ProfileChange {
        name: request.name,
        tags: request.tags.map(|list| list.tags),
    };
    let person = on_person(
        call,
        &request.collection,
        &request.person_id,
        |work, collection, id, call| Ok(work.engine.update_person(collection, id, change, call)?),
    );
    Ok(UpdatePersonResponse {
        call: None,
        person: Some(convert::person(person.await?)),
    })
}

async fn delete_faces(
    call: &mut Ongoing,
    request: DeleteFacesRequest,
) -> Result<DeleteFacesResponse, Refusal> {
    let faces = convert::face_ids(&request.face_ids)?;
    let reduced = on_person(
        call,
        &request.collection,
        &request.person_id,
        |work, collection, id, call| Ok(work.engine.delete_faces(collection, id, faces, call)?),
    );
    let (person, receipt) = reduced.await?;
    Ok(DeleteFacesResponse {
        call: None,
        person: person.map(convert::person),
        receipt: Some(convert::receipt(receipt)),
    })
}

async fn delete(call: &mut Ongoing, request: DeletePersonRequest) -> Result<DeletePersonResponse, Refusal> {
    let erased = on_person(
        call,
        &request.collection,
        &request.person_id,
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
    request: EraseEverywhereRequest,
) -> Result<EraseEverywhereResponse, Refusal> {
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
async fn on_person<T: Send + 'static>(
    call: &mut Ongoing,
    collection: &str,
    person_id: &str,
    act: impl FnOnce(&Work, &CollectionRef, &PersonId, &mut Call) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let (collection, person_id) = convert::names(collection, person_id)?;
    let (collection, answer) = call
        .store(move |work, call| {
            let collection = work.collection(&collection)?;
            let answer = act(work, &collection, &person_id, call)?;
            Ok((collection, answer))
        })
        .await?;
    call.scheme(&collection);
    Ok(answer)
}
