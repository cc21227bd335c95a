//! The calls about people; reading, changing and erasing one.

use likeness_engine::{Call, CollectionName, CollectionRef, Page, Person, PersonId, Scope};
use likeness_proto::v1::person_service_server::PersonService;
use likeness_proto::v1::{
    AddFacesRequest, AddFacesResponse, CopyPersonRequest, CopyPersonResponse, DeleteFacesRequest,
    DeleteFacesResponse, DeletePersonRequest, DeletePersonResponse, DeletePersonsRequest,
    DeletePersonsResponse, EnrollPersonRequest, EnrollPersonResponse, EraseEverywhereRequest,
    EraseEverywhereResponse, ExportPersonRequest, ExportPersonResponse, GetPersonRequest, GetPersonResponse,
    ImportPersonsRequest, ImportPersonsResponse, ListConsentsRequest, ListConsentsResponse,
    ListPersonsRequest, ListPersonsResponse, RenamePersonRequest, RenamePersonResponse, UpdatePersonRequest,
    UpdatePersonResponse, WithdrawConsentRequest, WithdrawConsentResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::streams::Answers;
use super::{Ongoing, Service, Work, disclosed, enroll, import, lifecycle};
use crate::convert;
use crate::status::Refusal;

#[tonic::async_trait]
impl PersonService for Service {
    async fn enroll_person(
        &self,
        request: Request<EnrollPersonRequest>,
    ) -> Result<Response<EnrollPersonResponse>, Status> {
        let mut call = self.begin("EnrollPerson", &request)?;
        let answer = enroll::enroll(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn add_faces(
        &self,
        request: Request<AddFacesRequest>,
    ) -> Result<Response<AddFacesResponse>, Status> {
        let mut call = self.begin("AddFaces", &request)?;
        let answer = enroll::add_faces(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn get_person(
        &self,
        request: Request<GetPersonRequest>,
    ) -> Result<Response<GetPersonResponse>, Status> {
        let mut call = self.begin("GetPerson", &request)?;
        let answer = get(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_persons(
        &self,
        request: Request<ListPersonsRequest>,
    ) -> Result<Response<ListPersonsResponse>, Status> {
        let mut call = self.begin("ListPersons", &request)?;
        let answer = list(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn update_person(
        &self,
        request: Request<UpdatePersonRequest>,
    ) -> Result<Response<UpdatePersonResponse>, Status> {
        let mut call = self.begin("UpdatePerson", &request)?;
        let answer = update(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn delete_faces(
        &self,
        request: Request<DeleteFacesRequest>,
    ) -> Result<Response<DeleteFacesResponse>, Status> {
        let mut call = self.begin("DeleteFaces", &request)?;
        let answer = delete_faces(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn delete_person(
        &self,
        request: Request<DeletePersonRequest>,
    ) -> Result<Response<DeletePersonResponse>, Status> {
        let mut call = self.begin("DeletePerson", &request)?;
        let answer = delete(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn erase_everywhere(
        &self,
        request: Request<EraseEverywhereRequest>,
    ) -> Result<Response<EraseEverywhereResponse>, Status> {
        let mut call = self.begin("EraseEverywhere", &request)?;
        let answer = erase_everywhere(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    type DeletePersonsStream = Answers<DeletePersonsResponse>;

    async fn delete_persons(
        &self,
        request: Request<Streaming<DeletePersonsRequest>>,
    ) -> Result<Response<Self::DeletePersonsStream>, Status> {
        lifecycle::delete_persons(self, request).await
    }

    type ImportPersonsStream = Answers<ImportPersonsResponse>;

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
        let mut call = self.begin("CopyPerson", &request)?;
        let answer = lifecycle::copy(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn rename_person(
        &self,
        request: Request<RenamePersonRequest>,
    ) -> Result<Response<RenamePersonResponse>, Status> {
        let mut call = self.begin("RenamePerson", &request)?;
        let answer = lifecycle::rename(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn export_person(
        &self,
        request: Request<ExportPersonRequest>,
    ) -> Result<Response<ExportPersonResponse>, Status> {
        let mut call = self.begin("ExportPerson", &request)?;
        let answer = lifecycle::export(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_consents(
        &self,
        request: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        let mut call = self.begin("ListConsents", &request)?;
        let answer = lifecycle::list_consents(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn withdraw_consent(
        &self,
        request: Request<WithdrawConsentRequest>,
    ) -> Result<Response<WithdrawConsentResponse>, Status> {
        let mut call = self.begin("WithdrawConsent", &request)?;
        let answer = lifecycle::withdraw_consent(&mut call, request.into_inner()).await;
        call.finish(answer)
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
    let page = page(call, &request.collection, request.page_size, request.cursor).await?;
    Ok(ListPersonsResponse {
        call: None,
        persons: page.items.into_iter().map(convert::person).collect(),
        next_cursor: page.next.unwrap_or_default(),
        damaged_persons: convert::count(page.damaged),
    })
}

/// A page of a collection's people.
pub(super) async fn page(
    call: &mut Ongoing,
    collection: &str,
    page_size: u32,
    cursor: String,
) -> Result<Page<Person>, Refusal> {
    let collection = CollectionName::parse(collection)?;
    let items_max = convert::page_size(page_size)?;
    let cursor = Some(cursor).filter(|cursor| !cursor.is_empty());
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
    Ok(page)
}

async fn update(
    call: &mut Ongoing,
    mut request: UpdatePersonRequest,
) -> Result<UpdatePersonResponse, Refusal> {
    call.once(&mut request)?;
    let may_erase = call.caller.has(Scope::Erase);
    let change = convert::profile_change(
        request.name,
        request.tags,
        request.consent,
        request.expiry,
        may_erase,
    )?;
    let person = on_person(
        call,
        &request.collection,
        &request.person_id,
        |work, collection, id, call| work.engine.person_before(&work.account, collection, id, call),
        |work, collection, id, call| Ok(work.engine.update_person(collection, id, change, call)?),
    );
    let person = person.await?;
    Ok(UpdatePersonResponse {
        call: None,
        person: Some(disclosed::person(&call.caller, person)),
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
        person: person.map(|person| disclosed::person(&call.caller, person)),
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
    call.about(&collection, &person_id);
    let (collection, answer) = call
        .store(move |work, call| {
            work.sees(&collection)?;
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
