//! The calls about people; reading, changing and erasing one.

use likeness_engine::{Call, CollectionName, CollectionRef, Page, Person, PersonId, Scope};
use likeness_proto::v1::{
    DeleteFacesRequest, DeleteFacesResponse, DeletePersonRequest, DeletePersonResponse,
    EraseEverywhereRequest, EraseEverywhereResponse, GetPersonRequest, GetPersonResponse, ListPersonsRequest,
    ListPersonsResponse, UpdatePersonRequest, UpdatePersonResponse,
};

use super::disclosed;
use crate::call::context::CallContext;
use crate::call::work::Work;
use crate::convert;
use crate::refusal::Refusal;

pub async fn get(call: &mut CallContext, request: GetPersonRequest) -> Result<GetPersonResponse, Refusal> {
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

pub async fn list(
    call: &mut CallContext,
    request: ListPersonsRequest,
) -> Result<ListPersonsResponse, Refusal> {
    let page = page(call, &request.collection, request.page_size, request.cursor).await?;
    Ok(ListPersonsResponse {
        call: None,
        persons: page.items.into_iter().map(convert::person).collect(),
        next_cursor: page.next.unwrap_or_default(),
        damaged_persons: convert::count(page.damaged),
    })
}

/// A page of a collection's people.
pub async fn page(
    call: &mut CallContext,
    collection: &str,
    page_size: u32,
    cursor: String,
) -> Result<Page<Person>, Refusal> {
    let collection = CollectionName::parse(collection)?;
    let items_max = convert::page_size(page_size)?;
    let cursor = Some(cursor).filter(|cursor| !cursor.is_empty());
    let (collection, page) = call
        .on_storage_pool(move |work, call| {
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

pub async fn update(
    call: &mut CallContext,
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

pub async fn delete_faces(
    call: &mut CallContext,
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

pub async fn delete(
    call: &mut CallContext,
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

pub async fn erase_everywhere(
    call: &mut CallContext,
    mut request: EraseEverywhereRequest,
) -> Result<EraseEverywhereResponse, Refusal> {
    call.once(&mut request)?;
    let person_id = PersonId::parse(&request.person_id)?;
    let erased = call
        .on_storage_pool(move |work, call| {
            Ok(work.engine.erase_everywhere(&work.account, &person_id, call)?)
        })
        .await?;
    let erasures = erased.into_iter().map(convert::erasure_in);
    Ok(EraseEverywhereResponse {
        call: None,
        erasures: erasures.collect(),
    })
}

/// Reads or changes one person.
pub async fn on_person<T: Send + 'static>(
    call: &mut CallContext,
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
        .on_storage_pool(move |work, call| {
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
