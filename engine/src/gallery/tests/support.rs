//! Faces of bits, galleries on any disk, and everything a client can see of one.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::access_log::entry::{CallOrigin, Entry};
use crate::access_log::row::Part;
use crate::access_log::usage::Charge;
use crate::gallery::collection::{Collection, CollectionSettings};
use crate::gallery::load::LoadReport;
use crate::gallery::{Background, Gallery};
use crate::guard::comparison_limiter::Asker;
use crate::guard::comparison_limiter::PersonCounters;
use crate::guard::idempotency::key::{Caller, Once};
use crate::search::Asking;
use crate::search::filter::Filter;
use crate::search::{Comparison, Match, Query, Search};
use likeness_store::audit::anchor::Anchor;
use likeness_store::directory;
use likeness_store::erasure_log::{ErasureFiles, ErasureLog};
use likeness_store::keys::KeyRing;
use likeness_store::slots::{SlotBytes, Slots};
use likeness_store::testing::{FakeDisk, FakeFile, Name};
use likeness_store::vault::Vault;
use likeness_types::Inside;
use likeness_types::clock::Clock;
use likeness_types::config::ScoreLimits;
use likeness_types::crypto::Secret;
use likeness_types::error::Result;
use likeness_types::names::{Account, CollectionName, FaceId, PersonId, RandomId, Token};
use likeness_types::person::{NewFace, Person, Profile, Timestamp};
use likeness_types::scheme::{Scheme, SchemeId};
use likeness_types::template::{Bits, Probe, Template};

pub const BITS: Bits = Bits::B256;

/// Numbers that look random and are the same for the same seed.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub fn ring() -> Arc<KeyRing> {
    Arc::new(KeyRing::generate())
}

pub fn open(disk: &FakeDisk, ring: &Arc<KeyRing>) -> Result<(Gallery, LoadReport)> {
    open_accepting(disk, ring, false)
}

/// What is never reached in a test: there purges happen when the test says so.
pub const NEVER: Duration = Duration::from_secs(3600);

/// Somebody who is told everything.
pub fn asking() -> Asking {
    Asking {
        similarity_min: -1.0,
        told_below: true,
        asker: Asker::new(&Secret::take(&mut [0; 32]), RandomId::default()),
    }
}

/// Nothing happens beside the calls but when the test says so.
pub fn background(clock: Clock) -> Background {
    Background {
        gather: NEVER,
        look: NEVER,
        #[cfg(feature = "graph")]
        keep: NEVER,
        log_bytes_warning: u64::MAX,
        scores: ScoreLimits::none(),
        accept_short_audit_log: false,
        clock,
    }
}

/// With the operator's word on a short erasure log.
pub fn open_accepting(disk: &FakeDisk, ring: &Arc<KeyRing>, short: bool) -> Result<(Gallery, LoadReport)> {
    open_with_slots(disk, Box::new(FakeFile(disk.clone(), Name::Slots)), ring, short)
}

/// With another view of the slots.
pub fn open_with_slots(
    disk: &FakeDisk,
    slots: Box<dyn SlotBytes>,
    ring: &Arc<KeyRing>,
    short: bool,
) -> Result<(Gallery, LoadReport)> {
    open_by(disk, slots, ring, short, Clock::System)
}

/// At a time of the test's own.
pub fn open_at_time(disk: &FakeDisk, ring: &Arc<KeyRing>, clock: &Arc<AtomicU64>) -> Gallery {
    let slots = Box::new(FakeFile(disk.clone(), Name::Slots));
    open_by(disk, slots, ring, false, Clock::Set(Arc::clone(clock)))
        .expect("the disk opens")
        .0
}

/// With everything that a test may want otherwise.
pub fn open_by(
    disk: &FakeDisk,
    slots: Box<dyn SlotBytes>,
    ring: &Arc<KeyRing>,
    short: bool,
    clock: Clock,
) -> Result<(Gallery, LoadReport)> {
    Gallery::open(
        |counters| vault_of(disk, slots, ring, short, counters),
        background(clock),
    )
}

/// Counters of a directory that is not served.
pub fn no_counters() -> Arc<PersonCounters> {
    Arc::new(PersonCounters::new(ScoreLimits::default(), Clock::System))
}

/// What a gallery is opened on.
pub fn vault_of(
    disk: &FakeDisk,
    slots: Box<dyn SlotBytes>,
    ring: &Arc<KeyRing>,
    short: bool,
    counters: Arc<PersonCounters>,
) -> Result<(Vault, HashSet<RandomId>)> {
    let file = |name| FakeFile(disk.clone(), name);
    let slots = Slots::open(slots, Arc::clone(ring))?;
    let files = ErasureFiles {
        local: Box::new(file(Name::Log)),
        copy: Box::new(file(Name::Copy)),
        anchor: Box::new(file(Name::Anchor)),
    };
    let (log, destroyed) = ErasureLog::open(files, ring, short)?;
    let audit_anchor = Anchor::open(Box::new(file(Name::AuditAnchor)), ring)?;
    let vault = Vault::new(
        Box::new(disk.clone()),
        slots,
        log,
        audit_anchor,
        Arc::clone(ring),
        counters,
    );
    Ok((vault, destroyed))
}

/// A call that is about to be logged.
pub fn entry(gallery: &Gallery, interface: &'static str) -> Entry {
    let origin = CallOrigin {
        account: account(),
        sub_account: "a-key".to_owned(),
        client: "192.0.2.7".to_owned(),
        region: "test".into(),
        interface,
        received: Timestamp::now(),
    };
    Entry::begin(Arc::clone(gallery.running.sink()), REQUEST, origin)
}

/// Notes somebody in a call.
pub fn note(gallery: &Gallery, entry: &mut Entry, collection: &Arc<Collection>, who: &str, part: Part) {
    let person = gallery.person(collection, &id(who)).expect("enrolled");
    let place = gallery.record_key(collection, &person.id);
    entry.note(place, &person.log, &collection.name, &person.id, part);
}

/// A call about somebody, carried out and written.
pub fn logged(gallery: &Gallery, collection: &Arc<Collection>, who: &str) {
    let mut entry = entry(gallery, "GetPerson");
    note(gallery, &mut entry, collection, who, Part::Subject);
    entry.end("OK", Charge::Billed);
    drop(entry);
    gallery.running.flush();
}

/// Somebody's rows, by interface.
pub fn rows(gallery: &Gallery, collection: &Arc<Collection>, who: &str) -> Vec<String> {
    let person = gallery.person(collection, &id(who)).expect("enrolled");
    let page = gallery.rows_of(&person, None, 1000).expect("read");
    assert_eq!((page.damaged, page.next), (0, None));
    page.items.into_iter().map(|row| row.interface).collect()
}

/// Opens a disk on which nothing is wrong.
pub fn opened(disk: &FakeDisk, ring: &Arc<KeyRing>) -> Gallery {
    open(disk, ring).expect("the disk opens").0
}

/// Opens a real data directory; the erasure log's other half lies beside it.
pub fn open_at(data: &Path, ring: &Arc<KeyRing>) -> Result<(Gallery, LoadReport)> {
    open_at_by(data, ring, background(Clock::System))
}

/// With purges that gather erasures for so long, or [`NEVER`] happen.
pub fn open_purging_at(data: &Path, ring: &Arc<KeyRing>, gather: Duration) -> Result<(Gallery, LoadReport)> {
    let background = Background {
        gather,
        ..background(Clock::System)
    };
    open_at_by(data, ring, background)
}

/// With other goings-on beside the calls.
pub fn open_at_by(data: &Path, ring: &Arc<KeyRing>, background: Background) -> Result<(Gallery, LoadReport)> {
    let keys = keys_of(data);
    std::fs::create_dir_all(&keys).expect("made");
    Gallery::open(
        |counters| directory::open(data, &keys, Arc::clone(ring), false, counters),
        background,
    )
}

/// Where [`open_at`] keeps the erasure log's copy and anchor.
pub fn keys_of(data: &Path) -> PathBuf {
    data.with_file_name("keys")
}

/// Opens a real data directory in which nothing is wrong.
pub fn opened_at(data: &Path, ring: &Arc<KeyRing>) -> Gallery {
    open_at(data, ring).expect("the directory opens").0
}

/// The call that asks, in every test.
pub const REQUEST: RandomId = RandomId([7; 16]);

/// A call under a token; `payload` stands for what it says.
pub fn under(interface: &'static str, token: &str, payload: u8) -> Caller {
    let token = Token::parse("idempotency_token", token).expect("allowed");
    Caller {
        request: REQUEST,
        once: Some(Arc::new(Once::new(account(), interface, token, [payload; 32]))),
    }
}

pub fn account() -> Account {
    Account::default()
}

pub fn name(text: &str) -> CollectionName {
    CollectionName::parse(text).expect("allowed")
}

pub fn id(text: &str) -> PersonId {
    PersonId::parse(text).expect("allowed")
}

/// The scheme of every face here; the key's id need not be in the ring.
pub fn scheme() -> Scheme {
    Scheme {
        models: [1; 32],
        models_name: "test".to_owned(),
        bits: BITS,
        projection: RandomId([2; 16]),
    }
}

pub fn scheme_id() -> SchemeId {
    scheme().id()
}

pub fn settings() -> CollectionSettings {
    CollectionSettings {
        bits: BITS,
        threshold: 0.5,
        faces_per_person_max: 20,
        quality_level: crate::QualityLevel::Medium,
        index: crate::IndexKind::Flat,
        ef: crate::EF_DEFAULT,
        consent_required: false,
    }
}

pub fn create(gallery: &Gallery, text: &str) -> Arc<Collection> {
    gallery
        .create_collection(&account(), &name(text), scheme(), settings(), REQUEST)
        .expect("created")
}

pub fn create_of(gallery: &Gallery, text: &str, index: crate::IndexKind) -> Arc<Collection> {
    let settings = CollectionSettings { index, ..settings() };
    gallery
        .create_collection(&account(), &name(text), scheme(), settings, REQUEST)
        .expect("created")
}

pub fn collection(gallery: &Gallery, text: &str) -> Arc<Collection> {
    gallery.collection(&account(), &name(text)).expect("it exists")
}

/// The template of face `n`: unlike that of any other.
pub fn template(n: u64) -> Template {
    let mut numbers = Numbers(n.wrapping_mul(0x0123_4567_89ab_cdef));
    let words: Vec<u64> = (0..BITS.words()).map(|_| numbers.next()).collect();
    Template::from_words(words.into_iter())
}

pub fn face_id(n: u64) -> FaceId {
    FaceId(RandomId((u128::from(n) + 1).to_be_bytes()))
}

pub fn face(n: u64) -> NewFace {
    let mut new = NewFace::new(template(n), scheme_id(), 0.9);
    new.id = face_id(n);
    new
}

/// What finds a template with similarity 1.
pub fn probe_of(template: &Template) -> Probe {
    let bytes = template.to_bytes(Inside);
    let values = (0..bytes.len() * 8).map(|i| {
        if bytes[i / 8] >> (i % 8) & 1 == 1 {
            100
        } else {
            -100
        }
    });
    Probe::from_values(&values.collect::<Vec<_>>())
}

pub fn query_of(template: &Template) -> Query {
    Query {
        probes: vec![(scheme_id(), Arc::new(probe_of(template)))],
    }
}

impl Gallery {
    /// One face in one collection, by the best face of each person.
    pub fn search(
        &self,
        collection: &Arc<Collection>,
        query: &Query,
        k: usize,
        similarity_min: f32,
    ) -> Result<Vec<Match>> {
        let found = self.search_batched(&Search {
            places: &[(Arc::clone(collection), similarity_min)],
            queries: std::slice::from_ref(query),
            k,
            comparison: Comparison::BestFace,
            filter: &Filter::default(),
            exact: false,
            asker: asking().asker,
        })?;
        Ok(found.matches.into_iter().next().expect("one answer"))
    }
}

pub fn query(n: u64) -> Query {
    query_of(&template(n))
}

pub fn profile(name: &str, tags: &[&str]) -> Profile {
    Profile {
        name: name.to_owned(),
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        ..Profile::default()
    }
}

pub fn enroll(gallery: &Gallery, collection: &Arc<Collection>, who: &str, faces: &[u64]) -> Result<Person> {
    let faces = faces.iter().map(|n| face(*n)).collect();
    gallery.enroll(collection, &id(who), profile(who, &["tag"]), faces, REQUEST)
}

/// The error of a call that must fail.
pub fn refused<T>(outcome: Result<T>) -> crate::Error {
    outcome.err().expect("must be refused")
}

/// Who is found by face `n`, at a similarity that only the same face has.
pub fn found(gallery: &Gallery, collection: &Arc<Collection>, n: u64) -> Vec<String> {
    let matches = gallery
        .search(collection, &query(n), 5, 0.99)
        .expect("searches work");
    matches.iter().map(|m| m.person.id.as_str().to_owned()).collect()
}

/// What a client sees of a person, times apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonView {
    pub name: String,
    pub tags: Vec<String>,
    pub expires: Option<Timestamp>,
    /// By id, with the bits.
    pub faces: BTreeMap<FaceId, Vec<u8>>,
}

impl PersonView {
    pub fn of(person: &Person) -> Self {
        Self {
            name: person.profile.name.clone(),
            tags: person.profile.tags.clone(),
            expires: person.profile.expires,
            faces: person
                .faces
                .iter()
                .map(|f| (f.id, f.template.to_bytes(Inside).to_vec()))
                .collect(),
        }
    }
}

/// What a client sees of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionView {
    pub threshold: f32,
    pub faces_per_person_max: u32,
    pub people: BTreeMap<String, PersonView>,
}

pub type View = BTreeMap<String, CollectionView>;

/// Everything a client can see, with the ways to see it compared: listing, reading, searching, counts.
pub fn view(gallery: &Gallery) -> View {
    let infos = gallery.list_collections(&account(), None, 1000, &|_| true);
    assert!(infos.next.is_none());
    infos
        .items
        .into_iter()
        .map(|info| {
            let collection = collection(gallery, info.name.as_str());
            let people = people(gallery, &collection);
            assert_eq!(info.persons, people.len(), "counted and listed are the same");
            assert_eq!(info.damaged, 0);
            let faces: usize = people.values().map(|p| p.faces.len()).sum();
            assert_eq!(info.faces, faces, "every face can be found, and no other");
            let view = CollectionView {
                threshold: info.settings.threshold,
                faces_per_person_max: info.settings.faces_per_person_max,
                people,
            };
            (info.name.as_str().to_owned(), view)
        })
        .collect()
}

fn people(gallery: &Gallery, collection: &Arc<Collection>) -> BTreeMap<String, PersonView> {
    let mut people = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = gallery
            .list(collection, cursor.as_deref(), 3)
            .expect("listings work");
        assert_eq!(page.damaged, 0);
        assert!(page.items.len() <= 3);
        for person in &page.items {
            let who = person.id.as_str().to_owned();
            let read = gallery
                .person(collection, &person.id)
                .expect("who is listed is there");
            assert!(PersonView::of(&read) == PersonView::of(person));
            for face in &person.faces {
                let query = query_of(face.template.any());
                let matches = gallery
                    .search(collection, &query, 1, 0.99)
                    .expect("searches work");
                assert_eq!(matches.len(), 1);
                assert_eq!(matches[0].person.id, person.id, "each is found by each face");
            }
            let clash = people.insert(who, PersonView::of(person));
            assert!(clash.is_none(), "nobody is listed twice");
        }
        cursor = page.next;
        if cursor.is_none() {
            return people;
        }
    }
}

/// Copies a folder, with the folders in it.
pub fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().expect("named"));
        match path.is_dir() {
            true => copy_all(&path, &target)?,
            false => drop(std::fs::copy(&path, &target)?),
        }
    }
    Ok(())
}

/// Copies a folder with an open store as a kill leaves it: all of one moment, though the store rewrites files by itself.
pub fn copy_as_killed(from: &Path, to: &Path) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let before = listing(from);
        let is_copied = copy_all(from, to).is_ok();
        if is_copied && before.is_ok_and(|before| listing(from).is_ok_and(|after| after == before)) {
            return;
        }
        assert!(std::time::Instant::now() < until, "the store does not rest");
        std::fs::remove_dir_all(to).expect("removed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every file, with its length and when it was written last.
fn listing(folder: &Path) -> std::io::Result<Vec<(PathBuf, u64, std::time::SystemTime)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let about = std::fs::metadata(&path)?;
        match about.is_dir() {
            true => files.extend(listing(&path)?),
            false => files.push((path, about.len(), about.modified()?)),
        }
    }
    files.sort();
    Ok(files)
}
