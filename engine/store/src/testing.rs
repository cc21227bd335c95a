//! A disk in memory that keeps apart what was written and what was synced, and fails on demand.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::codec::Header;
use crate::erasure_log::LogFile;
use crate::records::{Change, DamagedFile, Extent, Family, Records, Scan, Visit, Write};
use crate::slots::{SLOT_BYTES, SlotBytes};
use likeness_types::error::{OperatorError, Result};

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has no effect; later ones work again.
    Fails,
    /// It fails though it had its effect; later ones work again.
    FailsLate,
    /// The power goes before it.
    Crash,
    /// The power goes after it, before anybody hears of it.
    CrashLate,
}

/// Where a record lies.
type Place = (Family, Vec<u8>);

/// The files that are written at places, apart from the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Slots,
    /// The erasure log.
    Log,
    /// Its copy in the key store.
    Copy,
    Anchor,
    /// The audit log's, in the key store too.
    AuditAnchor,
}

/// What was done to a file since its last sync.
#[derive(Clone)]
enum Unsynced {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Unsynced {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, new) => put(bytes, *offset, new),
            Self::Truncate(length) => bytes.truncate(usize::try_from(*length).expect("a small disk")),
        }
    }

    /// What is left when the power went while it was on its way: the length, and not all of the bytes.
    fn torn(&self) -> Self {
        match self {
            Self::Write(offset, new) => {
                let mut torn = new.clone();
                torn[new.len() / 2..].fill(0);
                Self::Write(*offset, torn)
            }
            truncate @ Self::Truncate(_) => truncate.clone(),
        }
    }
}

#[derive(Default, Clone)]
pub struct Bytes {
    /// What survives a power cut.
    pub durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// What a reader sees: the durable bytes under the unsynced ones.
    pub seen: Vec<u8>,
}

#[derive(Default, Clone)]
pub struct State {
    pub slots: Bytes,
    pub log: Bytes,
    pub copy: Bytes,
    pub anchor: Bytes,
    pub audit_anchor: Bytes,
    /// Every batch is synced, so these are what is seen and what survives.
    pub records: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
    /// Records that were deleted or replaced, and no purge has removed from the data files.
    pub stale: Vec<(Place, Vec<u8>)>,
    pub purges: usize,
    /// Operations so far: writes, truncations, syncs, record batches, purges, and reads if
    /// `reads_count`.
    pub operations: usize,
    pub reads_count: bool,
    pub syncs: usize,
    pub fault: Option<(usize, Fault)>,
    dead: bool,
    /// How long a sync takes.
    pub sync_takes: Duration,
}

impl State {
    pub fn bytes(&mut self, name: Name) -> &mut Bytes {
        match name {
            Name::Slots => &mut self.slots,
            Name::Log => &mut self.log,
            Name::Copy => &mut self.copy,
            Name::Anchor => &mut self.anchor,
            Name::AuditAnchor => &mut self.audit_anchor,
        }
    }
}

/// Slots, records and the erasure log; a clone is the same disk.
#[derive(Default, Clone)]
pub struct FakeDisk(pub Arc<Mutex<State>>);

/// One file of the disk.
pub struct FakeFile(pub FakeDisk, pub Name);

impl FakeDisk {
    /// The disk after the power came back: of the unsynced writes only those that `kept` names, by
    /// their number, have arrived.
    pub fn restarted(&self, kept: impl Fn(usize) -> bool) -> Self {
        self.restart(|number, write| kept(number).then(|| write.clone()))
    }

    /// The same, with every unsynced write of the log torn in the middle.
    pub fn restarted_torn(&self) -> Self {
        self.restart(|_, write| Some(write.torn()))
    }

    fn restart(&self, arrived: impl Fn(usize, &Unsynced) -> Option<Unsynced>) -> Self {
        let state = self.0.lock();
        let mut number = 0;
        let mut restart = |file: &Bytes, slots: bool| {
            let mut durable = file.durable.clone();
            for write in &file.unsynced {
                // A slot is smaller than a sector and never torn.
                let whole = arrived(number, write).map(|w| if slots { write.clone() } else { w });
                whole.iter().for_each(|write| write.apply(&mut durable));
                number += 1;
            }
            Bytes {
                seen: durable.clone(),
                durable,
                unsynced: Vec::new(),
            }
        };
        Self(Arc::new(Mutex::new(State {
            slots: restart(&state.slots, true),
            log: restart(&state.log, false),
            copy: restart(&state.copy, false),
            anchor: restart(&state.anchor, false),
            audit_anchor: restart(&state.audit_anchor, false),
            records: state.records.clone(),
            stale: state.stale.clone(),
            ..State::default()
        })))
    }

    pub fn operations(&self) -> usize {
        self.0.lock().operations
    }

    pub fn syncs(&self) -> usize {
        self.0.lock().syncs
    }

    /// Arms a fault `after` so many more operations.
    pub fn arm(&self, after: usize, fault: Fault) {
        let mut state = self.0.lock();
        state.fault = Some((state.operations + after, fault));
    }

    pub fn fault_was_reached(&self) -> bool {
        let state = self.0.lock();
        state.fault.is_some_and(|(at, _)| at < state.operations)
    }

    /// Nothing waits for a sync.
    pub fn is_durable(&self) -> bool {
        let state = self.0.lock();
        let files = [
            &state.slots,
            &state.log,
            &state.copy,
            &state.anchor,
            &state.audit_anchor,
        ];
        files.iter().all(|file| file.unsynced.is_empty())
    }

    /// Slots after the header that would not be empty after a power cut.
    pub fn used_slots(&self) -> Vec<usize> {
        let state = self.0.lock();
        let slots = state.slots.durable.chunks(SLOT_BYTES).enumerate().skip(1);
        slots
            .filter(|(_, slot)| slot.iter().any(|b| *b != 0))
            .map(|(n, _)| n)
            .collect()
    }

    /// Records that have a slot each.
    pub fn sealed_records(&self) -> usize {
        let state = self.0.lock();
        let places = state.records.keys();
        places
            .filter(|(family, _)| Family::SEALED.contains(family))
            .count()
    }

    /// Rows of the running log whose log no record names: there must be none.
    pub fn rows_of_nobody(&self) -> usize {
        let state = self.0.lock();
        let records = state
            .records
            .iter()
            .filter(|((family, _), _)| *family == Family::Persons);
        let logs: Vec<_> = records
            .filter_map(|(_, record)| Header::parse(record).ok())
            .map(|header| header.log)
            .collect();
        let rows = state
            .records
            .keys()
            .filter(|(family, _)| *family == Family::RunningLog);
        rows.filter(|(_, key)| !logs.iter().any(|log| key.starts_with(&log.0)))
            .count()
    }

    /// Rows of the running log that were deleted and are still in the data files.
    pub fn stale_rows(&self) -> usize {
        let state = self.0.lock();
        let stale = state.stale.iter();
        stale
            .filter(|((family, _), _)| *family == Family::RunningLog)
            .count()
    }

    pub fn slot(&self, slot: usize) -> Vec<u8> {
        self.0.lock().slots.durable[slot * SLOT_BYTES..][..SLOT_BYTES].to_vec()
    }

    pub fn flip_slot_bit(&self, slot: usize, bit: usize) {
        let mut state = self.0.lock();
        let at = slot * SLOT_BYTES + bit / 8;
        state.slots.durable[at] ^= 1 << (bit % 8);
        state.slots.seen[at] ^= 1 << (bit % 8);
    }

    pub fn flip_record_bit(&self, key: &(Family, Vec<u8>), bit: usize) {
        let mut state = self.0.lock();
        state.records.get_mut(key).expect("the record is there")[bit / 8] ^= 1 << (bit % 8);
    }

    pub fn truncate_slots(&self, slots: usize) {
        let mut state = self.0.lock();
        state.slots.durable.truncate(slots * SLOT_BYTES);
        state.slots.seen.truncate(slots * SLOT_BYTES);
    }

    pub fn empty_slot(&self, slot: usize) {
        let mut state = self.0.lock();
        state.slots.durable[slot * SLOT_BYTES..][..SLOT_BYTES].fill(0);
        state.slots.seen = state.slots.durable.clone();
    }

    /// Empties every slot but the header and this one.
    pub fn empty_slots_but(&self, kept: usize) {
        let mut state = self.0.lock();
        let slots = state.slots.durable.chunks_mut(SLOT_BYTES).enumerate().skip(1);
        slots
            .filter(|(n, _)| *n != kept)
            .for_each(|(_, slot)| slot.fill(0));
        state.slots.seen = state.slots.durable.clone();
    }

    pub fn keys(&self, family: Family) -> Vec<(Family, Vec<u8>)> {
        let state = self.0.lock();
        state
            .records
            .keys()
            .filter(|(f, _)| *f == family)
            .cloned()
            .collect()
    }

    fn operate<T>(&self, effect: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.0.lock();
        if state.dead {
            return Err(io::Error::other("the power is off"));
        }
        let n = state.operations;
        state.operations += 1;
        match state.fault {
            Some((at, fault)) if at == n => {
                if matches!(fault, Fault::FailsLate | Fault::CrashLate) {
                    effect(&mut state);
                }
                state.dead = matches!(fault, Fault::Crash | Fault::CrashLate);
                Err(io::Error::other("this operation fails"))
            }
            _ => Ok(effect(&mut state)),
        }
    }

    fn read<T>(&self, effect: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        if self.0.lock().reads_count {
            return self.operate(effect);
        }
        let mut state = self.0.lock();
        if state.dead {
            return Err(io::Error::other("the power is off"));
        }
        Ok(effect(&mut state))
    }
}

/// Whether a place is one of those that begin so.
fn begins(place: &Place, with: &Place) -> bool {
    place.0 == with.0 && place.1.starts_with(&with.1)
}

fn put(bytes: &mut Vec<u8>, offset: u64, new: &[u8]) {
    let offset = usize::try_from(offset).expect("a small disk");
    assert!(
        offset + new.len() < 64 << 20,
        "nothing is written far past the end"
    );
    if bytes.len() < offset + new.len() {
        bytes.resize(offset + new.len(), 0);
    }
    bytes[offset..offset + new.len()].copy_from_slice(new);
}

impl FakeFile {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        self.0.read(|state| state.bytes(self.1).seen.clone())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("a small disk");
        let range = offset..offset + bytes.len();
        let found = self
            .0
            .read(|state| state.bytes(self.1).seen.get(range).map(<[u8]>::to_vec))?;
        bytes.copy_from_slice(&found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn change(&self, change: Unsynced) -> io::Result<()> {
        self.0.operate(|state| {
            let file = state.bytes(self.1);
            change.apply(&mut file.seen);
            file.unsynced.push(change);
        })
    }

    fn sync(&self) -> io::Result<()> {
        let takes = self.0.0.lock().sync_takes;
        std::thread::sleep(takes);
        self.0.operate(|state| {
            state.syncs += 1;
            let file = state.bytes(self.1);
            for write in std::mem::take(&mut file.unsynced) {
                write.apply(&mut file.durable);
            }
        })
    }
}

impl SlotBytes for FakeFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.0.read(|state| state.bytes(self.1).seen.len() as u64)
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Unsynced::Write(offset, bytes.to_vec()))
    }
    fn sync(&self) -> io::Result<()> {
        Self::sync(self)
    }
}

impl LogFile for FakeFile {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        Self::read_all(self)
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Unsynced::Write(offset, bytes.to_vec()))
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.change(Unsynced::Truncate(length))
    }
    fn sync(&self) -> io::Result<()> {
        Self::sync(self)
    }
}

fn failed(error: io::Error) -> likeness_types::error::Error {
    OperatorError::Store {
        doing: "using the fake disk",
        detail: error.to_string(),
    }
    .into()
}

impl Records for FakeDisk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(|state| state.records.get(&(family, key.to_vec())).cloned())
            .map_err(failed)
    }

    fn ready(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, batch: Vec<Write>) -> Result<()> {
        let takes = self.0.lock().sync_takes;
        std::thread::sleep(takes);
        self.operate(|state| {
            state.syncs += 1;
            for Write { family, key, change } in batch {
                let place = (family, key);
                let old = match change {
                    Change::Put(value) => state.records.insert(place.clone(), value),
                    Change::Delete => state.records.remove(&place),
                    Change::DeleteAll => {
                        let all = state.records.extract_if(.., |other, _| begins(other, &place));
                        state.stale.extend(all);
                        continue;
                    }
                };
                // Numbers of commits and owners of receipts say nothing of a person, and are not purged.
                if family != Family::Commits {
                    state.stale.extend(old.map(|old| (place, old)));
                }
            }
        })
        .map_err(failed)
    }

    fn purge(&self, places: Option<&[(Family, Vec<u8>)]>) -> Result<()> {
        self.operate(|state| {
            state.purges += 1;
            let outside = |place: &Place| {
                places.is_some_and(|places| !places.iter().any(|purged| begins(place, purged)))
            };
            state.stale.retain(|(place, _)| outside(place));
        })
        .map_err(failed)
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<usize> {
        let found: Vec<_> = self
            .read(|state| {
                let from = Bound::Included((family, prefix.to_vec()));
                let all = state.records.range((from, Bound::Unbounded));
                all.take_while(|((f, key), _)| *f == family && key.starts_with(prefix))
                    .filter(|((_, key), _)| key.as_slice() > after)
                    .map(|((_, key), value)| (key.clone(), value.clone()))
                    .collect()
            })
            .map_err(failed)?;
        for (key, value) in found {
            if visit(&key, &value) == Scan::Stop {
                break;
            }
        }
        Ok(0)
    }

    fn scan_beside(&self, _family: Family, _visit: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }

    fn damaged_files(&self) -> Vec<DamagedFile> {
        Vec::new()
    }

    fn verify(&self, _goes_on: &dyn Fn() -> bool) -> Result<()> {
        Ok(())
    }

    /// No operation of the disk: the thread of the log asks at moments of its own.
    fn extent(&self, family: Family) -> Result<Extent> {
        let state = self.0.lock();
        let of = state.records.iter().filter(|((f, _), _)| *f == family);
        Ok(of.fold(Extent::default(), |extent, ((_, key), value)| Extent {
            rows: extent.rows + 1,
            bytes: extent.bytes + (key.len() + value.len()) as u64,
        }))
    }
}
