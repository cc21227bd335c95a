//! One collection in memory: its settings, and the people who can be found in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::gallery::expiries::Expiries;
use crate::gallery::readers::Readers;
#[cfg(feature = "graph")]
use crate::gallery::shadow::Shadow;
use likeness_faces::quality::QualityLevel;
use likeness_search::batcher::SearchBatcher;
use likeness_search::graph::Graph;
pub use likeness_search::index::{EF_DEFAULT, EF_RANGE, IndexKind};
use likeness_search::index::{Index, Row};
use likeness_search::multi_face::Several;
use likeness_search::person_table::PersonTable;
use likeness_search::rows::Rows;
use likeness_search::tags::Tags;
use likeness_store::codec;
use likeness_store::codec::{Binding, Digest, Unreadable};
use likeness_types::Inside;
use likeness_types::crypto;
use likeness_types::error::{RequestError, Result};
use likeness_types::fused::Agreement;
use likeness_types::names::{Account, CollectionName, RandomId};
use likeness_types::person::{Names, Person, Timestamp};
use likeness_types::scheme::Scheme;
use likeness_types::template::Bits;

pub(crate) type Collections = BTreeMap<(Account, CollectionName), Arc<Collection>>;

pub(crate) fn exists(collection: &Collection) -> Result<()> {
    if collection.is_deleted() {
        return Err(RequestError::NoCollection.into());
    }
    Ok(())
}

/// Most faces a collection may allow a person.
pub const FACES_PER_PERSON_MAX: u32 = 20;

/// What a collection is made with.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionSettings {
    /// Template size; cannot be changed later.
    pub bits: Bits,
    /// Similarity (0 to 1, a cosine) at and above which two faces count as one person's, where a call
    /// names none.
    pub threshold: f32,
    /// Faces a person may have, 1 to [`FACES_PER_PERSON_MAX`].
    pub faces_per_person_max: u32,
    /// What new faces and searches must pass, where a call names no level.
    pub quality_level: QualityLevel,
    /// How it is searched.
    pub index: IndexKind,
    /// Candidates that a search of a graph keeps, within [`EF_RANGE`]: the more, the slower and the surer.
    pub ef: u32,
    /// Nobody is enrolled without a consent that says who is of age or whose parents agreed.
    pub consent_required: bool,
}

impl CollectionSettings {
    pub(crate) fn checked(self) -> Result<Self> {
        if !(0.0..=1.0).contains(&self.threshold) {
            let received = self.threshold.to_string();
            return Err(RequestError::invalid("threshold", "a similarity from 0 to 1", received).into());
        }
        if !(1..=FACES_PER_PERSON_MAX).contains(&self.faces_per_person_max) {
            let expected = format!("1 to {FACES_PER_PERSON_MAX}");
            let received = self.faces_per_person_max.to_string();
            return Err(RequestError::invalid("faces_per_person_max", expected, received).into());
        }
        if !EF_RANGE.contains(&self.ef) {
            let expected = format!("{} to {}", EF_RANGE.start(), EF_RANGE.end());
            return Err(RequestError::invalid("ef", expected, self.ef.to_string()).into());
        }
        Ok(self)
    }
}

/// A collection as a client sees it.
#[derive(Debug, Clone)]
pub struct CollectionInfo {
    /// Its name.
    pub name: CollectionName,
    /// Its settings.
    pub settings: CollectionSettings,
    /// When it was made.
    pub created: Timestamp,
    /// What its templates depend on.
    pub scheme: String,
    /// People in it, damaged ones included.
    pub persons: usize,
    /// Faces that can be found.
    pub faces: usize,
    /// People whose records cannot be read.
    pub damaged: usize,
}

/// One collection.
pub(crate) struct Collection {
    pub account: Account,
    pub name: CollectionName,
    pub digest: Digest,
    pub id: RandomId,
    pub scheme: Scheme,
    pub created: Timestamp,
    pub settings: RwLock<CollectionSettings>,
    pub people: RwLock<People>,
    /// Set by the writer when the collection goes; whoever still holds it then finds it gone.
    deleted: AtomicBool,
    /// Counts the changes of the index since the start.
    generation: AtomicU64,
    /// Replies that are being built from it.
    pub readers: Readers,
    /// Searches that look through it.
    pub batcher: SearchBatcher,
    /// Graphs that went, overwritten, until somebody drops them whom it does not hold up.
    left: Mutex<Vec<Graph>>,
}

impl Collection {
    /// The number of the latest change of the index.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The number of the next change of the index.
    pub fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub fn new(
        account: Account,
        name: CollectionName,
        digest: Digest,
        scheme: Scheme,
        settings: CollectionSettings,
    ) -> Self {
        let people = People::new(&settings);
        Self {
            account,
            name,
            digest,
            id: RandomId::random(),
            scheme,
            created: Timestamp::now(),
            settings: RwLock::new(settings),
            people: RwLock::new(people),
            deleted: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            readers: Readers::default(),
            batcher: SearchBatcher::default(),
            left: Mutex::default(),
        }
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Overwrites every face in memory, and lets nobody in any more.
    pub fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        let nobody = People::new(&self.settings.read());
        // With its own lock let go, for a graph takes long.
        let everybody = std::mem::replace(&mut *self.people.write(), nobody);
        self.leave(everybody.index);
        #[cfg(feature = "graph")]
        if let Some(shadow) = everybody.shadow {
            self.leave(shadow.index);
        }
    }

    /// Takes other settings; another kind of index is made here, and nobody is found meanwhile.
    pub fn set_settings(&self, settings: CollectionSettings) {
        let before = self.people.write().set_index(&settings);
        *self.settings.write() = settings;
        if let Some(index) = before {
            self.leave(index);
        }
    }

    /// Overwrites an index that goes. The links of a graph are so many that dropping them takes seconds, and changes of
    /// every collection would wait: they are left to the keeper, or go with the collection.
    fn leave(&self, index: Index) {
        let left = index.wiped();
        self.left.lock().extend(left);
    }

    /// What is left of graphs that went.
    #[cfg(feature = "graph")]
    #[must_use = "dropping a graph takes long: let no lock be held"]
    pub fn take_left(&self) -> Vec<Graph> {
        std::mem::take(&mut *self.left.lock())
    }

    /// People, damaged ones included, and faces that can be found.
    pub fn count(&self) -> (usize, usize) {
        let people = self.people.read();
        (people.numbers.len() + people.damaged.len(), people.index.len())
    }

    pub fn info(&self) -> CollectionInfo {
        let (persons, faces) = self.count();
        let people = self.people.read();
        CollectionInfo {
            name: self.name.clone(),
            settings: self.settings.read().clone(),
            created: self.created,
            scheme: self.scheme.to_string(),
            persons,
            faces,
            damaged: people.damaged.len(),
        }
    }

    /// What a person's record of this collection is bound to.
    pub fn person_binding(&self, deployment: RandomId, digest: Digest) -> Binding<'_> {
        Binding::of_person(deployment, &self.account, self.id, digest)
    }
}

/// The people of a collection who can be found, and where the index has their faces.
pub(crate) struct People {
    pub numbers: PersonTable,
    damaged: HashSet<Digest>,
    /// How often anybody came, changed or went since the start.
    pub changes: u64,
    pub expiries: Expiries,
    /// Renames under way: whoever was seen under the first is to be found under the second.
    pub renames: HashMap<Digest, Digest>,
    pub index: Index,
    /// Where it has faces of photographs; the others came as features.
    photographs: Rows,
    /// Made for a measurement, and there as long as it lasts.
    #[cfg(feature = "graph")]
    pub shadow: Option<Shadow>,
    /// How far the faces agree of those who have several.
    pub several: Several,
    pub tags: Tags,
}

impl People {
    pub fn new(settings: &CollectionSettings) -> Self {
        Self {
            numbers: PersonTable::default(),
            damaged: HashSet::new(),
            changes: 0,
            expiries: Expiries::default(),
            renames: HashMap::new(),
            index: Index::new(settings.bits, settings.index, settings.ef),
            photographs: Rows::default(),
            #[cfg(feature = "graph")]
            shadow: None,
            several: Several::default(),
            tags: Tags::empty(),
        }
    }

    /// Moves every face into an index of another kind, and answers the one before; or tells the one there is of
    /// another `ef`.
    #[must_use = "dropping a graph takes long: let no lock be held"]
    fn set_index(&mut self, settings: &CollectionSettings) -> Option<Index> {
        if self.index.is_graph() == settings.index.is_graph() {
            self.index.set_ef(settings.ef);
            return None;
        }
        let mut index = Index::new(settings.bits, settings.index, settings.ef);
        let (own, before, mut photographs) = (&self.index, &self.photographs, Rows::default());
        self.numbers.relocate(|number, row| {
            let seat = index.insert(number, &own.moved(row));
            if before.has(row) {
                photographs.insert(seat);
            }
            seat
        });
        self.photographs = photographs;
        Some(std::mem::replace(&mut self.index, index))
    }

    /// Makes exactly this person's faces findable under `digest`, whatever was there before.
    pub fn set(&mut self, digest: Digest, person: &Person, scheme: &Scheme) {
        self.remove(digest);
        let number = self.numbers.next();
        let comparable = person.faces.iter().filter(|face| face.scheme == scheme.id());
        let (mut rows, mut templates) = (Vec::new(), Vec::new());
        for face in comparable {
            let row = self.index.insert(number, face.template.indexed(Inside));
            if Names::Photographs.may_name(face) {
                self.photographs.insert(row);
            }
            rows.push(row);
            templates.push(face.template.indexed(Inside));
        }
        if templates.len() > 1 {
            self.several.set(number, Agreement::of(&templates));
        }
        self.tags.set(number, &person.profile.tags);
        self.numbers.insert(digest, rows);
        self.expiries.set(digest, person.profile.expires);
    }

    /// Overwrites the person's bits in the index and forgets the person.
    pub fn remove(&mut self, digest: Digest) {
        self.changes += 1;
        self.damaged.remove(&digest);
        self.expiries.set(digest, None);
        let Some((number, rows)) = self.numbers.remove(digest) else {
            return;
        };
        for row in rows {
            self.index.remove(row);
            self.photographs.remove(row);
        }
        #[cfg(feature = "graph")]
        if let Some(shadow) = &mut self.shadow {
            shadow.remove(number);
        }
        self.several.remove(number);
        self.tags.remove(number);
    }

    pub fn set_damaged(&mut self, digest: Digest) {
        // What was known before the damage still holds: whoever is due is erased, readable or not.
        let expires = self.expiries.of(digest);
        self.remove(digest);
        self.expiries.set(digest, expires);
        self.damaged.insert(digest);
    }

    pub fn digest(&self, number: u32) -> Digest {
        self.numbers.digest(number)
    }

    /// The number of somebody who can be found.
    pub fn number(&self, digest: Digest) -> Option<u32> {
        self.numbers.of(digest)
    }

    /// Where the index has a person's faces.
    pub fn rows(&self, number: u32) -> &[Row] {
        self.numbers.rows(number)
    }

    /// Whether a search for people who are enrolled twice may name the face of this row.
    pub fn may_name(&self, row: Row, names: Names) -> bool {
        names == Names::Features || self.photographs.has(row)
    }

    /// The rows that such a search looks at; none for all.
    pub fn nameable(&self, names: Names) -> Option<&Rows> {
        let all = names == Names::Features || self.photographs.len() == self.index.len();
        (!all).then_some(&self.photographs)
    }

    /// Everybody who can be found, in no order.
    pub fn everybody(&self) -> impl ExactSizeIterator<Item = (Digest, u32)> {
        self.numbers.iter()
    }
}

#[derive(Serialize, Deserialize)]
struct Contents<'a> {
    account: &'a str,
    name: &'a str,
    id: [u8; 16],
    created_ms: u64,
    bits: u32,
    threshold: f32,
    faces_per_person_max: u32,
    quality_level: u8,
    models: [u8; 32],
    models_name: &'a str,
    projection: [u8; 16],
    index: u8,
    ef: u32,
    consent_required: bool,
}

impl Collection {
    /// The collection with these settings, ready to be sealed.
    pub fn to_contents(&self, settings: &CollectionSettings) -> zeroize::Zeroizing<Vec<u8>> {
        crypto::plain_bytes(&Contents {
            account: self.account.as_str(),
            name: self.name.as_str(),
            id: self.id.0,
            created_ms: self.created.0,
            bits: u32::try_from(settings.bits.get()).expect("at most 2048"),
            threshold: settings.threshold,
            faces_per_person_max: settings.faces_per_person_max,
            quality_level: settings.quality_level.number(),
            models: self.scheme.models,
            models_name: &self.scheme.models_name,
            projection: self.scheme.projection.0,
            index: settings.index.number(),
            ef: settings.ef,
            consent_required: settings.consent_required,
        })
    }

    /// The collection that [`Self::to_contents`] wrote, without its people.
    pub fn from_contents(digest: Digest, contents: &[u8]) -> Result<Self, Unreadable> {
        let contents: Contents<'_> = codec::from_contents(contents)?;
        let bits = Bits::parse(contents.bits).map_err(|_| Unreadable)?;
        let settings = CollectionSettings {
            bits,
            threshold: contents.threshold,
            faces_per_person_max: contents.faces_per_person_max,
            quality_level: QualityLevel::numbered(contents.quality_level).ok_or(Unreadable)?,
            index: IndexKind::numbered(contents.index).ok_or(Unreadable)?,
            ef: contents.ef,
            consent_required: contents.consent_required,
        };
        Ok(Self {
            account: Account::parse(contents.account).map_err(|_| Unreadable)?,
            name: CollectionName::parse(contents.name).map_err(|_| Unreadable)?,
            digest,
            id: RandomId(contents.id),
            scheme: Scheme {
                models: contents.models,
                models_name: contents.models_name.to_owned(),
                bits,
                projection: RandomId(contents.projection),
            },
            created: Timestamp(contents.created_ms),
            people: RwLock::new(People::new(&settings)),
            settings: RwLock::new(settings),
            deleted: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            readers: Readers::default(),
            batcher: SearchBatcher::default(),
            left: Mutex::default(),
        })
    }
}
