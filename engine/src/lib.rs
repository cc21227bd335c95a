//! Likeness, the engine: photographs in, irreversible templates kept, people found and erased.
//!
//! This crate is the roof over four pillars: `types` (what all of them name), `faces` (photographs to templates),
//! `search` (templates compared) and `store` (what is kept, and how it is erased). It joins them: people, accounts, the
//! limits of comparisons, the access log. What it exports is all that a server may name.
//!
//! What reveals template bits, probe values, plain features or keys asks for a value that only crates of the engine can name,
//! so a server that holds such an object cannot look into it:
//!
//! ```compile_fail,E0061
//! fn key(store: &likeness_engine::KeyStore) { let _ = store.open(); }
//! ```
//! ```compile_fail,E0061
//! fn bits(template: &likeness_engine::Template) -> Vec<u64> { template.words().to_vec() }
//! ```
//! ```compile_fail,E0061
//! fn features(embedding: &likeness_engine::Embedding) -> usize { embedding.values().len() }
//! ```
//! ```compile_fail,E0616
//! fn face(face: likeness_engine::NewFace) { let _ = face.template; }
//! ```
//! ```compile_fail,E0432
//! use likeness_engine::Inside;
//! ```

#![forbid(unsafe_code)]

mod access;
mod access_log;

#[doc(hidden)]
pub mod bench;
mod call;
mod engine;
mod erasure_receipt;
mod erasure_status;
mod gallery;
mod guard;
mod page;
mod people;
mod search;

pub use likeness_store::{receipts, residue, retention};

/// What each call does with stored templates.
pub mod doors {
    pub use likeness_types::doors::CALLS;
}

pub use access::accounts::Grant;
pub use access::administration::{Administration, Offline};
pub use access::closing::{ClosedAccount, ClosedDeployment};
pub use access::{
    ACCOUNTS_MAX, API_KEYS_MAX, AccountInfo, AccountSettings, ApiKey, ApiKeyInfo, FACES_WARNING, Holding,
    KEY_COLLECTIONS_MAX, LABEL_BYTES_MAX, NewApiKey, Quotas, Scope, Scopes,
};
pub use access_log::RunningLogSize;
pub use access_log::entry::CallOrigin;
pub use access_log::export::{LogCursor, LogPart};
pub use access_log::row::{LogRow, Part};
pub use access_log::usage::{Charge, Usage, day_of};
pub use call::Call;
pub use engine::{
    COLLECTIONS_MAX, CollectionChange, CollectionRef, DESCRIPTORS_MAX, Engine, EngineConfig, NewCollection,
    PAGE_ITEMS_MAX, QUERY_FACES_MAX, TOP_K_MAX,
};
pub use erasure_receipt::{ErasureReceipt, PersonErasure};
pub use erasure_status::{ErasureStatus, ReceiptReader};
pub use gallery::collection::{
    CollectionInfo, CollectionSettings, EF_DEFAULT, EF_RANGE, FACES_PER_PERSON_MAX, IndexKind,
};
pub use gallery::collections::CollectionErasure;
pub use gallery::load::LoadReport;
#[cfg(feature = "graph")]
pub use gallery::measure::{
    EF_TRIED, Measured, MeasuredSlice, Measurement, Measuring, RECALL_MIN, recommended,
};
pub use gallery::rotate::Rotation;
pub use guard::comparison_limiter::Withheld;
pub use guard::idempotency::key::{Caller, Once};
pub use likeness_faces::calibration::{
    CALIBRATION_FILE, Calibration, DEFAULT_CALIBRATION, Estimate, Limit, Population, Scoring,
};
pub use likeness_faces::embedding::{EMBEDDING_DIM_MAX, Embedding};
pub use likeness_faces::evaluate::{
    CalibrationReport, Calibrator, Curve, DetPoint, Evaluation, Evaluator, HeldOut, Interval, LevelFigures,
    PersonCurve, PersonCurves, RateReport, ScoringReport, SeveralFaces, TemplateCurve,
};
pub use likeness_faces::manifest::{DEFAULT_MANIFEST, MANIFEST_FILE, StatedRates};
pub use likeness_faces::pipeline::protect::Protector;
pub use likeness_faces::pipeline::{
    Bounds, Choose, Detection, EveryFace, Face, Looks, Pipeline, SchemeParts, Wanted,
};
pub use likeness_faces::quality::{Quality, QualityLevel};
pub use likeness_store::erasure_log::{Backlog, Issued};
pub use likeness_store::keys::store::KeyStore;
pub use likeness_types::act::{Act, AuditEntry, Audited};
pub use likeness_types::config::{Limits, ScoreLimits};
pub use likeness_types::doors::{Counted, Door, Reads};
pub use likeness_types::error::{Error, NoMemory, OperatorError, Rejection, RequestError, Result, Stopped};
pub use likeness_types::memory::MemoryBudget;
pub use likeness_types::names::{Account, CollectionName, FaceId, NAME_BYTES_MAX, PersonId, RandomId, Token};
pub use likeness_types::person::{
    Consent, EXPIRY_YEARS_MAX, Names, NewFace, Person, Profile, StoredFace, Timestamp,
};
pub use likeness_types::scheme::{Scheme, SchemeId};
pub use likeness_types::span::{Cancel, Lease, Step};
pub use likeness_types::swap::swap_warning;
pub use likeness_types::template::{Bits, Probe, Template};
pub use likeness_types::wipe::wipe_stack;
pub use page::Page;
pub use people::admission::{Admission, Checks, OwnChecks};
pub use people::change::ProfileChange;
pub use people::duplicates::{DuplicateCursor, DuplicatePair, Duplicates};
pub use people::erase_everywhere::ErasureIn;
pub use people::export::PersonExport;
pub use people::read::Footprint;
pub use search::filter::{FILTER_IDS_MAX, Filter};
pub use search::{Comparison, Match, Matches, Query, Searching};
