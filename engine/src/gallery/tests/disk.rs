//! A disk in memory that keeps apart what was written and what was synced, and fails on demand.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{OperatorError, Result};
use crate::gallery::records::{Family, Records, Scan, Write};
use crate::slots::{SLOT_BYTES, SlotBytes};

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

#[derive(Default, Clone)]
pub struct State {
    /// What survives a power cut.
    durable: Vec<u8>,
    /// Slot writes since the last sync, in order.
    unsynced: Vec<(u64, Vec<u8>)>,
    /// What a reader sees: the durable bytes under the unsynced ones.
    seen: Vec<u8>,
    /// Every batch is synced, so these are what is seen and what survives.
    pub records: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
    /// Operations so far: slot writes, slot syncs, record batches, and reads if `reads_count`.
    pub operations: usize,
    pub reads_count: bool,
    pub syncs: usize,
    pub fault: Option<(usize, Fault)>,
    dead: bool,
    /// How long a sync takes.
    pub sync_takes: Duration,
}

/// Slots and records; a clone is the same disk.
#[derive(Default, Clone)]
pub struct FakeDisk(pub Arc<Mutex<State>>);

impl FakeDisk {
    /// The disk after the power came back: of the unsynced slot writes only those that `kept` names,
    /// by their number, have arrived.
    pub fn restarted(&self, kept: impl Fn(usize) -> bool) -> Self {
        let state = self.0.lock();
        let mut durable = state.durable.clone();
        for (n, (offset, bytes)) in state.unsynced.iter().enumerate() {
            if kept(n) {
                put(&mut durable, *offset, bytes);
            }
        }
        Self(Arc::new(Mutex::new(State {
            seen: durable.clone(),
            durable,
            records: state.records.clone(),
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
        self.0.lock().unsynced.is_empty()
    }

    /// Slots after the header that would not be empty after a power cut.
    pub fn used_slots(&self) -> Vec<usize> {
        let state = self.0.lock();
        let slots = state.durable.chunks(SLOT_BYTES).enumerate().skip(1);
        slots
            .filter(|(_, slot)| slot.iter().any(|b| *b != 0))
            .map(|(n, _)| n)
            .collect()
    }

    pub fn slot(&self, slot: usize) -> Vec<u8> {
        self.0.lock().durable[slot * SLOT_BYTES..][..SLOT_BYTES].to_vec()
    }

    pub fn flip_slot_bit(&self, slot: usize, bit: usize) {
        let mut state = self.0.lock();
        let at = slot * SLOT_BYTES + bit / 8;
        state.durable[at] ^= 1 << (bit % 8);
        state.seen[at] ^= 1 << (bit % 8);
    }

    pub fn flip_record_bit(&self, key: &(Family, Vec<u8>), bit: usize) {
        let mut state = self.0.lock();
        state.records.get_mut(key).expect("the record is there")[bit / 8] ^= 1 << (bit % 8);
    }

    pub fn truncate_slots(&self, slots: usize) {
        let mut state = self.0.lock();
        state.durable.truncate(slots * SLOT_BYTES);
        state.seen.truncate(slots * SLOT_BYTES);
    }

    /// Empties every slot but the header and this one.
    pub fn empty_slots_but(&self, kept: usize) {
        let mut state = self.0.lock();
        let slots = state.durable.chunks_mut(SLOT_BYTES).enumerate().skip(1);
        slots
            .filter(|(n, _)| *n != kept)
            .for_each(|(_, slot)| slot.fill(0));
        state.seen = state.durable.clone();
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

impl SlotBytes for FakeDisk {
    fn len(&self) -> io::Result<u64> {
        self.read(|state| state.seen.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("a small disk");
        let length = bytes.len();
        let found = self.read(|state| state.seen.get(offset..offset + length).map(<[u8]>::to_vec))?;
        bytes.copy_from_slice(&found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operate(|state| {
            put(&mut state.seen, offset, bytes);
            state.unsynced.push((offset, bytes.to_vec()));
        })
    }

    fn sync(&self) -> io::Result<()> {
        let takes = self.0.lock().sync_takes;
        std::thread::sleep(takes);
        self.operate(|state| {
            state.syncs += 1;
            for (offset, bytes) in std::mem::take(&mut state.unsynced) {
                put(&mut state.durable, offset, &bytes);
            }
        })
    }
}

fn failed(error: io::Error) -> crate::Error {
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

    fn write(&self, batch: Vec<Write>) -> Result<()> {
        let takes = self.0.lock().sync_takes;
        std::thread::sleep(takes);
        self.operate(|state| {
            state.syncs += 1;
            for Write { family, key, value } in batch {
                match value {
                    Some(value) => state.records.insert((family, key), value),
                    None => state.records.remove(&(family, key)),
                };
            }
        })
        .map_err(failed)
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<()> {
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
        Ok(())
    }
}
