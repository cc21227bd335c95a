//! Requests from the wire: everything a client sends is checked here once.

use std::time::SystemTime;

use likeness_engine::{
    Account, Bits, COLLECTIONS_MAX, Checks, Choose, CollectionName, Comparison, Consent, Engine, Error,
    FILTER_IDS_MAX, FaceId, Filter, IndexKind, Limit, Looks, PAGE_ITEMS_MAX, PersonId, Profile,
    ProfileChange, QualityLevel, RequestError, Result, TOP_K_MAX, Timestamp,
};
use likeness_proto::v1;

use crate::refusal::Refusal;

/// Photographs in one call.
pub const PHOTOGRAPHS_MAX: usize = 20;
const PAGE_ITEMS_DEFAULT: usize = 100;
const TOP_K_DEFAULT: usize = 5;
/// Of unrelated pairs of faces, the part that a search for duplicates may report.
const DUPLICATES_FAR: f64 = 1e-6;

/// A collection and a person of it.
pub fn names(collection: &str, person_id: &str) -> Result<(CollectionName, PersonId)> {
    Ok((CollectionName::parse(collection)?, PersonId::parse(person_id)?))
}

/// Where a copy goes: an empty PersonID is the same one.
pub fn target_names(
    collection: &str,
    person_id: &str,
    same: &PersonId,
) -> Result<(CollectionName, PersonId)> {
    let collection = in_field("target_collection", CollectionName::parse(collection))?;
    let person_id = match person_id {
        "" => same.clone(),
        other => in_field("target_person_id", PersonId::parse(other))?,
    };
    Ok((collection, person_id))
}

/// The PersonID that a person is given.
pub fn new_person_id(person_id: &str) -> Result<PersonId> {
    in_field("new_person_id", PersonId::parse(person_id))
}

/// The collections of a search.
pub fn collections(names: &[String]) -> Result<Vec<CollectionName>, Refusal> {
    if !(1..=COLLECTIONS_MAX).contains(&names.len()) {
        let (expected, received) = (format!("1 to {COLLECTIONS_MAX}"), names.len().to_string());
        return Err(RequestError::invalid("collections", expected, received).into());
    }
    let mut parsed = Vec::with_capacity(names.len());
    for (n, name) in names.iter().enumerate() {
        let name = CollectionName::parse(name).map_err(|error| in_collections(n, error))?;
        if parsed.contains(&name) {
            let repeated = RequestError::invalid("collections", "no collection twice", "one again");
            return Err(in_collections(n, repeated.into()));
        }
        parsed.push(name);
    }
    Ok(parsed)
}

/// What is wrong with one of the collections of a search.
pub fn in_collections(n: usize, error: Error) -> Refusal {
    Refusal::Item(format!("collections[{n}]"), error)
}

/// The engine names a value by what it is; a client wants the field of its own request.
pub fn in_field<T>(field: &'static str, parsed: Result<T>) -> Result<T> {
    parsed.map_err(|error| match error {
        Error::Request(RequestError::Invalid {
            expected, received, ..
        }) => RequestError::invalid(field, expected, received).into(),
        other => other,
    })
}

/// An unset or unknown number on the wire is an error, not a default.
pub fn face_choice(choice: i32) -> Result<Choose> {
    one_face(choice, "0 (only) or 1 (largest)")
}

fn one_face(choice: i32, expected: &str) -> Result<Choose> {
    match v1::FaceChoice::try_from(choice) {
        Ok(v1::FaceChoice::Only) => Ok(Choose::Only),
        Ok(v1::FaceChoice::Largest) => Ok(Choose::Largest),
        Ok(v1::FaceChoice::All) | Err(_) => {
            Err(RequestError::invalid("face_choice", expected, choice.to_string()).into())
        }
    }
}

/// The faces of a photograph that a search is for.
pub enum Sought {
    /// One.
    One(Choose),
    /// Every acceptable one.
    All,
}

/// As [`face_choice`], where all faces may be asked for.
pub fn sought(choice: i32) -> Result<Sought> {
    match v1::FaceChoice::try_from(choice) {
        Ok(v1::FaceChoice::All) => Ok(Sought::All),
        _ => one_face(choice, "0 (only), 1 (largest) or 2 (all)").map(Sought::One),
    }
}

/// What of a person is compared.
pub fn comparison(comparison: i32) -> Result<Comparison> {
    match v1::Comparison::try_from(comparison) {
        Ok(v1::Comparison::BestFace) => Ok(Comparison::BestFace),
        Ok(v1::Comparison::Fused) => Ok(Comparison::Fused),
        Err(_) => {
            let received = comparison.to_string();
            Err(RequestError::invalid("comparison", "0 (best face) or 1 (fused)", received).into())
        }
    }
}

/// How a collection is searched; unset is `None`.
pub fn index_kind(kind: i32) -> Result<Option<IndexKind>> {
    match v1::IndexKind::try_from(kind) {
        Ok(v1::IndexKind::Unspecified) => Ok(None),
        Ok(v1::IndexKind::Flat) => Ok(Some(IndexKind::Flat)),
        Ok(v1::IndexKind::Graph) => Ok(Some(IndexKind::Graph)),
        Err(_) => {
            let expected = "0 (unset), 1 (flat) or 2 (graph)";
            Err(RequestError::invalid("index", expected, kind.to_string()).into())
        }
    }
}

/// How good a face must be; unset is `None`.
pub fn quality_level(level: i32) -> Result<Option<QualityLevel>> {
    match v1::QualityLevel::try_from(level) {
        Ok(v1::QualityLevel::Unspecified) => Ok(None),
        Ok(v1::QualityLevel::None) => Ok(Some(QualityLevel::None)),
        Ok(v1::QualityLevel::Low) => Ok(Some(QualityLevel::Low)),
        Ok(v1::QualityLevel::Medium) => Ok(Some(QualityLevel::Medium)),
        Ok(v1::QualityLevel::High) => Ok(Some(QualityLevel::High)),
        Ok(v1::QualityLevel::Strict) => Ok(Some(QualityLevel::Strict)),
        Err(_) => {
            let expected = "0 (unset), or 1 (none) to 5 (strict)";
            Err(RequestError::invalid("quality_level", expected, level.to_string()).into())
        }
    }
}

/// Which people a search looks at.
pub fn filter(filter: Option<v1::Filter>) -> Result<Filter> {
    let v1::Filter {
        any_tag,
        all_tags,
        person_ids,
    } = filter.unwrap_or_default();
    if person_ids.len() > FILTER_IDS_MAX {
        let (expected, received) = (format!("at most {FILTER_IDS_MAX}"), person_ids.len().to_string());
        return Err(RequestError::invalid("filter.person_ids", expected, received).into());
    }
    let person_ids = person_ids.iter().map(|id| PersonId::parse(id)).collect();
    Filter {
        any_tag,
        all_tags,
        person_ids: in_field("filter.person_ids", person_ids)?,
    }
    .checked()
}

/// The part of unrelated pairs that a search for duplicates may report; 0 on the wire is the default.
pub fn max_far(max_far: f64) -> Result<f64> {
    match max_far {
        0.0 => Ok(DUPLICATES_FAR),
        far if (1e-9..=0.5).contains(&far) => Ok(far),
        other => Err(RequestError::invalid("max_far", "1e-9 to 0.5", other.to_string()).into()),
    }
}

/// How an index is measured; 0 on the wire is the default.
#[cfg(feature = "graph")]
pub fn measurement(people_max: u32, probes: u32) -> Result<likeness_engine::Measurement> {
    /// People of an index that is made to be measured, and faces that it is asked for.
    const PEOPLE: u32 = 100_000;
    const PEOPLE_MAX: u32 = 10_000_000;
    const PROBES: u32 = 200;
    const PROBES_MAX: u32 = 10_000;
    let within = |field, value: u32, default: u32, most: u32| match value {
        0 => Ok(default as usize),
        value if value <= most => Ok(value as usize),
        other => Err(RequestError::invalid(
            field,
            format!("0 (unset) to {most}"),
            other.to_string(),
        )),
    };
    Ok(likeness_engine::Measurement {
        people_max: within("people_max", people_max, PEOPLE, PEOPLE_MAX)?,
        probes: within("probes", probes, PROBES, PROBES_MAX)?,
    })
}

/// 0 on the wire is "not set".
pub fn bits(bits: u32) -> Result<Option<Bits>> {
    if bits == 0 {
        Ok(None)
    } else {
        Bits::parse(bits).map(Some)
    }
}

/// A search's threshold, as it was stated; unset is `None`.
pub fn limit(threshold: Option<v1::Threshold>) -> Result<Option<Limit>> {
    let stated = threshold.and_then(|t| t.limit).map(|limit| match limit {
        v1::threshold::Limit::Similarity(similarity) => Limit::of_similarity(similarity),
        v1::threshold::Limit::Score(score) => Limit::of_score(score),
        v1::threshold::Limit::MaxFarPerComparison(far) => Limit::of_far(far),
        v1::threshold::Limit::MaxFpirPerSearch(fpir) => Limit::of_fpir(fpir),
    });
    stated.transpose()
}

/// The threshold of a single comparison, as it was stated; unset is `None`.
pub fn limit_of_one(threshold: Option<v1::Threshold>) -> Result<Option<Limit>> {
    let limit = limit(threshold)?;
    if limit.is_some_and(Limit::is_of_searches) {
        let expected = "a limit of one comparison";
        return Err(RequestError::invalid("threshold", expected, "a limit of searches").into());
    }
    Ok(limit)
}

/// Checks of new faces. Each step of strictness is a power of ten of searches that find somebody by mistake.
pub fn checks(checks: Option<v1::EnrollmentChecks>) -> Result<Checks> {
    let checks = checks.unwrap_or_default();
    let duplicates = match checks.duplicate_strictness {
        0 => None,
        1 => Some(1e-5),
        2 => Some(1e-4),
        3 => Some(1e-3),
        4 => Some(1e-2),
        other => {
            let received = other.to_string();
            return Err(RequestError::invalid("checks.duplicate_strictness", "0 to 4", received).into());
        }
    };
    Ok(Checks {
        duplicates: duplicates.map(Limit::of_fpir).transpose()?,
        own_person: checks.own_person,
        looks: if checks.mirror {
            Looks::Mirrored
        } else {
            Looks::Plain
        },
    })
}

/// A similarity from 0 to 1.
pub fn threshold(threshold: Option<f32>) -> Result<Option<f32>> {
    match threshold {
        Some(t) if !(0.0..=1.0).contains(&t) => {
            Err(RequestError::invalid("threshold", "a similarity from 0 to 1", t.to_string()).into())
        }
        t => Ok(t),
    }
}

/// 0 on the wire is the default.
pub fn top_k(top_k: u32) -> Result<usize> {
    ranged("top_k", top_k, TOP_K_DEFAULT, TOP_K_MAX)
}

/// 0 on the wire is the default.
pub fn page_size(page_size: u32) -> Result<usize> {
    ranged("page_size", page_size, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX)
}

fn ranged(field: &'static str, value: u32, default: usize, max: usize) -> Result<usize> {
    match value as usize {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(RequestError::invalid(field, format!("1 to {max}"), value.to_string()).into()),
    }
}

/// The bytes of the one photograph of a call.
pub fn photograph(field: &'static str, photograph: Option<v1::Photograph>) -> Result<Vec<u8>> {
    let data = photograph.map(|p| p.data).unwrap_or_default();
    if data.is_empty() {
        return Err(RequestError::invalid(field, "a photograph", "nothing").into());
    }
    Ok(data)
}

/// The bytes of several photographs.
pub fn photographs(photographs: Vec<v1::Photograph>) -> Result<Vec<Vec<u8>>, Refusal> {
    let count = photographs.len();
    if count == 0 || count > PHOTOGRAPHS_MAX {
        let expected = format!("1 to {PHOTOGRAPHS_MAX} photographs");
        return Err(RequestError::invalid("photographs", expected, count.to_string()).into());
    }
    let photographs = photographs.into_iter().enumerate().map(|(n, photo)| {
        let in_place = |error| Refusal::Item(format!("photographs[{n}]"), error);
        photograph("photographs", Some(photo)).map_err(in_place)
    });
    photographs.collect()
}

/// What the client keeps with a person.
pub fn profile(
    name: String,
    tags: Vec<String>,
    consent: Option<v1::Consent>,
    expires: Option<prost_types::Timestamp>,
) -> Result<Profile> {
    Profile {
        name,
        tags,
        consent: self::consent(consent)?,
        expires: self::expires(expires)?,
    }
    .checked()
}

/// What of it changes, as the key of the call may change it: without scope erase no expiry is set earlier.
pub fn profile_change(
    name: Option<String>,
    tags: Option<v1::TagList>,
    consent: Option<v1::Consent>,
    expiry: Option<v1::ExpiryChange>,
    may_erase: bool,
) -> Result<ProfileChange> {
    Ok(ProfileChange {
        name,
        tags: tags.map(|list| list.tags),
        consent: self::consent(consent)?,
        expires: expiry.map(|expiry| expires(expiry.expires)).transpose()?,
        refuses_earlier_expiry: !may_erase,
    })
}

fn consent(consent: Option<v1::Consent>) -> Result<Option<Consent>> {
    let Some(consent) = consent else {
        return Ok(None);
    };
    let given = consent.given.map(|given| time_from_wire("consent.given", given));
    Ok(Some(Consent {
        purpose: consent.purpose,
        given: given.unwrap_or_else(|| Ok(Timestamp::now()))?,
        of_age_or_parental: consent.of_age_or_parental,
    }))
}

pub fn expires(expires: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>> {
    expires.map(|time| time_from_wire("expires", time)).transpose()
}

/// A collection that a key is not good for, in the engine's own words: it must not be told from one that
/// there is not.
pub fn no_such_collection() -> Error {
    RequestError::NoCollection.into()
}

/// A guard against destroying by mistake: the caller names the group that the account has.
pub fn own_key_group(group: &str, account: &Account) -> Result<()> {
    if group == account.as_str() {
        return Ok(());
    }
    let received = format!("{} bytes of another name", group.len());
    Err(RequestError::invalid("key_group", "the account's key group", received).into())
}

/// Ids of faces to delete.
pub fn face_ids(ids: &[String]) -> Result<Vec<FaceId>> {
    if ids.is_empty() {
        return Err(RequestError::invalid("face_ids", "at least one face id", "none").into());
    }
    in_field("face_ids", ids.iter().map(|id| FaceId::parse(id)).collect())
}

/// A stream of imports begins with its header.
pub fn header_first(received: bool) -> Error {
    let received = if received { "an item" } else { "nothing" };
    RequestError::invalid("header", "a header as the first message", received).into()
}

/// And has no other.
pub fn one_header() -> Error {
    RequestError::invalid("header", "items after the header", "another header").into()
}

/// A message of a stream says something.
pub fn empty_part() -> Error {
    RequestError::invalid("part", "a header or an item", "nothing").into()
}

/// Checks that an import may ask for.
pub fn import_checks(checks: Option<&v1::EnrollmentChecks>) -> Result<()> {
    match checks.map_or(0, |checks| checks.duplicate_strictness) {
        0 => Ok(()),
        strictness => {
            let received = strictness.to_string();
            Err(RequestError::invalid("checks.duplicate_strictness", "0 in an import", received).into())
        }
    }
}

/// Whether a header announces features; items may have them only then.
pub fn brings_features(header: &v1::ImportHeader) -> bool {
    !header.embedding_model.is_empty() || header.embedding_dim != 0
}

/// Features are of the server's own embedder, or there are none.
pub fn own_embedder(model: &str, dim: u32, engine: &Engine) -> Result<()> {
    if model.is_empty() && dim == 0 {
        return Ok(());
    }
    let (own, own_dim) = engine.embedder();
    if model != own {
        let received = format!("another of {} bytes", model.len());
        return Err(RequestError::invalid("embedding_model", own, received).into());
    }
    if dim as usize != own_dim {
        return Err(RequestError::invalid("embedding_dim", own_dim.to_string(), dim.to_string()).into());
    }
    Ok(())
}

/// The features of an item, which has no photographs then.
pub fn features(
    embeddings: Vec<v1::FaceEmbedding>,
    photographs: &[v1::Photograph],
    dim: u32,
) -> Result<Vec<Vec<f32>>> {
    let count = embeddings.len();
    if count > PHOTOGRAPHS_MAX || !photographs.is_empty() {
        let expected = format!("1 to {PHOTOGRAPHS_MAX}, and no photographs");
        let received = format!("{count}, and {} photographs", photographs.len());
        return Err(RequestError::invalid("embeddings", expected, received).into());
    }
    if dim == 0 {
        let expected = "the model that made the embeddings";
        return Err(RequestError::invalid("embedding_model", expected, "none in the header").into());
    }
    Ok(embeddings.into_iter().map(|embedding| embedding.values).collect())
}

fn time_from_wire(field: &'static str, time: prost_types::Timestamp) -> Result<Timestamp> {
    let since = SystemTime::try_from(time)
        .ok()
        .and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
    let ms = since.and_then(|d| u64::try_from(d.as_millis()).ok());
    ms.map(Timestamp)
        .ok_or_else(|| RequestError::invalid(field, "a time since 1970", "another").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::replies::{time, wire_index_kind, wire_level};

    #[test]
    fn zero_is_the_default_and_too_much_is_refused() {
        assert_eq!(top_k(0).ok(), Some(TOP_K_DEFAULT));
        assert_eq!(top_k(100).ok(), Some(100));
        assert!(top_k(101).is_err());
        assert_eq!(page_size(1000).ok(), Some(1000));
        assert!(page_size(1001).is_err());
    }

    #[test]
    fn a_threshold_is_a_number_from_0_to_1() {
        assert!(threshold(Some(f32::NAN)).is_err());
        assert!(threshold(Some(-0.1)).is_err());
        assert!(threshold(Some(1.1)).is_err());
        assert_eq!(threshold(None).ok(), Some(None));
    }

    #[test]
    fn every_kind_of_index_survives_the_wire() {
        for kind in [IndexKind::Flat, IndexKind::Graph] {
            assert_eq!(index_kind(wire_index_kind(kind).into()).ok(), Some(Some(kind)));
        }
        assert_eq!(index_kind(0).ok(), Some(None));
        assert!(index_kind(3).is_err() && index_kind(-1).is_err());
    }

    #[test]
    fn every_quality_level_survives_the_wire() {
        for level in QualityLevel::ALL {
            assert_eq!(quality_level(wire_level(level).into()).ok(), Some(Some(level)));
        }
        assert_eq!(quality_level(0).ok(), Some(None));
        assert!(quality_level(6).is_err() && quality_level(-1).is_err());
    }

    #[test]
    fn times_survive_the_wire() {
        let moment = Timestamp(1_700_000_000_123);
        let wire = time(moment).expect("a time");
        assert_eq!(time_from_wire("expires", wire).ok(), Some(moment));
        let before = prost_types::Timestamp {
            seconds: -1,
            nanos: 0,
        };
        assert!(time_from_wire("expires", before).is_err());
    }
}
