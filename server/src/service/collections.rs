//! Making, reading, changing and erasing collections.

use likeness_engine::{Act, CollectionChange, CollectionName, NewCollection};
use likeness_proto::v1::collection_service_server::CollectionService;
use likeness_proto::v1::{
    CreateCollectionRequest, CreateCollectionResponse, DeleteCollectionRequest, DeleteCollectionResponse,
    GetCollectionRequest, GetCollectionResponse, ListCollectionsRequest, ListCollectionsResponse,
    MeasureIndexRequest, MeasureIndexResponse, UpdateCollectionRequest, UpdateCollectionResponse,
};
use tonic::{Request, Response, Status};

#[cfg(feature = "graph")]
use super::measure;
#[cfg(not(feature = "graph"))]
use super::no_graph as measure;
use super::slices::Slices;
use super::{Ongoing, Service};
use crate::convert;
use crate::status::Refusal;

#[tonic::async_trait]
impl CollectionService for Service {
    async fn create_collection(
        &self,
        request: Request<CreateCollectionRequest>,
    ) -> Result<Response<CreateCollectionResponse>, Status> {
        let mut call = self.begin("CreateCollection", &request)?;
        let answer = create(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn get_collection(
        &self,
        request: Request<GetCollectionRequest>,
    ) -> Result<Response<GetCollectionResponse>, Status> {
        let mut call = self.begin("GetCollection", &request)?;
        let answer = get(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn list_collections(
        &self,
        request: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        let mut call = self.begin("ListCollections", &request)?;
        let answer = list(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn update_collection(
        &self,
        request: Request<UpdateCollectionRequest>,
    ) -> Result<Response<UpdateCollectionResponse>, Status> {
        let mut call = self.begin("UpdateCollection", &request)?;
        let answer = update(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    type MeasureIndexStream = Slices<MeasureIndexResponse>;

    async fn measure_index(
        &self,
        request: Request<MeasureIndexRequest>,
    ) -> Result<Response<Self::MeasureIndexStream>, Status> {
        measure::measure_index(self, request).await
    }

    async fn delete_collection(
        &self,
        request: Request<DeleteCollectionRequest>,
    ) -> Result<Response<DeleteCollectionResponse>, Status> {
        let mut call = self.begin("DeleteCollection", &request)?;
        let answer = delete(&mut call, request.into_inner()).await;
        call.finish(answer)
    }
}

async fn create(
    call: &mut Ongoing,
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
        .store(move |work, call| {
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

async fn get(call: &mut Ongoing, request: GetCollectionRequest) -> Result<GetCollectionResponse, Refusal> {
    let name = convert::in_field("name", CollectionName::parse(&request.name))?;
    let collection = call.store(move |work, _| Ok(work.collection(&name)?)).await?;
    call.scheme(&collection);
    Ok(GetCollectionResponse {
        call: None,
        collection: Some(convert::collection(collection.info())),
    })
}

async fn list(
    call: &mut Ongoing,
    request: ListCollectionsRequest,
) -> Result<ListCollectionsResponse, Refusal> {
    let items_max = convert::page_size(request.page_size)?;
    let after = match request.cursor.as_str() {
        "" => None,
        cursor => Some(convert::in_field("cursor", CollectionName::parse(cursor))?),
    };
    let page = call
        .store(move |work, _| {
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

async fn update(
    call: &mut Ongoing,
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
        .store(move |work, call| {
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

async fn delete(
    call: &mut Ongoing,
    mut request: DeleteCollectionRequest,
) -> Result<DeleteCollectionResponse, Refusal> {
    call.once(&mut request)?;
    let name = convert::in_field("name", CollectionName::parse(&request.name))?;
    let entry = call.own_act(Act::DeleteCollection, name.as_str());
    let erased = call
        .store(move |work, call| {
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
