//! Making, reading, changing and erasing collections.

use likeness_engine::{Act, CollectionChange, CollectionName, NewCollection};
use likeness_proto::v1::{
    CreateCollectionRequest, CreateCollectionResponse, DeleteCollectionRequest, DeleteCollectionResponse,
    GetCollectionRequest, GetCollectionResponse, ListCollectionsRequest, ListCollectionsResponse,
    UpdateCollectionRequest, UpdateCollectionResponse,
};

use crate::call::context::CallContext;
use crate::convert;
use crate::refusal::Refusal;

pub async fn create(
    call: &mut CallContext,
    mut request: CreateCollectionRequest,
) -> Result<CreateCollectionResponse, Refusal> {
    call.once(&mut request)?;
    let name = convert::in_field("name", CollectionName::parse(&request.name))?;
    let new = NewCollection {
        bits: convert::bits(request.bits)?,
        threshold: convert::threshold(request.threshold)?,
        faces_per_person_max: Some(request.faces_per_person_max).filter(|n| *n != 0),
        quality_level: convert::quality_level(request.quality_level)?.unwrap_or_default(),
        index: convert::index_kind(request.index)?.unwrap_or_default(),
        ef: Some(request.ef).filter(|ef| *ef != 0),
        consent_required: request.consent_required,
    };
    let entry = call.own_act(Act::CreateCollection, name.as_str());
    let collection = call
        .on_storage_pool(move |work, call| {
            work.sees(&name)?;
            Ok(work.audited(&entry, |engine| {
                engine.create_collection(&work.account, &name, &new, call)
            })?)
        })
        .await?;
    call.scheme(&collection);
    Ok(CreateCollectionResponse {
        call: None,
        collection: Some(convert::collection(collection.info())),
    })
}

pub async fn get(
    call: &mut CallContext,
    request: GetCollectionRequest,
) -> Result<GetCollectionResponse, Refusal> {
    let name = convert::in_field("name", CollectionName::parse(&request.name))?;
    let collection = call
        .on_storage_pool(move |work, _| Ok(work.collection(&name)?))
        .await?;
    call.scheme(&collection);
    Ok(GetCollectionResponse {
        call: None,
        collection: Some(convert::collection(collection.info())),
    })
}

pub async fn list(
    call: &mut CallContext,
    request: ListCollectionsRequest,
) -> Result<ListCollectionsResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    let after = match request.cursor.as_str() {
        "" => None,
        cursor => Some(convert::in_field("cursor", CollectionName::parse(cursor))?),
    };
    let page = call
        .on_storage_pool(move |work, _| {
            Ok(work
                .engine
                .list_collections(&work.account, after.as_ref(), items_max, &|name| {
                    work.caller.sees(name)
                }))
        })
        .await?;
    Ok(ListCollectionsResponse {
        call: None,
        collections: page.items.into_iter().map(convert::collection).collect(),
        next_cursor: page.next.unwrap_or_default(),
    })
}

pub async fn update(
    call: &mut CallContext,
    mut request: UpdateCollectionRequest,
) -> Result<UpdateCollectionResponse, Refusal> {
    call.once(&mut request)?;
    let name = convert::in_field("name", CollectionName::parse(&request.name))?;
    let change = CollectionChange {
        threshold: convert::threshold(request.threshold)?,
        faces_per_person_max: request.faces_per_person_max,
        quality_level: convert::quality_level(request.quality_level)?,
        index: convert::index_kind(request.index)?,
        ef: request.ef,
        consent_required: request.consent_required,
    };
    let entry = call.own_act(Act::UpdateCollection, name.as_str());
    let collection = call
        .on_storage_pool(move |work, call| {
            work.sees(&name)?;
            if let Some(before) = work.engine.collection_before(&work.account, &name, call)? {
                return Ok(before);
            }
            let collection = work.collection(&name)?;
            work.audited(&entry, |engine| {
                engine.update_collection(&collection, change, call)
            })?;
            Ok(collection)
        })
        .await?;
    call.scheme(&collection);
    Ok(UpdateCollectionResponse {
        call: None,
        collection: Some(convert::collection(collection.info())),
    })
}

pub async fn delete(
    call: &mut CallContext,
    mut request: DeleteCollectionRequest,
) -> Result<DeleteCollectionResponse, Refusal> {
    call.once(&mut request)?;
    let name = convert::in_field("name", CollectionName::parse(&request.name))?;
    let entry = call.own_act(Act::DeleteCollection, name.as_str());
    let erased = call
        .on_storage_pool(move |work, call| {
            work.sees(&name)?;
            // Neither what is not there nor what was done before is an act: the audit log has no room for it.
            let before = work.engine.collection_erased_before(&work.account, &name, call)?;
            if let Some(before) = before {
                return Ok(before);
            }
            Ok(work.audited(&entry, |engine| {
                engine.delete_collection(&work.account, &name, call)
            })?)
        })
        .await?;
    Ok(DeleteCollectionResponse {
        call: None,
        persons_erased: erased.persons as u64,
        receipts: convert::collection_receipts(erased),
    })
}
