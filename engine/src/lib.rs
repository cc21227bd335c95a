//! Likeness, the engine: photographs in, irreversible templates kept, people found and erased.

mod access;
#[doc(hidden)]
pub mod bench;
mod calibration;
mod call;
mod clock;
mod config;
mod cores;
mod crypto;
mod embedding;
mod engine;
mod error;
mod evaluate;
mod fused;
mod gallery;
mod heap;
mod keys;
mod manifest;
mod memory;
mod model;
mod names;
mod once;
mod person;
mod pipeline;
mod private;
mod quality;
pub mod receipts;
pub mod residue;
mod scheme;
mod slots;
mod swap;
mod template;
mod tensor;
#[cfg(test)]
mod testing;
mod wipe;

pub use access::{
    ACCOUNTS_MAX, API_KEYS_MAX, AccountInfo, AccountSettings, Act, ApiKey, ApiKeyInfo, AuditEntry, Audited,
    ClosedAccount, ClosedDeployment, FACES_WARNING, Holding, KEY_COLLECTIONS_MAX, LABEL_BYTES_MAX, NewApiKey,
    Quotas, Scope, Scopes,
};
pub use calibration::{
    CALIBRATION_FILE, Calibration, DEFAULT_CALIBRATION, Estimate, Limit, Population, Scoring,
};
pub use call::{Call, Cancel, Lease, Step};
pub use config::{DESCRIPTORS_MAX, Limits, ScoreLimits};
pub use embedding::{EMBEDDING_DIM_MAX, Embedding};
pub use engine::{
    Administration, Admission, COLLECTIONS_MAX, Checks, CollectionChange, CollectionRef, Engine,
    EngineConfig, ErasureStatus, NewCollection, Offline, OwnChecks, PAGE_ITEMS_MAX, PersonExport,
    QUERY_FACES_MAX, ReceiptReader, Searching, TOP_K_MAX,
};
pub use error::{Error, NoMemory, OperatorError, Rejection, RequestError, Result, Stopped};
pub use evaluate::{
    CalibrationReport, Calibrator, Curve, DetPoint, Evaluation, Evaluator, HeldOut, Interval, LevelFigures,
    PersonCurve, PersonCurves, RateReport, ScoringReport, SeveralFaces, TemplateCurve,
};
pub use gallery::accounts::Grant;
pub use gallery::collection::{
    CollectionInfo, CollectionSettings, EF_DEFAULT, EF_RANGE, FACES_PER_PERSON_MAX, IndexKind,
};
pub use gallery::erasures::{Backlog, Issued};
pub use gallery::measure::{
    EF_TRIED, Measured, MeasuredSlice, Measurement, Measuring, RECALL_MIN, recommended,
};
pub use gallery::running::RunningLogSize;
pub use gallery::running::entry::{CallOrigin, Charge};
pub use gallery::running::export::{LogCursor, LogPart};
pub use gallery::running::row::{LogRow, Part};
pub use gallery::running::usage::{Usage, day_of};
pub use gallery::{
    CollectionErasure, Comparison, Counted, Door, DuplicateCursor, DuplicatePair, Duplicates, ErasureIn,
    ErasureReceipt, FILTER_IDS_MAX, Filter, Footprint, LoadReport, Match, Matches, Page, PersonErasure,
    ProfileChange, Query, Reads, Rotation, Withheld, doors,
};
pub use keys::root::RootSource;
pub use keys::store::KeyStore;
pub use manifest::{DEFAULT_MANIFEST, MANIFEST_FILE, StatedRates};
pub use memory::MemoryBudget;
pub use names::{Account, CollectionName, FaceId, NAME_BYTES_MAX, PersonId, RandomId, Token};
pub use once::{Caller, Once};
pub use person::{Consent, EXPIRY_YEARS_MAX, Names, NewFace, Person, Profile, StoredFace, Timestamp};
pub use pipeline::protect::Protector;
pub use pipeline::{Bounds, Choose, Detection, EveryFace, Face, Looks, Pipeline, SchemeParts, Wanted};
pub use quality::{Quality, QualityLevel};
pub use scheme::{Scheme, SchemeId};
pub use swap::swap_warning;
pub use template::{Bits, Probe, Template};
pub use wipe::wipe_stack;
