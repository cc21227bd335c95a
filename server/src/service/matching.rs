//! Detecting, comparing, verifying and searching: nothing here is kept.

use likeness_engine::{Error, Match, Scoring, Step};
use likeness_proto::v1::matching_service_server::MatchingService;
use likeness_proto::v1::{
    CompareFacesRequest, CompareFacesResponse, DetectFacesRequest, DetectFacesResponse, FaceMatches,
    FindDuplicatesRequest, FindDuplicatesResponse, SearchPersonsRequest, SearchPersonsResponse,
    VerifyPersonRequest, VerifyPersonResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Ongoing, Service, duplicates};
use crate::convert;
use crate::status::Refusal;

#[tonic::async_trait]
impl MatchingService for Service {
    async fn detect_faces(
        &self,
        request: Request<DetectFacesRequest>,
    ) -> Result<Response<DetectFacesResponse>, Status> {
        let mut call = self.begin("DetectFaces", &request);
        let answer = detect(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn compare_faces(
        &self,
        request: Request<CompareFacesRequest>,
    ) -> Result<Response<CompareFacesResponse>, Status> {
        let mut call = self.begin("CompareFaces", &request);
        let answer = compare(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn verify_person(
        &self,
        request: Request<VerifyPersonRequest>,
    ) -> Result<Response<VerifyPersonResponse>, Status> {
        let mut call = self.begin("VerifyPerson", &request);
        let answer = verify(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    async fn search_persons(
        &self,
        request: Request<SearchPersonsRequest>,
    ) -> Result<Response<SearchPersonsResponse>, Status> {
        let mut call = self.begin("SearchPersons", &request);
        let answer = search(&mut call, request.into_inner()).await;
        call.finish(answer)
    }

    type FindDuplicatesStream = ReceiverStream<Result<FindDuplicatesResponse, Status>>;

    async fn find_duplicates(
        &self,
        request: Request<FindDuplicatesRequest>,
    ) -> Result<Response<Self::FindDuplicatesStream>, Status> {
        duplicates::find_duplicates(self, request).await
    }
}

async fn detect(call: &mut Ongoing, request: DetectFacesRequest) -> Result<DetectFacesResponse, Refusal> {
    let photo = convert::photograph("photograph", request.photograph)?;
    let level = convert::quality_level(request.quality_level)?.unwrap_or_default();
    let detection = call
        .compute(move |work, call| Ok(work.engine.detect(&photo, level, call)?))
        .await?;
    Ok(DetectFacesResponse {
        call: None,
        width: detection.width,
        height: detection.height,
        faces: detection.faces.into_iter().map(convert::face).collect(),
    })
}

async fn compare(call: &mut Ongoing, request: CompareFacesRequest) -> Result<CompareFacesResponse, Refusal> {
    let first = convert::photograph("first", request.first)?;
    let second = convert::photograph("second", request.second)?;
    let choose = convert::face_choice(request.face_choice)?;
    let level = convert::quality_level(request.quality_level)?;
    let limit = convert::limit_of_one(request.threshold)?;
    call.compute(move |work, call| {
        let (calibration, scoring) = (work.engine.calibration(), Scoring::Photographs);
        let threshold = limit.map_or(work.engine.default_threshold(), |limit| {
            limit.similarity(calibration, scoring, 1)
        });
        let wanted = choose.at(level.unwrap_or_default());
        let compared = work.engine.compare(&first, &second, wanted, call);
        let (similarity, first, second) = compared.map_err(|error| match error {
            Error::Photo(rejected) => {
                // Photographs are rejected before they are embedded: if one was, it was the first.
                let embedded = call.steps().iter().any(|(step, _)| *step == Step::Embed);
                Refusal::Photograph(if embedded { "second" } else { "first" }, rejected)
            }
            other => other.into(),
        })?;
        Ok(CompareFacesResponse {
            call: None,
            similarity,
            threshold,
            same_person: similarity >= threshold,
            first: Some(convert::face(first)),
            second: Some(convert::face(second)),
            estimate: Some(convert::estimate(calibration.estimate(scoring, similarity, None))),
        })
    })
    .await
}

async fn verify(call: &mut Ongoing, request: VerifyPersonRequest) -> Result<VerifyPersonResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    let photo = convert::photograph("photograph", request.photograph)?;
    let choose = convert::face_choice(request.face_choice)?;
    let level = convert::quality_level(request.quality_level)?;
    let limit = convert::limit_of_one(request.threshold)?;
    let (collection, reply) = call
        .compute(move |work, call| {
            let collection = work.collection(&collection)?;
            let (calibration, scoring) = (work.engine.calibration(), collection.scoring());
            let threshold = limit.map_or(collection.threshold(), |limit| {
                limit.similarity(calibration, scoring, 1)
            });
            let wanted = choose.at(level.unwrap_or(collection.quality_level()));
            let (query, face) = work.engine.query(&collection, &photo, wanted, call)?;
            let found = work.engine.verify(&collection, &person_id, &query, call)?;
            let reply = VerifyPersonResponse {
                call: None,
                similarity: found.similarity,
                threshold,
                same_person: found.similarity >= threshold,
                face: Some(convert::face(face)),
                estimate: Some(convert::estimate(calibration.estimate(
                    scoring,
                    found.similarity,
                    None,
                ))),
            };
            Ok((collection, reply))
        })
        .await?;
    call.scheme(&collection);
    Ok(reply)
}

async fn search(call: &mut Ongoing, request: SearchPersonsRequest) -> Result<SearchPersonsResponse, Refusal> {
    let collection = convert::one_collection(&request.collections)?;
    let photo = convert::photograph("photograph", request.photograph)?;
    let choose = convert::face_choice(request.face_choice)?;
    let level = convert::quality_level(request.quality_level)?;
    let top_k = convert::top_k(request.top_k)?;
    let limit = convert::limit(request.threshold)?;
    let (collection, reply) = call
        .compute(move |work, call| {
            let collection = work.collection(&collection)?;
            let wanted = choose.at(level.unwrap_or(collection.quality_level()));
            let (query, face) = work.engine.query(&collection, &photo, wanted, call)?;
            let (calibration, scoring) = (work.engine.calibration(), collection.scoring());
            let searched = collection.faces() as u64;
            let threshold = limit.map_or(collection.threshold(), |limit| {
                limit.similarity(calibration, scoring, searched)
            });
            let found = work.engine.search(&collection, &query, top_k, threshold, call)?;
            let matched = |found: Match| {
                let means = calibration.estimate(scoring, found.similarity, Some(searched));
                convert::matched(found, means)
            };
            let result = FaceMatches {
                face: Some(convert::face(face)),
                matches: found.into_iter().map(matched).collect(),
                threshold,
            };
            let reply = SearchPersonsResponse {
                call: None,
                results: vec![result],
                rejected: Vec::new(),
                faces_searched: searched,
            };
            Ok((collection, reply))
        })
        .await?;
    call.scheme(&collection);
    Ok(reply)
}
