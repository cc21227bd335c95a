//! The slot file as a whole: wraps keys anew, destroys keys that the erasure log names or no record names, and counts
//! free slots.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::{Named, Plan, Vault};
use crate::codec::Header;
use crate::receipts::{DestroyedKey, KEYS_PER_RECEIPT_MAX};
use crate::records::{Family, Scan};
use crate::slots::{EMPTY, Rewrapped};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

impl Vault {
    /// How many slots the file has.
    pub fn slot_count(&self) -> Result<u32> {
        self.slots.count()
    }

    /// Wraps the keys in these slots under the newest wrapping key; answers how many, and how many
    /// could not be read.
    pub fn rewrap_slots(&self, slots: std::ops::Range<u32>, newest: RandomId) -> Result<(u64, u64)> {
        self.refuse_if_poisoned()?;
        let (mut images, mut unreadable) = (Vec::new(), 0);
        for slot in slots {
            match self.slots.rewrapped(slot, newest)? {
                Rewrapped::Not => {}
                Rewrapped::Unreadable => unreadable += 1,
                Rewrapped::As(image) => images.push((slot, image)),
            }
        }
        if !images.is_empty() {
            // A slot is never torn, so after a crash each is under the old key or under the new.
            let outcome = self.slots.write(&images);
            if outcome.is_err() {
                self.poisoned.store(true, Ordering::Release);
            }
            outcome?;
        }
        Ok((images.len() as u64, unreadable))
    }

    /// Removes the bytes of deleted records from the data files; `None` goes through all of them.
    pub fn purge_records(&self, places: Option<&[(Family, Vec<u8>)]>) -> Result<()> {
        self.records.purge(places)
    }

    /// Carries out what the log says, wherever a crash or an older copy of the data left a key that it
    /// names; answers how many.
    pub fn empty_destroyed(&self, destroyed: &HashSet<RandomId>) -> Result<usize> {
        let mut images = Vec::new();
        self.slots.each_used(|slot, key| {
            if destroyed.contains(&key) {
                images.push((slot, EMPTY));
            }
        })?;
        if !images.is_empty() {
            self.slots.write(&images)?;
        }
        Ok(images.len())
    }

    /// Finds the keys of records that go without being able to name them: those that no other record
    /// names. While another record is as silent, it is not known whose they are, and they stay until it goes too.
    ///
    /// Before the commit, so that what cannot be done is not begun: answers false where damaged places of the disk hide
    /// records. There the bytes stay as well, and nobody may be told that anybody is erased.
    pub fn plan_unnamed_keys(&self, plan: &mut Plan) -> Result<bool> {
        let Some(erasure) = plan.unnamed_key.take() else {
            return Ok(true);
        };
        let going: HashSet<_> = plan.writes.iter().map(|w| (w.family, w.key.as_slice())).collect();
        let (mut named, mut gaps) = (Named::default(), 0);
        for family in Family::SEALED {
            gaps += self.records.scan(family, &[], &[], &mut |key, record| {
                let header = Header::parse(record).ok();
                if header.is_some() || !going.contains(&(family, key)) {
                    named.note(header.as_ref());
                }
                Scan::Continue
            })?;
        }
        if gaps > 0 {
            return Ok(false);
        }
        if named.silent > 0 {
            return Ok(true);
        }
        self.plan_nobodys_rows(plan, named.logs, Some(erasure))?;
        let mut unnamed = Vec::new();
        self.slots.each_used(|slot, id| {
            if !named.slots.contains(slot) {
                unnamed.push((slot, id));
            }
        })?;
        let keys = &mut plan.erasures[erasure].keys;
        unnamed.truncate(KEYS_PER_RECEIPT_MAX - keys.len());
        // A crash may have left a key whose name another has by now, and that one stays.
        let (mut names, mut taken) = (HashSet::new(), HashSet::new());
        names.extend(unnamed.iter().map(|(_, id)| *id));
        self.slots.each_used(|slot, id| {
            if named.slots.contains(slot) && names.contains(&id) {
                taken.insert(id);
            }
        })?;
        for (slot, id) in unnamed {
            if plan.erased_slots.insert(slot) && !taken.contains(&id) {
                let commitment = self.slots.commitment(slot)?;
                keys.push(DestroyedKey { id, commitment });
            }
        }
        Ok(true)
    }

    /// Empties every slot that no record names, and lets the empty ones be used. While some record
    /// cannot say which slot it names, unnamed slots are kept: one of them may be its.
    ///
    /// # Errors
    /// More unnamed keys than `keys_max`, or fewer named ones than the anchor counted; nothing was overwritten.
    pub fn settle_slots(&self, named: &Named, keys_max: usize) -> Result<usize> {
        self.slots.mark_lost(named.slots.iter())?;
        let (mut unnamed, mut used) = (Vec::new(), 0);
        self.slots.each_used(|slot, _| {
            used += 1;
            if !named.slots.contains(slot) {
                unnamed.push(slot);
            }
        })?;
        *self.live.lock() = used;
        if named.silent > 0 {
            self.unnamed_kept.store(unnamed.len(), Ordering::Relaxed);
            let kept: HashSet<u32> = unnamed.into_iter().collect();
            self.slots
                .set_free(&|slot| named.slots.contains(slot) || kept.contains(&slot))?;
            return Ok(0);
        }
        if unnamed.len() > keys_max {
            return Err(OperatorError::Format {
                what: "records",
                expected: format!("records for all but {keys_max} of the keys in the slot file"),
                found: format!(
                    "{} keys without records; records that do not belong to the slot file, or a part of them",
                    unnamed.len()
                ),
            }
            .into());
        }
        if !unnamed.is_empty() {
            self.refuse_fewer_keys_than_anchored(named)?;
            self.log_leftovers()?;
            let images: Vec<_> = unnamed.iter().map(|slot| (*slot, EMPTY)).collect();
            self.slots.write(&images)?;
            *self.live.lock() = used - unnamed.len() as u64;
        }
        self.slots.set_free(&|slot| named.slots.contains(slot))?;
        Ok(unnamed.len())
    }
}
