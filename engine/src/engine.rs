//! The engine: the pipeline that makes templates, and the gallery that keeps them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::call::{Call, Step};
use crate::config::Limits;
use crate::embedding::Embedding;
use crate::error::{OperatorError, RequestError, Result};
use crate::gallery::collection::{Collection, CollectionInfo, CollectionSettings};
use crate::gallery::erasures::Backlog;
use crate::gallery::{
    CollectionErasure, ErasureReceipt, Footprint, Gallery, LoadReport, Match, Page, PersonErasure,
    ProfileChange, Query, Rotation, directory, purge,
};
use crate::keys::store::{KeyStore, KeyStoreLock};
use crate::keys::{KeyRing, Purpose};
use crate::manifest::Calibration;
use crate::names::{Account, CollectionName, FaceId, PersonId, RandomId};
use crate::person::{NewFace, Person, Profile};
use crate::pipeline::protect::Protector;
use crate::pipeline::{Choose, Detection, Face, Pipeline};
use crate::scheme::Scheme;
use crate::template::Bits;

/// Most people one search returns.
pub const TOP_K_MAX: usize = 100;
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
    /// Photographs in work at once.
    pub workers: usize,
    /// Start although the erasure log is shorter than its anchor; that is then written into the log.
    pub accept_short_log: bool,
}

/// A collection that a call works on. It stays valid when the collection is deleted meanwhile: calls
/// with it are then refused.
#[derive(Clone)]
pub struct CollectionRef(Arc<Collection>);

impl CollectionRef {
    /// What a client sees of it.
    pub fn info(&self) -> CollectionInfo {
        self.0.info()
    }

    /// The threshold for calls that name none.
    pub fn threshold(&self) -> f32 {
        self.0.settings.read().threshold
    }

    /// What its templates depend on, for people.
    pub fn scheme(&self) -> String {
        self.0.scheme.to_string()
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
}

/// Everything a deployment holds.
pub struct Engine {
    pipeline: Pipeline,
    gallery: Gallery,
    ring: Arc<KeyRing>,
    store: KeyStore,
    rotating: Mutex<()>,
    _lock: KeyStoreLock,
    /// By the projection key's id.
    protectors: HashMap<RandomId, Protector>,
}

impl Engine {
    /// Opens keys, models and data, and rebuilds the indexes.
    ///
    /// # Errors
    /// Only what the operator can mend; each names what was expected and what was found.
    pub fn open(config: &EngineConfig) -> Result<(Self, LoadReport)> {
        // ORDER: before any key is read, so that what parsing them leaves behind is overwritten too.
        crate::wipe::overwrite_what_is_freed();
        let lock = config.keys.lock()?;
        let ring = Arc::new(config.keys.open()?);
        let pipeline = Pipeline::load(
            &config.models,
            &config.runtime,
            config.limits.clone(),
            config.workers,
        )?;
        let (vault, destroyed) = directory::open(
            &config.data,
            config.keys.directory(),
            Arc::clone(&ring),
            config.accept_short_log,
        )?;
        let (gallery, report) = Gallery::open(vault, &destroyed, purge::GATHER)?;
        let protectors = ring
            .all(Purpose::Projection)
            .iter()
            .map(|key| (key.id, Protector::new(key.secret.expose(), pipeline.dim())))
            .collect();
        let engine = Self {
            pipeline,
            gallery,
            ring,
            store: config.keys.clone(),
            rotating: Mutex::new(()),
            _lock: lock,
            protectors,
        };
        Ok((engine, report))
    }

    /// The embedder's thresholds.
    pub fn calibration(&self) -> Calibration {
        self.pipeline.calibration()
    }

    /// The embedder, where no collection is involved.
    pub fn models_name(&self) -> &str {
        &self.pipeline.scheme_parts().name
    }

    // --- Collections

    /// Makes an empty collection.
    ///
    /// # Errors
    /// The name is taken, or a setting is out of its range.
    pub fn create_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        new: &NewCollection,
        call: &mut Call,
    ) -> Result<CollectionRef> {
        let settings = CollectionSettings {
            bits: new.bits.unwrap_or_default(),
            threshold: new.threshold.unwrap_or(self.calibration().far_1e4),
            faces_per_person_max: new
                .faces_per_person_max
                .unwrap_or(crate::gallery::collection::FACES_PER_PERSON_MAX),
        }
        .checked()?;
        let group = account.as_str();
        let projection = self.ring.projection(group).ok_or_else(|| OperatorError::Keys {
            what: "projection key",
            expected: "a key group for the account".to_owned(),
            found: "none in the keyring".to_owned(),
        })?;
        let models = self.pipeline.scheme_parts();
        let scheme = Scheme {
            models: models.digest,
            models_name: models.name.clone(),
            bits: settings.bits,
            projection: projection.id,
        };
        call.step(Step::Store, || {
            self.gallery
                .create_collection(account, name, scheme, settings)
                .map(CollectionRef)
        })
    }

    /// The collection of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn collection(&self, account: &Account, name: &CollectionName) -> Result<CollectionRef> {
        self.gallery.collection(account, name).map(CollectionRef)
    }

    /// The collections of an account by name, beginning after `after`.
    pub fn list_collections(
        &self,
        account: &Account,
        after: Option<&CollectionName>,
        items_max: usize,
    ) -> Page<CollectionInfo> {
        self.gallery
            .list_collections(account, after, items_max.clamp(1, PAGE_ITEMS_MAX))
    }

    /// Changes threshold or faces per person; `None` leaves them.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn update_collection(
        &self,
        collection: &CollectionRef,
        threshold: Option<f32>,
        faces_per_person_max: Option<u32>,
        call: &mut Call,
    ) -> Result<()> {
        call.step(Step::Store, || {
            self.gallery.update_collection(&collection.0, move |settings| {
                CollectionSettings {
                    threshold: threshold.unwrap_or(settings.threshold),
                    faces_per_person_max: faces_per_person_max.unwrap_or(settings.faces_per_person_max),
                    ..settings
                }
                .checked()
            })
        })
    }

    /// Erases a collection and everyone in it; answers how many people were.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn delete_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        call: &mut Call,
    ) -> Result<CollectionErasure> {
        let request = call.request();
        call.read();
        call.step(Step::Store, || {
            self.gallery.delete_collection(account, name, request)
        })
    }

    // --- Photographs

    /// All faces of a photograph; keeps nothing.
    ///
    /// # Errors
    /// A rejection of the photograph.
    pub fn detect(&self, photo: &[u8], call: &mut Call) -> Result<Detection> {
        self.pipeline.detect(photo, call)
    }

    /// The cosine of two faces, -1 to 1; keeps nothing.
    ///
    /// # Errors
    /// A rejection of either photograph.
    pub fn compare(
        &self,
        first: &[u8],
        second: &[u8],
        choose: Choose,
        call: &mut Call,
    ) -> Result<(f32, Face, Face)> {
        let (one, first) = self.pipeline.embedding(first, choose, call)?;
        let (other, second) = self.pipeline.embedding(second, choose, call)?;
        let cosine = call.step(Step::Match, || Ok(one.cosine(other)))?;
        Ok((cosine, first, second))
    }

    /// A photograph to a face that can be enrolled in this collection.
    ///
    /// # Errors
    /// A rejection of the photograph, or a collection of another scheme.
    pub fn new_face(
        &self,
        collection: &CollectionRef,
        photo: &[u8],
        choose: Choose,
        call: &mut Call,
    ) -> Result<(NewFace, Face)> {
        let protector = self.protector(collection)?;
        let (embedding, face) = self.pipeline.embedding(photo, choose, call)?;
        let new = call.step(Step::Protect, || {
            Ok(protect(protector, embedding, collection, face.score))
        })?;
        Ok((new, face))
    }

    /// A photograph to a face that can be looked for in this collection.
    ///
    /// # Errors
    /// A rejection of the photograph, or a collection of another scheme.
    pub fn query(
        &self,
        collection: &CollectionRef,
        photo: &[u8],
        choose: Choose,
        call: &mut Call,
    ) -> Result<(Query, Face)> {
        let protector = self.protector(collection)?;
        let (embedding, face) = self.pipeline.embedding(photo, choose, call)?;
        let scheme = &collection.0.scheme;
        let query = call.step(Step::Protect, || {
            Ok(Query {
                probe: protector.probe(embedding, scheme.bits),
                scheme: scheme.id(),
            })
        })?;
        Ok((query, face))
    }

    /// What protects features for this collection, if these models made the features in it.
    fn protector(&self, collection: &CollectionRef) -> Result<&Protector> {
        let scheme = &collection.0.scheme;
        let models = self.pipeline.scheme_parts();
        if scheme.models != models.digest {
            return Err(RequestError::SchemeMismatch {
                stored: scheme.to_string(),
                current: models.name.clone(),
            }
            .into());
        }
        self.protectors.get(&scheme.projection).ok_or_else(|| {
            OperatorError::Keys {
                what: "projection key",
                expected: scheme.projection.to_string(),
                found: "a keyring without it".to_owned(),
            }
            .into()
        })
    }

    // --- Persons

    /// Enrols a person; durable when it returns.
    ///
    /// # Errors
    /// The PersonID is taken, or the collection allows fewer faces.
    pub fn enroll(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        profile: Profile,
        faces: Vec<NewFace>,
        call: &mut Call,
    ) -> Result<Person> {
        let profile = profile.checked()?;
        call.reads(&collection.0.readers);
        call.step(Step::Store, || {
            self.gallery.enroll(&collection.0, id, profile, faces)
        })
    }

    /// Adds faces to a person; durable when it returns.
    ///
    /// # Errors
    /// Nobody has that PersonID, or the collection allows fewer faces.
    pub fn add_faces(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        faces: Vec<NewFace>,
        call: &mut Call,
    ) -> Result<Person> {
        call.reads(&collection.0.readers);
        call.step(Step::Store, || self.gallery.add_faces(&collection.0, id, faces))
    }

    /// One person.
    ///
    /// # Errors
    /// Nobody has that PersonID, or the record is damaged.
    pub fn person(&self, collection: &CollectionRef, id: &PersonId, call: &mut Call) -> Result<Person> {
        call.reads(&collection.0.readers);
        call.step(Step::Store, || self.gallery.person(&collection.0, id))
    }

    /// How much is kept of one person.
    ///
    /// # Errors
    /// Nobody has that PersonID.
    pub fn footprint(&self, collection: &CollectionRef, id: &PersonId) -> Result<Footprint> {
        self.gallery.footprint(&collection.0, id)
    }

    /// The people of a collection, a page at a time.
    ///
    /// # Errors
    /// A cursor that no page gave out.
    pub fn list_persons(
        &self,
        collection: &CollectionRef,
        cursor: Option<&str>,
        items_max: usize,
        call: &mut Call,
    ) -> Result<Page<Person>> {
        let items_max = items_max.clamp(1, PAGE_ITEMS_MAX);
        call.reads(&collection.0.readers);
        call.step(Step::Store, || {
            self.gallery.list(&collection.0, cursor, items_max)
        })
    }

    /// Changes a person's name or tags; what was replaced is no longer readable when it returns.
    ///
    /// # Errors
    /// Nobody has that PersonID, or a text is over its limit.
    pub fn update_person(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        change: ProfileChange,
        call: &mut Call,
    ) -> Result<Person> {
        call.read();
        let person = call.step(Step::Store, || self.gallery.update(&collection.0, id, change))?;
        call.reads(&collection.0.readers);
        self.gallery.still_there(&collection.0, id)?;
        Ok(person)
    }

    /// Deletes faces, but never a person's last; they are no longer readable when it returns.
    ///
    /// # Errors
    /// Nobody has that PersonID, a face does not exist, or none would be left.
    pub fn delete_faces(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        faces: Vec<FaceId>,
        call: &mut Call,
    ) -> Result<(Person, ErasureReceipt)> {
        let request = call.request();
        call.read();
        let reduced = call.step(Step::Store, || {
            self.gallery.delete_faces(&collection.0, id, faces, request)
        })?;
        call.reads(&collection.0.readers);
        self.gallery.still_there(&collection.0, id)?;
        Ok(reduced)
    }

    /// Erases a person; answers how many faces went. When it returns, the key of the record is
    /// overwritten and synced, the bits in memory are overwritten, and no later search finds the
    /// person. Not reached: backups, snapshots, and storage that does not overwrite in place.
    ///
    /// # Errors
    /// Nobody has that PersonID.
    pub fn delete_person(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<PersonErasure> {
        let request = call.request();
        call.read();
        call.step(Step::Store, || self.gallery.delete(&collection.0, id, request))
    }

    /// Erases everyone of this PersonID in every collection of an account; nobody is no error.
    ///
    /// # Errors
    /// The store failed; what is in no receipt was not erased.
    pub fn erase_everywhere(
        &self,
        account: &Account,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Vec<(CollectionName, PersonErasure)>> {
        let request = call.request();
        call.read();
        call.step(Step::Store, || {
            self.gallery.erase_everywhere(account, id, request)
        })
    }

    // --- Keys

    /// Wraps every data key under a new wrapping key, online, and destroys the old one; goes on with a
    /// rotation that was interrupted. `progress` is told how many slots are done, and how many there
    /// are. Records are not touched.
    ///
    /// # Errors
    /// The store or the key store failed; calling it again goes on.
    pub fn rotate_wrapping(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Rotation> {
        let _one_at_a_time = self.rotating.lock();
        self.gallery
            .rotate_wrapping(|ring| self.store.save(ring), progress)
    }

    /// Whether a rotation was interrupted.
    pub fn is_rotation_unfinished(&self) -> bool {
        self.ring.all(Purpose::Wrapping).len() > 1
    }

    /// Erases every collection of an account, and destroys the key that its templates were made with.
    /// Nobody can be enrolled under the account again.
    ///
    /// # Errors
    /// The store or the key store failed; calling it again goes on.
    pub fn destroy_key_group(&self, account: &Account, call: &mut Call) -> Result<Vec<CollectionErasure>> {
        let _one_at_a_time = self.rotating.lock();
        let request = call.request();
        let erased = call.step(Step::Store, || {
            self.gallery.delete_collections_of(account, request)
        })?;
        let without = self
            .ring
            .without(|key| key.purpose == Purpose::Projection && key.group == account.as_str());
        // ORDER: the people before the key: a crash between leaves a key without people.
        self.store.save(&without)?;
        self.ring.replace_by(&without);
        Ok(erased)
    }

    // --- Receipts

    /// Fingerprints of everything that is on disk of one person, for [`crate::residue::scan`] after the
    /// erasure. Nothing can be read from them; who changes later needs new ones.
    ///
    /// # Errors
    /// Nobody has that PersonID.
    pub fn prepare_residue_audit(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Vec<u8>> {
        call.step(Step::Store, || self.gallery.fingerprints(&collection.0, id))
    }

    /// What is erased and not yet purged.
    pub fn backlog(&self) -> Backlog {
        self.gallery.backlog()
    }

    /// Receipts in the erasure log.
    pub fn receipts(&self) -> u64 {
        self.gallery.receipts()
    }

    /// The bytes of one receipt, as [`crate::receipts::Receipt`] reads them.
    ///
    /// # Errors
    /// There is none of that number, or the log cannot be read.
    pub fn receipt(&self, sequence: u64) -> Result<Vec<u8>> {
        Ok(self.gallery.receipt(sequence)?.ok_or(RequestError::NoReceipt)?)
    }

    /// The latest signed checkpoint of the erasure log.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        self.gallery.checkpoint()
    }

    // --- Matching

    /// The nearest people at and above a similarity, best first; exact.
    ///
    /// # Errors
    /// A query of another scheme.
    pub fn search(
        &self,
        collection: &CollectionRef,
        query: &Query,
        top_k: usize,
        similarity_min: f32,
        call: &mut Call,
    ) -> Result<Vec<Match>> {
        let top_k = top_k.clamp(1, TOP_K_MAX);
        call.reads(&collection.0.readers);
        call.step(Step::Match, || {
            self.gallery.search(&collection.0, query, top_k, similarity_min)
        })
    }

    /// One person's similarity to a query: that of the best face.
    ///
    /// # Errors
    /// Nobody has that PersonID, or a query of another scheme.
    pub fn verify(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        query: &Query,
        call: &mut Call,
    ) -> Result<Match> {
        call.reads(&collection.0.readers);
        call.step(Step::Match, || self.gallery.verify(&collection.0, id, query))
    }
}

/// The plain features end here.
fn protect(protector: &Protector, embedding: Embedding, collection: &CollectionRef, score: f32) -> NewFace {
    let scheme = &collection.0.scheme;
    NewFace {
        id: FaceId::new(),
        template: protector.protect(embedding, scheme.bits),
        scheme: scheme.id(),
        detection_score: score,
    }
}
