//! The engine's types, as replies say them.

use std::time::{Duration, SystemTime};

use likeness_engine::{
    Bounds, CollectionErasure, CollectionInfo, Consent, DuplicatePair, Duplicates, Engine, ErasureIn,
    ErasureReceipt, Estimate, IndexKind, Match, Person, PersonErasure, PersonExport, Quality, QualityLevel,
    Scoring, StoredFace, Timestamp, recommended,
};
use likeness_proto::v1;

use crate::refusal::rejection;

/// What a similarity means, on the wire.
pub fn estimate(estimate: Estimate) -> v1::Estimate {
    v1::Estimate {
        score: estimate.score,
        far: estimate.far,
        extrapolated: estimate.extrapolated,
        fpir: estimate.fpir,
    }
}

/// A slice of a search for duplicates, on the wire.
pub fn duplicates(found: Duplicates, engine: &Engine, scoring: Scoring) -> v1::FindDuplicatesResponse {
    let pair = |pair: DuplicatePair| {
        let similarity = pair.is_told.then(|| engine.rounded(pair.similarity));
        let of = |similarity| estimate(engine.calibration().estimate(scoring, similarity, None));
        v1::DuplicatePair {
            first_person_id: pair.people[0].id.as_str().to_owned(),
            second_person_id: pair.people[1].id.as_str().to_owned(),
            similarity,
            estimate: similarity.map(of),
        }
    };
    v1::FindDuplicatesResponse {
        done: found.done as u64,
        total: found.total as u64,
        pairs: found.pairs.into_iter().map(pair).collect(),
        cursor: found.next.map(|next| next.to_string()).unwrap_or_default(),
        max_far: 0.0,
    }
}

/// A slice of a measurement, on the wire.
#[cfg(feature = "graph")]
pub fn measured(slice: likeness_engine::MeasuredSlice) -> v1::MeasureIndexResponse {
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let row = |row: &likeness_engine::Measured| v1::MeasuredIndex {
        index: wire_index_kind(row.kind).into(),
        ef: row.ef.unwrap_or_default(),
        exact: row.exact,
        recall_at_1: row.recall,
        p50_micros: micros(row.p50),
        p99_micros: micros(row.p99),
        faces: row.faces as u64,
    };
    let (kind, ef) = slice.rows.as_deref().map_or_else(Default::default, |rows| {
        let (kind, ef) = recommended(rows);
        (wire_index_kind(kind), ef.unwrap_or_default())
    });
    v1::MeasureIndexResponse {
        done: slice.done as u64,
        total: slice.total as u64,
        rows: slice.rows.iter().flatten().map(row).collect(),
        recommended: kind.into(),
        recommended_ef: ef,
    }
}

/// A moment, on the wire.
pub fn time(time: Timestamp) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp::from(
        SystemTime::UNIX_EPOCH + Duration::from_millis(time.0),
    ))
}

/// A collection, on the wire.
pub fn collection(info: CollectionInfo) -> v1::Collection {
    v1::Collection {
        name: info.name.as_str().to_owned(),
        bits: u32::try_from(info.settings.bits.get()).expect("at most 2048"),
        threshold: info.settings.threshold,
        faces_per_person_max: info.settings.faces_per_person_max,
        created: time(info.created),
        persons: info.persons as u64,
        faces: info.faces as u64,
        damaged_persons: info.damaged as u64,
        quality_level: wire_level(info.settings.quality_level).into(),
        index: wire_index_kind(info.settings.index).into(),
        ef: info.settings.ef,
        consent_required: info.settings.consent_required,
    }
}

/// A person, on the wire.
pub fn person(person: Person) -> v1::Person {
    v1::Person {
        person_id: person.id.as_str().to_owned(),
        name: person.profile.name,
        tags: person.profile.tags,
        consent: person.profile.consent.map(consent_to_wire),
        enrolled: time(person.enrolled),
        updated: time(person.updated),
        faces: person.faces.iter().map(stored_face).collect(),
        expires: person.profile.expires.and_then(time),
    }
}

fn consent_to_wire(consent: Consent) -> v1::Consent {
    v1::Consent {
        purpose: consent.purpose,
        given: time(consent.given),
        of_age_or_parental: consent.of_age_or_parental,
    }
}

/// A person's consent, on the wire.
pub fn person_consent(person: Person) -> v1::PersonConsent {
    v1::PersonConsent {
        person_id: person.id.as_str().to_owned(),
        consent: person.profile.consent.map(consent_to_wire),
        expires: person.profile.expires.and_then(time),
    }
}

/// What is kept of a person in one collection, on the wire.
pub fn person_export(export: PersonExport) -> v1::PersonExport {
    v1::PersonExport {
        collection: export.collection.as_str().to_owned(),
        person: export.person.map(person),
        scheme: export.scheme,
        template_bytes: count(export.footprint.template),
        record_bytes: count(export.footprint.record),
        slot_bytes: count(export.footprint.slot),
        counter_bytes: count(export.footprint.counters),
    }
}

fn stored_face(face: &StoredFace) -> v1::StoredFace {
    v1::StoredFace {
        face_id: face.id.to_string(),
        enrolled: time(face.enrolled),
        detection_score: face.detection_score,
    }
}

/// A number of things that has its limit elsewhere.
pub fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A receipt of erasure, on the wire.
pub fn receipt(receipt: ErasureReceipt) -> v1::ErasureReceipt {
    v1::ErasureReceipt {
        sequence: receipt.sequence,
        receipt: receipt.bytes,
        nonce: receipt.nonce.to_vec(),
    }
}

/// A person erased, on the wire.
pub fn person_erased(erased: PersonErasure) -> v1::PersonErased {
    v1::PersonErased {
        faces_erased: count(erased.faces),
        receipt: Some(receipt(erased.receipt)),
    }
}

/// A person erased in one of several collections, on the wire.
pub fn erasure_in(erased: ErasureIn) -> v1::CollectionErasure {
    let collection = erased.collection.map(|name| name.as_str().to_owned());
    v1::CollectionErasure {
        collection: collection.unwrap_or_default(),
        faces_erased: count(erased.erasure.faces),
        receipt: Some(receipt(erased.erasure.receipt)),
    }
}

/// The receipts of a collection's erasure, on the wire.
pub fn collection_receipts(erased: CollectionErasure) -> Vec<v1::ErasureReceipt> {
    let receipts = erased.receipts.into_iter().map(|issued| v1::ErasureReceipt {
        sequence: issued.sequence,
        receipt: issued.bytes,
        nonce: erased.nonce.to_vec(),
    });
    receipts.collect()
}

/// A person found, on the wire.
pub fn matched(found: Match, told: Option<(f32, Estimate)>) -> v1::Match {
    v1::Match {
        person_id: found.person.id.as_str().to_owned(),
        name: found.person.profile.name,
        similarity: told.map(|(similarity, _)| similarity),
        tags: found.person.profile.tags,
        collection: found.collection.as_str().to_owned(),
        estimate: told.map(|(_, means)| estimate(means)),
    }
}

pub(super) fn wire_level(level: QualityLevel) -> v1::QualityLevel {
    match level {
        QualityLevel::None => v1::QualityLevel::None,
        QualityLevel::Low => v1::QualityLevel::Low,
        QualityLevel::Medium => v1::QualityLevel::Medium,
        QualityLevel::High => v1::QualityLevel::High,
        QualityLevel::Strict => v1::QualityLevel::Strict,
    }
}

fn quality(quality: &Quality) -> v1::Quality {
    v1::Quality {
        eye_distance_px: quality.eye_distance_px,
        sharpness: quality.sharpness,
        brightness: quality.brightness,
        contrast: quality.contrast,
        yaw_degrees: quality.yaw_degrees,
        pitch_degrees: quality.pitch_degrees,
        roll_degrees: quality.roll_degrees,
        landmark_confidence: quality.landmark_confidence,
        eyes_open: quality.eyes_open,
        level: wire_level(quality.level()).into(),
    }
}

/// A face of a photograph, on the wire.
pub fn face(face: likeness_engine::Face) -> v1::Face {
    let Bounds {
        left,
        top,
        right,
        bottom,
    } = face.bounds;
    v1::Face {
        r#box: Some(v1::Box {
            left,
            top,
            right,
            bottom,
        }),
        detection_score: face.score,
        points: face
            .points
            .iter()
            .map(|[x, y]| v1::Point { x: *x, y: *y })
            .collect(),
        rejection: face.rejection.as_ref().map(rejection),
        quality: Some(quality(&face.quality)),
        rotated_degrees: face.rotated_degrees,
    }
}

pub fn wire_index_kind(kind: IndexKind) -> v1::IndexKind {
    match kind {
        IndexKind::Flat => v1::IndexKind::Flat,
        IndexKind::Graph => v1::IndexKind::Graph,
    }
}
