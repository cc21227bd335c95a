//! The byte layout of record keys and sealed records.
//!
//! ```text
//! person key      collection id 16 | digest of the PersonID 16
//! collection key  digest of the account and the collection's name 16
//! account key     digest of the account 16 | key id 16, zeros for the account itself
//! audit key       number of the entry 8, big endian
//! record          format u8 | slot u32 | data-key id 16 | generation u64 | scheme 16 | log id 16
//!                 | checksum 4 | nonce 24 | sealed
//! sealed          length u32 | contents | zeros up to a multiple of 512
//! ```
//!
//! The seal binds everything by which a record could be mistaken for another: format, kind, deployment, account,
//! collection, digest, data key, generation, scheme, and the id of the person's running log (zeros for a collection).
//! That id is in clear, so that an erasure finds the rows of a record that it cannot open. Only the slot names the
//! wrapping key, so that a rotation of that key changes no record. The checksum covers what stands before it: without
//! it a flipped bit could name another slot, and a damaged record would pass for an erased one.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::slots::DataKey;
use likeness_types::Inside;
use likeness_types::crypto;
use likeness_types::crypto::{NONCE_BYTES, Secret};
use likeness_types::names::{Account, FaceId, PersonId, RandomId};
use likeness_types::person::{Consent, KeptTemplate, LogKey, Person, Profile, StoredFace, Timestamp};
use likeness_types::scheme::SchemeId;
use likeness_types::template::Template;

/// Counts up when any byte below changes its meaning.
pub const FORMAT: u8 = 3;
const CHECKED_BYTES: usize = 1 + 4 + 16 + 8 + 16 + 16;
const CHECKSUM_BYTES: usize = 4;
const HEADER_BYTES: usize = CHECKED_BYTES + CHECKSUM_BYTES + NONCE_BYTES;
const PAD_BYTES: usize = 512;

pub use likeness_types::digest::Digest;

/// The key of a person's record.
pub fn person_key(collection: RandomId, digest: Digest) -> Vec<u8> {
    [collection.0, digest.0].concat()
}

/// What a record is, and to whom it belongs: bound by its seal.
pub struct Binding<'a> {
    /// The kind of record, such as "person".
    pub kind: &'static str,
    /// The deployment that the record belongs to.
    pub deployment: RandomId,
    /// Empty where the digest stands for it: of a collection, of an account and its keys.
    pub account: &'a str,
    /// The collection; zeros where it belongs to none.
    pub collection: RandomId,
    /// The digest of the record's name.
    pub digest: Digest,
}

impl<'a> Binding<'a> {
    /// Of a person's record.
    pub fn of_person(
        deployment: RandomId,
        account: &'a Account,
        collection: RandomId,
        digest: Digest,
    ) -> Self {
        Self {
            kind: "person",
            deployment,
            account: account.as_str(),
            collection,
            digest,
        }
    }
}

/// The clear part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The slot with the record's data key.
    pub slot: u32,
    /// The id of that data key.
    pub data_key: RandomId,
    /// Grows by one each time the record is written anew.
    pub generation: u64,
    /// The scheme of its templates.
    pub scheme: SchemeId,
    /// What the keys of the person's rows in the running log begin with.
    pub log: RandomId,
}

/// A record cannot be read; it says nothing about any other record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// A record whose clear part is whole: it was checked once.
pub struct Record<'a> {
    /// Its clear part.
    pub header: Header,
    nonce: [u8; NONCE_BYTES],
    sealed: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the clear part and checks it.
    pub fn parse(record: &'a [u8]) -> Result<Self, Unreadable> {
        let (head, sealed) = record.split_first_chunk::<HEADER_BYTES>().ok_or(Unreadable)?;
        let (checked, rest) = head.split_at(CHECKED_BYTES);
        let (sum, nonce) = rest.split_at(CHECKSUM_BYTES);
        if head[0] != FORMAT || sum != checksum(checked) {
            return Err(Unreadable);
        }
        let header = Header {
            slot: u32::from_le_bytes(checked[1..5].try_into().expect("four bytes")),
            data_key: RandomId(checked[5..21].try_into().expect("16 bytes")),
            generation: u64::from_le_bytes(checked[21..29].try_into().expect("8 bytes")),
            scheme: SchemeId(checked[29..45].try_into().expect("16 bytes")),
            log: RandomId(checked[45..61].try_into().expect("16 bytes")),
        };
        Ok(Self {
            header,
            nonce: nonce.try_into().expect("24 bytes"),
            sealed,
        })
    }
}

impl Header {
    /// Reads the clear part alone.
    pub fn parse(record: &[u8]) -> Result<Self, Unreadable> {
        Record::parse(record).map(|record| record.header)
    }

    fn bound(&self, binding: &Binding<'_>) -> Vec<u8> {
        crypto::length_prefixed(&[
            &[FORMAT],
            binding.kind.as_bytes(),
            &binding.deployment.0,
            binding.account.as_bytes(),
            &binding.collection.0,
            &binding.digest.0,
            &self.data_key.0,
            &self.generation.to_le_bytes(),
            &self.scheme.0,
            &self.log.0,
        ])
    }
}

/// Seals contents into a record.
pub(crate) fn seal(header: Header, key: &DataKey, binding: &Binding<'_>, contents: &[u8]) -> Vec<u8> {
    debug_assert_eq!(header.data_key, key.id, "a record names the key that seals it");
    let length = u32::try_from(contents.len()).expect("a record's limits keep it far below 4 GiB");
    let padded_bytes = (4 + contents.len()).next_multiple_of(PAD_BYTES);
    let mut padded = Zeroizing::new(Vec::with_capacity(padded_bytes));
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(contents);
    padded.resize(padded_bytes, 0);

    let nonce: [u8; NONCE_BYTES] = crypto::random();
    let sealed = crypto::seal(&key.secret, &nonce, &padded, &header.bound(binding));
    let mut record = Vec::with_capacity(HEADER_BYTES + sealed.len());
    record.push(FORMAT);
    record.extend_from_slice(&header.slot.to_le_bytes());
    record.extend_from_slice(&header.data_key.0);
    record.extend_from_slice(&header.generation.to_le_bytes());
    record.extend_from_slice(&header.scheme.0);
    record.extend_from_slice(&header.log.0);
    record.extend_from_slice(&checksum(&record));
    record.extend_from_slice(&nonce);
    record.extend_from_slice(&sealed);
    record
}

fn checksum(clear: &[u8]) -> [u8; CHECKSUM_BYTES] {
    *blake3::hash(clear)
        .as_bytes()
        .first_chunk()
        .expect("a digest is longer")
}

/// Opens what [`seal`] made.
pub(crate) fn open(
    record: &Record<'_>,
    key: &DataKey,
    binding: &Binding<'_>,
) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let bound = record.header.bound(binding);
    let opened = crypto::open(&key.secret, &record.nonce, record.sealed, &bound);
    let mut padded = opened.ok_or(Unreadable)?;
    let length = padded
        .first_chunk::<4>()
        .copied()
        .map(u32::from_le_bytes)
        .ok_or(Unreadable)?;
    let length = usize::try_from(length).map_err(|_| Unreadable)?;
    if padded.len() < 4 + length {
        return Err(Unreadable);
    }
    padded.copy_within(4..4 + length, 0);
    padded.truncate(length);
    Ok(padded)
}

#[derive(Serialize, Deserialize)]
struct PersonContents<'a> {
    id: &'a str,
    mark: [u8; 16],
    log_id: [u8; 16],
    log_secret: [u8; 32],
    name: &'a str,
    tags: Vec<&'a str>,
    consent: Option<ConsentContents<'a>>,
    enrolled_ms: u64,
    updated_ms: u64,
    expires_ms: Option<u64>,
    #[serde(borrow)]
    faces: Vec<FaceContents<'a>>,
}

#[derive(Serialize, Deserialize)]
struct ConsentContents<'a> {
    purpose: &'a str,
    given_ms: u64,
    of_age_or_parental: bool,
}

#[derive(Serialize, Deserialize)]
struct FaceContents<'a> {
    id: [u8; 16],
    enrolled_ms: u64,
    detection_score: f32,
    scheme: [u8; 16],
    template: &'a [u8],
}

impl Drop for PersonContents<'_> {
    fn drop(&mut self) {
        self.log_secret.zeroize();
    }
}

/// A person, ready to be sealed.
pub fn person_to_contents(person: &Person) -> Zeroizing<Vec<u8>> {
    let templates: Vec<_> = person
        .faces
        .iter()
        .map(|face| face.template.to_bytes(Inside))
        .collect();
    let contents = PersonContents {
        id: person.id.as_str(),
        mark: person.mark.0,
        log_id: person.log.id.0,
        log_secret: *person.log.secret(Inside).expose(),
        name: &person.profile.name,
        tags: person.profile.tags.iter().map(String::as_str).collect(),
        consent: person.profile.consent.as_ref().map(|c| ConsentContents {
            purpose: &c.purpose,
            given_ms: c.given.0,
            of_age_or_parental: c.of_age_or_parental,
        }),
        enrolled_ms: person.enrolled.0,
        updated_ms: person.updated.0,
        expires_ms: person.profile.expires.map(|expires| expires.0),
        faces: person
            .faces
            .iter()
            .zip(&templates)
            .map(|(face, template)| FaceContents {
                id: face.id.0.0,
                enrolled_ms: face.enrolled.0,
                detection_score: face.detection_score,
                scheme: face.scheme.0,
                template,
            })
            .collect(),
    };
    crypto::plain_bytes(&contents)
}

/// The person that [`person_to_contents`] wrote.
pub fn person_from_contents(contents: &[u8]) -> Result<Person, Unreadable> {
    let mut contents: PersonContents<'_> = postcard::from_bytes(contents).map_err(|_| Unreadable)?;
    let mut faces = Vec::with_capacity(contents.faces.len());
    for face in &contents.faces {
        faces.push(StoredFace {
            id: FaceId(RandomId(face.id)),
            enrolled: Timestamp(face.enrolled_ms),
            detection_score: face.detection_score,
            scheme: SchemeId(face.scheme),
            template: KeptTemplate::new(Template::from_bytes(face.template).ok_or(Unreadable)?),
        });
    }
    Ok(Person {
        id: PersonId::parse(contents.id).map_err(|_| Unreadable)?,
        mark: RandomId(contents.mark),
        log: LogKey::kept(RandomId(contents.log_id), Secret::take(&mut contents.log_secret)),
        profile: Profile {
            name: contents.name.to_owned(),
            tags: contents.tags.iter().map(|t| (*t).to_owned()).collect(),
            consent: contents.consent.take().map(|c| Consent {
                purpose: c.purpose.to_owned(),
                given: Timestamp(c.given_ms),
                of_age_or_parental: c.of_age_or_parental,
            }),
            expires: contents.expires_ms.map(Timestamp),
        },
        enrolled: Timestamp(contents.enrolled_ms),
        updated: Timestamp(contents.updated_ms),
        faces,
    })
}

/// Bytes to plain values.
pub fn from_contents<'a, T: Deserialize<'a>>(contents: &'a [u8]) -> Result<T, Unreadable> {
    postcard::from_bytes(contents).map_err(|_| Unreadable)
}

/// The same of contents that more may come behind.
pub fn first_of_contents<'a, T: Deserialize<'a>>(contents: &'a [u8]) -> Result<(T, &'a [u8]), Unreadable> {
    postcard::take_from_bytes(contents).map_err(|_| Unreadable)
}
