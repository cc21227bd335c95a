//! The slot file: one place of 128 bytes for each data key, overwritten in place to destroy the key.
//!
//! A delete in an LSM tree is a note that a row was deleted; its bytes stay as long as the data files do. A record is
//! therefore readable only with a random data key of its own. That key lies here, wrapped, in a place that can be
//! overwritten and synced. This does not reach copies of the file, and storage that does not overwrite in place (flash,
//! copy-on-write, snapshots).
//!
//! ```text
//! slot 0     "likeness-slots" | format u32 | deployment 16 | turns begun u64 | turns done u64 | zeros | checksum 4
//! slot n     format u32 | wrapping-key id 16 | data-key id 16 | nonce 24 | wrapped key 48
//!            | commitment 16 | checksum 4                        all zeros: empty
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::keys::{KeyRing, Purpose};
use likeness_types::crypto;
use likeness_types::crypto::{NONCE_BYTES, Secret, TAG_BYTES};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

/// Bytes of a slot; a divisor of every sector size, so that a slot is never torn by a crash.
pub const SLOT_BYTES: usize = 128;
/// The file grows by this many slots at a time (512 KiB).
const GROW_SLOTS: u32 = 4096;
const FORMAT: u32 = 1;
const MAGIC: &[u8; 14] = b"likeness-slots";
const WRAPPED_BYTES: usize = 32 + TAG_BYTES;
const COMMITMENT_BYTES: usize = 16;
/// Where a slot says which secret it holds, whatever its name.
pub const COMMITTED: Range<usize> = 108..108 + COMMITMENT_BYTES;
const CHECKED_BYTES: usize = SLOT_BYTES - 4;

pub(crate) type SlotImage = [u8; SLOT_BYTES];
/// What an overwritten slot holds.
pub const EMPTY: SlotImage = [0; SLOT_BYTES];
/// What a slot holds that was lost with the end of the file: damaged, and not erased.
const LOST: SlotImage = [u8::MAX; SLOT_BYTES];

/// The key that seals one record, and nothing else.
pub(crate) struct DataKey {
    /// What the erasure log knows it by. A key that takes another's place may have the same: then whoever is erased is so
    /// in older copies of the data too.
    pub id: RandomId,
    pub secret: Secret,
}

impl DataKey {
    pub(crate) fn new() -> Self {
        Self::of(RandomId::random())
    }

    /// A new secret by this name.
    pub(crate) fn of(id: RandomId) -> Self {
        Self {
            id,
            secret: Secret::random(),
        }
    }
}

/// Every slot at one moment, still wrapped: for a start, which opens every record there is.
pub struct AtRest {
    images: Vec<SlotImage>,
    /// Slots that are not empty, the header among them: about as many as there are records.
    pub used: usize,
}

/// Why a slot gave no data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotError {
    /// Overwritten, never used, or used by another record since: what pointed here is erased.
    Erased,
    /// The bytes are damaged.
    Damaged,
}

/// What a rotation does with a slot.
pub(crate) enum Rewrapped {
    /// Empty, or under the newest key already.
    Not,
    /// Damaged.
    Unreadable,
    /// What it will hold.
    As(SlotImage),
}

/// The disk below the slots. The second implementation drops unsynced writes, in the crash tests.
pub trait SlotBytes: Send + Sync {
    /// The length in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Fills `bytes` from this offset on, in bytes.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes at this offset, in bytes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns only when every earlier write would survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

impl SlotBytes for File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Opens or makes the slot file itself, private to its owner.
pub fn open_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| OperatorError::file("opening the slot file", path, e).into())
}

/// How often slots were changed together with records. A commit writes the slots, then the records, each with the
/// number of its turn: records and slots of different moments do not agree on it. Zeros in a file from before turns
/// were counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// The last turn with slots written; its records may be missing.
    pub begun: u64,
    /// The last turn with records that are known to be written.
    pub done: u64,
}

/// Where the header has them.
const TURNS_BEGUN: Range<usize> = 34..42;
const TURNS_DONE: Range<usize> = 42..50;

impl Turns {
    fn of(header: &SlotImage) -> Self {
        let number = |at: Range<usize>| u64::from_le_bytes(header[at].try_into().expect("eight bytes"));
        Self {
            begun: number(TURNS_BEGUN),
            done: number(TURNS_DONE),
        }
    }
}

/// All slots of a deployment.
pub struct Slots {
    bytes: Box<dyn SlotBytes>,
    ring: Arc<KeyRing>,
    /// As the header has them. Only the writer counts on.
    turns: Mutex<Turns>,
    /// Empty slots, the next one last. Only the writer takes from it.
    free: Mutex<Vec<u32>>,
}

impl Slots {
    /// Opens the slots, making the header of a new file.
    ///
    /// # Errors
    /// Another format version, another deployment's file, or i/o.
    pub fn open(bytes: Box<dyn SlotBytes>, ring: Arc<KeyRing>) -> Result<Self> {
        let slots = Self {
            bytes,
            ring,
            turns: Mutex::new(Turns::default()),
            free: Mutex::new(Vec::new()),
        };
        // A file shorter than its header is a first start that was cut short: nothing was kept yet.
        if slots.file_length()? < SLOT_BYTES as u64 {
            slots.write(&[(0, slots.header(Turns::default()))])?;
        } else {
            *slots.turns.lock() = slots.checked_turns()?;
        }
        Ok(slots)
    }

    fn header(&self, turns: Turns) -> SlotImage {
        let mut image = EMPTY;
        image[..14].copy_from_slice(MAGIC);
        image[14..18].copy_from_slice(&FORMAT.to_le_bytes());
        image[18..34].copy_from_slice(&self.ring.deployment.0);
        image[TURNS_BEGUN].copy_from_slice(&turns.begun.to_le_bytes());
        image[TURNS_DONE].copy_from_slice(&turns.done.to_le_bytes());
        with_checksum(image)
    }

    fn checked_turns(&self) -> Result<Turns> {
        let found = self.read(0)?;
        let turns = Turns::of(&found);
        if found == self.header(turns) {
            return Ok(turns);
        }
        let (what, expected, found) = if found[..14] != *MAGIC || found != with_checksum(found) {
            (
                "slot file",
                "a slot file".to_owned(),
                "a damaged header, or another file".to_owned(),
            )
        } else if found[14..18] != FORMAT.to_le_bytes() {
            let version = u32::from_le_bytes(found[14..18].try_into().expect("four bytes"));
            (
                "slot file",
                format!("format {FORMAT}"),
                format!("format {version}"),
            )
        } else {
            let theirs = crypto::hex(&found[18..34]);
            (
                "slot file",
                format!("deployment {}", self.ring.deployment),
                format!("deployment {theirs}"),
            )
        };
        Err(OperatorError::Format {
            what,
            expected,
            found,
        }
        .into())
    }

    /// How many slots the file has, the header included.
    pub fn count(&self) -> Result<u32> {
        let count = self.file_length()? / SLOT_BYTES as u64;
        u32::try_from(count).map_err(|_| {
            OperatorError::Format {
                what: "slot file",
                expected: "at most 2^32 slots".to_owned(),
                found: format!("{count} slots"),
            }
            .into()
        })
    }

    fn file_length(&self) -> Result<u64> {
        self.bytes
            .size_bytes()
            .map_err(|e| failed("measuring the slot file", e))
    }

    fn read(&self, slot: u32) -> Result<SlotImage> {
        let mut image = EMPTY;
        self.bytes
            .read_at(offset(slot), &mut image)
            .map_err(|e| failed("reading a slot", e))?;
        Ok(image)
    }

    /// Visits every slot after the header that is not empty, with the id of the data key it should hold.
    pub(crate) fn each_used(&self, mut visit: impl FnMut(u32, RandomId)) -> Result<()> {
        let count = self.count()?;
        let mut buffer = vec![0; GROW_SLOTS as usize * SLOT_BYTES];
        let mut first = 0;
        while first < count {
            let here = (count - first).min(GROW_SLOTS);
            let chunk = &mut buffer[..here as usize * SLOT_BYTES];
            self.bytes
                .read_at(offset(first), chunk)
                .map_err(|e| failed("reading the slot file", e))?;
            for (slot, image) in (first..).zip(chunk.chunks_exact(SLOT_BYTES)) {
                if slot != 0 && image != EMPTY {
                    visit(slot, RandomId(image[20..36].try_into().expect("16 bytes")));
                }
            }
            first += here;
        }
        Ok(())
    }

    /// Whether any slot holds a key.
    pub(crate) fn is_any_used(&self) -> Result<bool> {
        let mut used = false;
        self.each_used(|_, _| used = true)?;
        Ok(used)
    }

    /// Declares which slots may be given out; called once, after the records were read.
    pub(crate) fn set_free(&self, used: &dyn Fn(u32) -> bool) -> Result<()> {
        let free = (1..self.count()?).rev().filter(|slot| !used(*slot)).collect();
        *self.free.lock() = free;
        Ok(())
    }

    /// An empty slot, growing the file when none is left.
    pub(crate) fn allocate(&self) -> Result<u32> {
        let mut free = self.free.lock();
        if free.is_empty() {
            let count = self.count()?;
            let end = count
                .checked_add(GROW_SLOTS)
                .ok_or_else(|| failed("growing the slot file", io::Error::other("2^32 slots are in use")))?;
            let zeros = vec![0; GROW_SLOTS as usize * SLOT_BYTES];
            self.bytes
                .write_at(offset(count), &zeros)
                .map_err(|e| failed("growing the slot file", e))?;
            free.extend((count..end).rev());
        }
        Ok(free.pop().expect("just filled"))
    }

    /// Gives back slots that are empty on disk.
    pub fn release(&self, slots: impl IntoIterator<Item = u32>) {
        self.free.lock().extend(slots);
    }

    /// Writes all images, then syncs once.
    pub fn write(&self, images: &[(u32, SlotImage)]) -> Result<()> {
        for (slot, image) in images {
            self.bytes
                .write_at(offset(*slot), image)
                .map_err(|e| failed("writing a slot", e))?;
        }
        self.bytes.sync().map_err(|e| failed("syncing the slot file", e))
    }

    /// The turns that the header has.
    pub fn turns(&self) -> Turns {
        *self.turns.lock()
    }

    /// Writes the slots of the next turn, and answers its number, which the records of the turn carry; one sync.
    ///
    /// Only after the records of the turn before are durable.
    pub fn begin_turn(&self, images: &[(u32, SlotImage)]) -> Result<u64> {
        let mut turns = self.turns.lock();
        let next = Turns {
            begun: turns.begun + 1,
            done: turns.begun,
        };
        let mut all = vec![(0, self.header(next))];
        all.extend_from_slice(images);
        self.write(&all)?;
        *turns = next;
        Ok(next.begun)
    }

    /// Says in the header that the records of the last turn are durable, unless it says so already.
    pub fn settle_turn(&self) -> Result<()> {
        let mut turns = self.turns.lock();
        if turns.done == turns.begun {
            return Ok(());
        }
        let settled = Turns {
            done: turns.begun,
            ..*turns
        };
        self.write(&[(0, self.header(settled))])?;
        *turns = settled;
        Ok(())
    }

    /// What a slot holds when it holds this data key.
    pub(crate) fn wrap(&self, slot: u32, key: &DataKey) -> SlotImage {
        let wrapping = self.ring.wrapping();
        let nonce: [u8; NONCE_BYTES] = crypto::random();
        let bound = self.bound(slot, key.id);
        let wrapped = crypto::seal(&wrapping.secret, &nonce, key.secret.expose(), &bound);
        let mut image = EMPTY;
        image[..4].copy_from_slice(&FORMAT.to_le_bytes());
        image[4..20].copy_from_slice(&wrapping.id.0);
        image[20..36].copy_from_slice(&key.id.0);
        image[36..60].copy_from_slice(&nonce);
        image[60..108].copy_from_slice(&wrapped);
        image[COMMITTED].copy_from_slice(&crypto::commitment::<COMMITMENT_BYTES>(&key.secret));
        with_checksum(image)
    }

    /// The data key `id`, which a record says lies in `slot`.
    ///
    /// # Errors
    /// I/o, or a whole slot whose wrapping key is not in the ring: not damage, but a keyring older
    /// than the data, which a start refuses.
    pub(crate) fn data_key(&self, slot: u32, id: RandomId) -> Result<Result<DataKey, SlotError>> {
        // The file only grows, so a place past its end was lost with a part of the file.
        if slot == 0 || slot >= self.count()? {
            return Ok(Err(SlotError::Damaged));
        }
        match self.unwrap_image(slot, &self.read(slot)?, id)? {
            // A reader may see a slot half overwritten; a moment later it is whole again.
            Err(SlotError::Damaged) => self.unwrap_image(slot, &self.read(slot)?, id),
            outcome => Ok(outcome),
        }
    }

    /// The whole file as it is now; only while nothing writes it.
    pub(crate) fn at_rest(&self) -> Result<AtRest> {
        let count = self.count()?;
        let (mut images, mut used) = (vec![EMPTY; count as usize], 0);
        for (part, first) in images
            .chunks_mut(GROW_SLOTS as usize)
            .zip((0..).step_by(GROW_SLOTS as usize))
        {
            self.bytes
                .read_at(offset(first), part.as_flattened_mut())
                .map_err(|e| failed("reading the slot file", e))?;
            used += part.iter().filter(|image| **image != EMPTY).count();
        }
        Ok(AtRest { images, used })
    }

    /// [`Self::data_key`] without a read of the file for each; what looks damaged is read again.
    pub(crate) fn data_key_at_rest(
        &self,
        at_rest: &AtRest,
        slot: u32,
        id: RandomId,
    ) -> Result<Result<DataKey, SlotError>> {
        let image = at_rest.images.get(slot as usize).filter(|_| slot != 0);
        match image
            .map(|image| self.unwrap_image(slot, image, id))
            .transpose()?
        {
            None | Some(Err(SlotError::Damaged)) => self.data_key(slot, id),
            Some(outcome) => Ok(outcome),
        }
    }

    /// Whether to erase the key `id` means to empty this slot: it holds that key, or a damaged one.
    /// The file's header and other people's keys are never anyone's to empty.
    pub fn holds(&self, slot: u32, id: RandomId) -> Result<bool> {
        if slot == 0 || slot >= self.count()? {
            return Ok(false);
        }
        let image = self.read(slot)?;
        Ok(image != EMPTY && (image[20..36] == id.0 || image != with_checksum(image)))
    }

    /// The slot as it is under the newest wrapping key.
    pub(crate) fn rewrapped(&self, slot: u32, newest: RandomId) -> Result<Rewrapped> {
        let image = self.read(slot)?;
        if image == EMPTY || (image == with_checksum(image) && image[4..20] == newest.0) {
            return Ok(Rewrapped::Not);
        }
        let id = RandomId(image[20..36].try_into().expect("16 bytes"));
        Ok(match self.unwrap_image(slot, &image, id)? {
            Ok(key) => Rewrapped::As(self.wrap(slot, &key)),
            Err(_) => Rewrapped::Unreadable,
        })
    }

    /// What a slot holds; nothing where there is none.
    pub fn image(&self, slot: u32) -> Result<SlotImage> {
        if slot == 0 || slot >= self.count()? {
            return Ok(EMPTY);
        }
        self.read(slot)
    }

    /// What a slot says its key is committed to.
    pub fn commitment(&self, slot: u32) -> Result<[u8; COMMITMENT_BYTES]> {
        let image = self.read(slot)?;
        Ok(image[COMMITTED].try_into().expect("16 bytes"))
    }

    /// Marks those of the slots that were lost with the end of the file: once it grows again they
    /// would look erased, and their people with them.
    pub(crate) fn mark_lost(&self, named: impl Iterator<Item = u32>) -> Result<()> {
        let count = self.count()?;
        let lost: Vec<_> = named
            .filter(|slot| *slot >= count)
            .map(|slot| (slot, LOST))
            .collect();
        if lost.is_empty() {
            Ok(())
        } else {
            self.write(&lost)
        }
    }

    fn unwrap_image(&self, slot: u32, image: &SlotImage, id: RandomId) -> Result<Result<DataKey, SlotError>> {
        if *image == EMPTY {
            return Ok(Err(SlotError::Erased));
        }
        if *image != with_checksum(*image) || image[..4] != FORMAT.to_le_bytes() {
            return Ok(Err(SlotError::Damaged));
        }
        if image[20..36] != id.0 {
            return Ok(Err(SlotError::Erased));
        }
        let wrapping_id = RandomId(image[4..20].try_into().expect("16 bytes"));
        let wrapping = self.ring.by_id(Purpose::Wrapping, wrapping_id);
        let wrapping = wrapping.ok_or_else(|| OperatorError::Keys {
            what: "wrapping key",
            expected: wrapping_id.to_string(),
            found: "a keyring without it".to_owned(),
        })?;
        Ok(self.unwrap_under(&wrapping.secret, slot, image, id))
    }

    fn unwrap_under(
        &self,
        wrapping: &Secret,
        slot: u32,
        image: &SlotImage,
        id: RandomId,
    ) -> Result<DataKey, SlotError> {
        let nonce = image[36..60].try_into().expect("24 bytes");
        let wrapped = &image[60..60 + WRAPPED_BYTES];
        let plain = crypto::open(wrapping, nonce, wrapped, &self.bound(slot, id));
        let plain = plain.ok_or(SlotError::Damaged)?;
        let mut bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| SlotError::Damaged)?;
        let key = DataKey {
            id,
            secret: Secret::take(&mut bytes),
        };
        if image[COMMITTED] != crypto::commitment::<COMMITMENT_BYTES>(&key.secret) {
            return Err(SlotError::Damaged);
        }
        Ok(key)
    }

    /// A wrapped key opens only in its own deployment, slot and under its own id.
    fn bound(&self, slot: u32, id: RandomId) -> Vec<u8> {
        crypto::length_prefixed(&[
            b"likeness slot",
            &FORMAT.to_le_bytes(),
            &self.ring.deployment.0,
            &slot.to_le_bytes(),
            &id.0,
        ])
    }
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * SLOT_BYTES as u64
}

fn with_checksum(mut image: SlotImage) -> SlotImage {
    let digest = blake3::hash(&image[..CHECKED_BYTES]);
    image[CHECKED_BYTES..].copy_from_slice(&digest.as_bytes()[..4]);
    image
}

fn failed(doing: &'static str, error: io::Error) -> likeness_types::error::Error {
    OperatorError::Store {
        doing,
        detail: error.to_string(),
    }
    .into()
}
