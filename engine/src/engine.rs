//! The engine: the pipeline that makes templates, and the gallery that keeps them.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::gallery::collection::{Collection, CollectionInfo, IndexKind};
use crate::gallery::load::LoadReport;
use crate::gallery::{Background, Gallery};
use crate::people::protectors::Protectors;
use likeness_faces::calibration::{Calibration, Scoring};
use likeness_faces::pipeline::Pipeline;
use likeness_faces::quality::QualityLevel;
use likeness_store::keys::store::{KeyStore, KeyStoreLock};
use likeness_store::keys::{KeyRing, Purpose};
use likeness_store::retention::Registry;
use likeness_store::{directory, upgrade};
use likeness_types::Inside;
use likeness_types::config::{Limits, ScoreLimits};
use likeness_types::error::Result;
use likeness_types::memory::MemoryBudget;
use likeness_types::names::CollectionName;
use likeness_types::template::Bits;

/// Files that the engine keeps open beside its records: slots, logs and their anchors, keys.
const OWN_DESCRIPTORS_MAX: usize = 32;
/// The most file descriptors that an engine takes.
pub const DESCRIPTORS_MAX: usize = likeness_store::records::DESCRIPTORS_MAX + OWN_DESCRIPTORS_MAX;
/// Most people one search returns.
pub const TOP_K_MAX: usize = 100;
/// Most faces of one photograph that are looked for at once.
pub const QUERY_FACES_MAX: usize = 10;
/// Most collections of one search.
pub const COLLECTIONS_MAX: usize = 100;
/// Most items on a page of a listing.
pub const PAGE_ITEMS_MAX: usize = 1000;

/// Where everything lies, and how much of it there may be.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The data directory.
    pub data: PathBuf,
    /// The key store, ideally on another device.
    pub keys: KeyStore,
    /// The models and, if they are not the default ones, their manifest.
    pub models: PathBuf,
    /// ONNX Runtime's shared library.
    pub runtime: PathBuf,
    /// Limits on photographs and faces.
    pub limits: Limits,
    /// What callers may learn of enrolled faces.
    pub scores: ScoreLimits,
    /// Photographs in work at once.
    pub workers: usize,
    /// The server's log warns of a running log that is larger.
    pub running_log_bytes_warning: u64,
    /// Start although the erasure log is shorter than its anchor; that is then written into the log.
    pub accept_short_log: bool,
    /// Start although the audit log does not reach its anchor; that is then written into the log.
    pub accept_short_audit_log: bool,
}

/// A collection that a call works on. It stays valid when the collection is deleted meanwhile: calls
/// with it are then refused.
#[derive(Clone)]
pub struct CollectionRef(pub(crate) Arc<Collection>);

impl CollectionRef {
    /// What a client sees of it.
    pub fn info(&self) -> CollectionInfo {
        self.0.info()
    }

    /// The threshold for calls that name none.
    pub fn threshold(&self) -> f32 {
        self.0.settings.read().threshold
    }

    /// What faces must pass in calls that name no level.
    pub fn quality_level(&self) -> QualityLevel {
        self.0.settings.read().quality_level
    }

    /// What its templates depend on, for people.
    pub fn scheme(&self) -> String {
        self.0.scheme.to_string()
    }

    /// Its name.
    pub fn name(&self) -> &CollectionName {
        &self.0.name
    }

    /// How a photograph is compared with one of its templates.
    pub fn scoring(&self) -> Scoring {
        Scoring::Probe(self.0.scheme.bits)
    }

    /// How two of its templates are compared.
    pub fn stored_scoring(&self) -> Scoring {
        Scoring::Stored(self.0.scheme.bits)
    }

    /// How a photograph is compared with all templates of a person together.
    pub fn fused_scoring(&self) -> Scoring {
        Scoring::Fused(self.0.scheme.bits)
    }

    /// Faces that a search compares with.
    pub fn faces(&self) -> usize {
        self.0.people.read().index.len()
    }
}

/// Settings of a new collection; what is `None` takes the default.
#[derive(Debug, Clone, Default)]
pub struct NewCollection {
    /// Default: 1024 bits.
    pub bits: Option<Bits>,
    /// Default: the embedder's similarity at a false accept rate of 1e-4.
    pub threshold: Option<f32>,
    /// Default: the most that is allowed.
    pub faces_per_person_max: Option<u32>,
    /// Default: none.
    pub quality_level: QualityLevel,
    /// Default: flat.
    pub index: IndexKind,
    /// Default: [`crate::EF_DEFAULT`].
    pub ef: Option<u32>,
    /// Whether nobody is enrolled without a consent.
    pub consent_required: bool,
}

/// What is to change of a collection's settings; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct CollectionChange {
    /// The threshold.
    pub threshold: Option<f32>,
    /// Faces a person may have. Who has more keeps them.
    pub faces_per_person_max: Option<u32>,
    /// What faces must pass from now on.
    pub quality_level: Option<QualityLevel>,
    /// How it is searched; another kind is made of the faces in memory, and searches wait until it is.
    pub index: Option<IndexKind>,
    /// Candidates that a search of a graph keeps.
    pub ef: Option<u32>,
    /// Whether nobody is enrolled without a consent from now on.
    pub consent_required: Option<bool>,
}

/// Everything a deployment holds.
pub struct Engine {
    pub(crate) pipeline: Pipeline,
    pub(crate) gallery: Gallery,
    pub(crate) scores: ScoreLimits,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) store: KeyStore,
    pub(crate) rotating: Mutex<()>,
    pub(crate) _lock: KeyStoreLock,
    pub(crate) protectors: Protectors,
    pub(crate) memory: MemoryBudget,
}

impl Engine {
    /// Opens keys, models and data, and rebuilds the indexes.
    ///
    /// # Errors
    /// Only what the operator can mend; each names what was expected and what was found.
    pub fn open(config: &EngineConfig) -> Result<(Self, LoadReport)> {
        // ORDER: before any key is read, so that what parsing them leaves behind is overwritten too.
        likeness_types::wipe::overwrite_what_is_freed();
        let lock = config.keys.lock(Inside)?;
        let ring = Arc::new(config.keys.open(Inside)?);
        let pipeline = Pipeline::load(
            &config.models,
            &config.runtime,
            config.limits.clone(),
            config.workers,
        )?;
        // ORDER: after the models, so that a start that fails for them changes nothing.
        upgrade::upgrade(&config.data, config.keys.directory(), &ring)?;
        let background = Background {
            log_bytes_warning: config.running_log_bytes_warning,
            scores: config.scores.clone(),
            accept_short_audit_log: config.accept_short_audit_log,
            ..Background::default()
        };
        let (gallery, report) = Gallery::open(
            |counters| {
                let (keys, short) = (config.keys.directory(), config.accept_short_log);
                directory::open(&config.data, keys, Arc::clone(&ring), short, counters)
            },
            background,
        )?;
        let engine = Self {
            pipeline,
            gallery,
            scores: config.scores.clone(),
            ring,
            store: config.keys.clone(),
            rotating: Mutex::new(()),
            _lock: lock,
            protectors: Protectors::default(),
            memory: config.limits.memory.clone(),
        };
        engine.administration().finish_closings()?;
        if engine.ring.all(Purpose::Signing).len() > 1 {
            engine.rotate_signing()?;
            tracing::info!("finished a rotation of the signing key");
        }
        Ok((engine, report))
    }

    /// What similarities of the embedder mean.
    pub fn calibration(&self) -> &Calibration {
        self.pipeline.calibration()
    }

    /// Where sweeps of data that lie outside the engine are registered, and how late each class is.
    pub fn retention(&self) -> &Registry {
        self.gallery.retention()
    }

    /// What photographs in work take together.
    pub fn work_memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// The similarity from which on faces count as one person's where nobody says otherwise: the one that
    /// the models' manifest states for a false accept rate of 1e-4.
    pub fn default_threshold(&self) -> f32 {
        self.pipeline.stated_rates().far_1e4
    }

    /// The embedder, where no collection is involved.
    pub fn models_name(&self) -> &str {
        &self.pipeline.scheme_parts().name
    }
}
