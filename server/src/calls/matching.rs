//! Detecting, comparing, verifying and searching: nothing here is kept.

use likeness_engine::{
    Call, CollectionName, CollectionRef, Comparison, Error, Estimate, EveryFace, Face, Limit, Match, Query,
    Scoring, Searching, Step,
};
use likeness_proto::v1::{
    CompareFacesRequest, CompareFacesResponse, DetectFacesRequest, DetectFacesResponse, FaceMatches,
    SearchPersonsRequest, SearchPersonsResponse, VerifyPersonRequest, VerifyPersonResponse,
};

use crate::call::context::CallContext;
use crate::call::work::Work;
use crate::convert::{self, Sought};
use crate::refusal::Refusal;

pub async fn detect(
    call: &mut CallContext,
    request: DetectFacesRequest,
) -> Result<DetectFacesResponse, Refusal> {
    let photo = convert::photograph("photograph", request.photograph)?;
    let level = convert::quality_level(request.quality_level)?.unwrap_or_default();
    let detection = call
        .on_compute_pool(move |work, call| Ok(work.engine.detect(&photo, level, call)?))
        .await?;
    Ok(DetectFacesResponse {
        call: None,
        width: detection.width,
        height: detection.height,
        faces: detection.faces.into_iter().map(convert::face).collect(),
    })
}

pub async fn compare(
    call: &mut CallContext,
    request: CompareFacesRequest,
) -> Result<CompareFacesResponse, Refusal> {
    let first = convert::photograph("first", request.first)?;
    let second = convert::photograph("second", request.second)?;
    let choose = convert::face_choice(request.face_choice)?;
    let level = convert::quality_level(request.quality_level)?;
    let limit = convert::limit_of_one(request.threshold)?;
    call.on_compute_pool(move |work, call| {
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

pub async fn verify(
    call: &mut CallContext,
    request: VerifyPersonRequest,
) -> Result<VerifyPersonResponse, Refusal> {
    let (collection, person_id) = convert::names(&request.collection, &request.person_id)?;
    call.about(&collection, &person_id);
    let photo = convert::photograph("photograph", request.photograph)?;
    let choose = convert::face_choice(request.face_choice)?;
    let level = convert::quality_level(request.quality_level)?;
    let limit = convert::limit_of_one(request.threshold)?;
    let comparison = convert::comparison(request.comparison)?;
    let (collection, reply) = call
        .on_compute_pool(move |work, call| {
            let collection = work.collection(&collection)?;
            let (calibration, scoring) = (work.engine.calibration(), scoring(&collection, comparison));
            let asked = limit.map_or(collection.threshold(), |limit| {
                limit.similarity(calibration, scoring, 1)
            });
            // A yes or no at a laxer threshold would be as good an oracle as the similarity itself.
            let threshold = asked.max(work.engine.floor(scoring));
            let wanted = choose.at(level.unwrap_or(collection.quality_level()));
            let own = std::slice::from_ref(&collection);
            // ORDER: before the photograph is looked at: whoever is refused here costs nothing.
            work.engine.may_compare(&collection, &person_id, call)?;
            let (query, face) = work.engine.query(own, &photo, wanted, call)?;
            let by = (comparison, threshold);
            let found = work.engine.verify(&collection, &person_id, &query, by, call)?;
            let told = told(work, &found, scoring, None);
            let reply = VerifyPersonResponse {
                call: None,
                similarity: told.map(|(similarity, _)| similarity),
                threshold: found.threshold,
                same_person: found.similarity >= found.threshold,
                face: Some(convert::face(face)),
                estimate: told.map(|(_, means)| convert::estimate(means)),
            };
            Ok((collection, reply))
        })
        .await?;
    call.scheme(&collection);
    Ok(reply)
}

pub async fn search(
    call: &mut CallContext,
    request: SearchPersonsRequest,
) -> Result<SearchPersonsResponse, Refusal> {
    call.resources.rates.search(call.account())?;
    let names = convert::collections(&request.collections)?;
    let photo = convert::photograph("photograph", request.photograph)?;
    let sought = convert::sought(request.face_choice)?;
    let level = convert::quality_level(request.quality_level)?;
    let limit = convert::limit(request.threshold)?;
    let comparison = convert::comparison(request.comparison)?;
    let searching = Searching {
        top_k: convert::top_k(request.top_k)?,
        comparison,
        filter: convert::filter(request.filter)?,
        exact: request.exact,
    };
    let seen = call
        .on_compute_pool(move |work, call| {
            let collections = collections(work, &names)?;
            for id in &searching.filter.person_ids {
                collections
                    .iter()
                    .try_for_each(|place| work.engine.may_compare(place, id, call))?;
            }
            let asked_for = collections.iter().map(CollectionRef::quality_level).max();
            let level = level.or(asked_for).unwrap_or_default();
            let EveryFace { accepted, rejected } = match sought {
                Sought::One(choose) => EveryFace {
                    accepted: vec![work.engine.query(&collections, &photo, choose.at(level), call)?],
                    rejected: Vec::new(),
                },
                Sought::All => work.engine.queries(&collections, &photo, level, call)?,
            };
            let looked = Looked {
                collections,
                accepted,
                rejected,
                searching,
            };
            if work.engine.search_would_wait(&looked.collections) {
                return Ok(Searched::NotYet(looked));
            }
            looked.search(work, limit, call).map(Searched::Already)
        })
        .await?;
    // ORDER: the worker is free before the search may wait for others, one of which it may be about to serve.
    let (only, reply) = match seen {
        Searched::Already(found) => found,
        Searched::NotYet(looked) => {
            call.on_search_pool(move |work, call| looked.search(work, limit, call))
                .await?
        }
    };
    if let Some([only]) = only {
        call.scheme(&only);
    }
    Ok(reply)
}

/// The reply, and the collection if there is but one.
type Found = (Option<[CollectionRef; 1]>, SearchPersonsResponse);

/// How far a search has come once its photograph is looked at: where it need not wait it goes on at once, for each
/// change of threads costs a tenth of a millisecond.
enum Searched {
    Already(Found),
    NotYet(Looked),
}

/// A photograph that was looked at: who is to be found where.
struct Looked {
    collections: Vec<CollectionRef>,
    accepted: Vec<(Query, Face)>,
    rejected: Vec<Face>,
    searching: Searching,
}

impl Looked {
    fn search(self, work: &Work, limit: Option<Limit>, call: &mut Call) -> Result<Found, Refusal> {
        let Self {
            collections,
            accepted,
            rejected,
            searching,
        } = self;
        let (calibration, comparison) = (work.engine.calibration(), searching.comparison);
        // Of all of them, whoever the filter lets pass: then the rate of the search is lower still.
        let searched: usize = collections.iter().map(CollectionRef::faces).sum();
        let threshold = |place: &CollectionRef| {
            let (scoring, searched) = (scoring(place, comparison), searched as u64);
            let asked = limit.map_or(place.threshold(), |limit| {
                limit.similarity(calibration, scoring, searched)
            });
            asked.max(work.engine.search_floor(scoring, searched))
        };
        let places: Vec<_> = collections
            .iter()
            .map(|place| (place.clone(), threshold(place)))
            .collect();
        let (queries, faces): (Vec<_>, Vec<_>) = accepted.into_iter().unzip();
        let found = work.engine.search(&places, &queries, searching, call)?;
        let threshold = places.iter().map(|(_, from)| *from).fold(f32::INFINITY, f32::min);
        let compared = found.compared as u64;
        let matched = |found: Match| {
            let place = collections.iter().find(|place| *place.name() == found.collection);
            let scoring = place.map_or(Scoring::Photographs, |place| scoring(place, comparison));
            let told = told(work, &found, scoring, Some(compared));
            convert::matched(found, told)
        };
        let results = faces
            .into_iter()
            .zip(found.matches)
            .map(|(face, matches)| FaceMatches {
                face: Some(convert::face(face)),
                matches: matches.into_iter().map(matched).collect(),
                threshold,
            });
        let reply = SearchPersonsResponse {
            call: None,
            results: results.collect(),
            rejected: rejected.into_iter().map(convert::face).collect(),
            faces_searched: compared,
        };
        Ok((<[_; 1]>::try_from(collections).ok(), reply))
    }
}

/// A similarity and what it means, as the caller is told them; none if not.
pub fn told(work: &Work, found: &Match, scoring: Scoring, searched: Option<u64>) -> Option<(f32, Estimate)> {
    let similarity = found.is_told.then(|| work.engine.rounded(found.similarity))?;
    // Of the rounded one: its exact rate would say what the rounding hides.
    let means = work.engine.calibration().estimate(scoring, similarity, searched);
    Some((similarity, means))
}

/// How similarities of this collection come about.
fn scoring(collection: &CollectionRef, comparison: Comparison) -> Scoring {
    match comparison {
        Comparison::BestFace => collection.scoring(),
        Comparison::Fused => collection.fused_scoring(),
    }
}

/// The collections of these names, or which of them there is not.
fn collections(work: &Work, names: &[CollectionName]) -> Result<Vec<CollectionRef>, Refusal> {
    let found = names.iter().enumerate().map(|(n, name)| {
        work.collection(name)
            .map_err(|error| convert::in_collections(n, error))
    });
    found.collect()
}
