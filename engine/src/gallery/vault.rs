//! Sealed records and their keys, always together: what can be read, and in which order disks change.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroizing;

use crate::error::{OperatorError, Result};
use crate::gallery::codec::{self, Binding, Header};
use crate::gallery::records::{Family, Records, Scan, Write};
use crate::keys::KeyRing;
use crate::scheme::SchemeId;
use crate::slots::{DataKey, EMPTY, SlotError, SlotImage, Slots};

/// What lies under a record key.
pub(crate) enum Found {
    /// Nothing, or something whose data key is gone.
    Nothing,
    /// A readable record.
    Open {
        header: Header,
        contents: Zeroizing<Vec<u8>>,
    },
    /// A record that cannot be read, with its clear part if that can.
    Damaged(Option<Header>),
}

/// Records, slots and the keys that open them.
pub(crate) struct Vault {
    records: Box<dyn Records>,
    slots: Slots,
    pub ring: Arc<KeyRing>,
    poisoned: AtomicBool,
}

/// Changes that become durable together.
#[derive(Default)]
pub(crate) struct Plan {
    writes: Vec<Write>,
    new_slots: Vec<(u32, SlotImage)>,
    /// Slots whose records are erased: emptied before anything is written.
    erased_slots: Vec<u32>,
    /// Slots whose records were sealed anew elsewhere: emptied once the new ones are durable.
    superseded_slots: Vec<u32>,
    /// A record goes that could not say which key was its own.
    unnamed_key: bool,
}

/// Which slots the records name.
#[derive(Default)]
pub(crate) struct Named {
    slots: HashSet<u32>,
    /// Records that could not say which slot is theirs.
    silent: usize,
}

impl Named {
    pub fn note(&mut self, header: Option<&Header>) {
        match header {
            Some(header) => drop(self.slots.insert(header.slot)),
            None => self.silent += 1,
        }
    }
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// A record to be written.
pub(crate) struct NewRecord<'a> {
    pub family: Family,
    pub key: Vec<u8>,
    pub binding: Binding<'a>,
    pub scheme: SchemeId,
    pub contents: &'a [u8],
}

impl Vault {
    pub fn new(records: Box<dyn Records>, slots: Slots, ring: Arc<KeyRing>) -> Self {
        Self {
            records,
            slots,
            ring,
            poisoned: AtomicBool::new(false),
        }
    }

    /// Reads one record.
    pub fn read(&self, family: Family, key: &[u8], binding: &Binding<'_>) -> Result<Found> {
        let mut record = self.records.get(family, key)?;
        loop {
            let Some(bytes) = &record else {
                return Ok(Found::Nothing);
            };
            match self.open(bytes, binding)? {
                // The record may have been sealed anew between the two reads; then it has changed.
                Found::Nothing => {
                    let again = self.records.get(family, key)?;
                    if again == record {
                        return Ok(Found::Nothing);
                    }
                    record = again;
                }
                found => return Ok(found),
            }
        }
    }

    /// The size of a sealed record.
    pub fn record_bytes(&self, family: Family, key: &[u8]) -> Result<Option<usize>> {
        Ok(self.records.get(family, key)?.map(|record| record.len()))
    }

    /// Opens a record already in hand.
    pub fn open(&self, record: &[u8], binding: &Binding<'_>) -> Result<Found> {
        let Ok(header) = Header::parse(record) else {
            return Ok(Found::Damaged(None));
        };
        let key = match self.slots.data_key(header.slot, header.data_key)? {
            Ok(key) => key,
            Err(SlotError::Erased) => return Ok(Found::Nothing),
            Err(SlotError::Damaged) => return Ok(Found::Damaged(Some(header))),
        };
        Ok(match codec::open(record, &key, binding) {
            Ok(contents) => Found::Open { header, contents },
            Err(codec::Unreadable) => Found::Damaged(Some(header)),
        })
    }

    /// Visits records in key order.
    pub fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<()> {
        self.records.scan(family, prefix, after, visit)
    }

    /// Plans a record that is new, or that keeps all it had (`previous`): the data key stays.
    pub fn plan_put(
        &self,
        plan: &mut Plan,
        record: &NewRecord<'_>,
        previous: Option<&Header>,
    ) -> Result<Header> {
        if let Some(previous) = previous {
            let found = self.slots.data_key(previous.slot, previous.data_key)?;
            let key = found.map_err(|e| OperatorError::Store {
                doing: "reading the data key of a record that was just read",
                detail: format!("{e:?}"),
            })?;
            let header = Header {
                generation: previous.generation + 1,
                scheme: record.scheme,
                ..*previous
            };
            plan.put(header, &key, record);
            return Ok(header);
        }
        self.plan_put_under_new_key(plan, record, 0)
    }

    /// Plans a record that loses something it had: sealed under a new data key, so that what was
    /// removed dies with the old one.
    pub fn plan_reseal(&self, plan: &mut Plan, record: &NewRecord<'_>, previous: &Header) -> Result<Header> {
        let header = self.plan_put_under_new_key(plan, record, previous.generation + 1)?;
        plan.superseded_slots.push(previous.slot);
        Ok(header)
    }

    fn plan_put_under_new_key(
        &self,
        plan: &mut Plan,
        record: &NewRecord<'_>,
        generation: u64,
    ) -> Result<Header> {
        // Checked here too, so that refused changes do not use up slots or let the file grow.
        self.refuse_if_poisoned()?;
        let key = DataKey::new();
        let header = Header {
            slot: self.slots.allocate()?,
            data_key: key.id,
            generation,
            scheme: record.scheme,
        };
        plan.new_slots
            .push((header.slot, self.slots.wrap(header.slot, &key)));
        plan.put(header, &key, record);
        Ok(header)
    }

    /// Plans the end of a record and of its data key; `header` is none where it cannot be read.
    pub fn plan_erase(
        &self,
        plan: &mut Plan,
        family: Family,
        key: Vec<u8>,
        header: Option<&Header>,
    ) -> Result<()> {
        match header {
            Some(header) if self.slots.holds(header.slot, header.data_key)? => {
                plan.erased_slots.push(header.slot);
            }
            Some(_) => {}
            None => plan.unnamed_key = true,
        }
        self.plan_forget(plan, family, key);
        Ok(())
    }

    /// Plans the end of a record whose data key is gone already.
    pub fn plan_forget(&self, plan: &mut Plan, family: Family, key: Vec<u8>) {
        plan.writes.push(Write {
            family,
            key,
            value: None,
        });
    }

    /// Makes a plan durable; when this returns, it survives a power cut.
    ///
    /// # Errors
    /// After any error nothing more is written: what is on disk is known again only after a restart.
    pub fn commit(&self, plan: Plan) -> Result<()> {
        self.refuse_if_poisoned()?;
        let outcome = self.commit_in_order(plan);
        if outcome.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        outcome
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(OperatorError::Poisoned.into());
        }
        Ok(())
    }

    fn commit_in_order(&self, plan: Plan) -> Result<()> {
        let erased = plan.erased_slots.iter().map(|slot| (*slot, EMPTY));
        let first: Vec<_> = plan.new_slots.into_iter().chain(erased).collect();
        // ORDER: new keys before their records: a crash between leaves keys without records, which
        // the next start empties; the other order could leave a record that nothing opens.
        // ORDER: erased keys before their records: once the key is gone the person is gone, whatever
        // becomes of the record; the other order could bring a person back.
        if !first.is_empty() {
            self.slots.write(&first)?;
        }
        self.records.write(plan.writes)?;
        // ORDER: superseded keys after the records sealed anew: a crash between leaves old keys that
        // no record names, which the next start empties; the other order could lose the person.
        if !plan.superseded_slots.is_empty() {
            let images: Vec<_> = plan.superseded_slots.iter().map(|slot| (*slot, EMPTY)).collect();
            self.slots.write(&images)?;
        }
        self.slots
            .release(plan.erased_slots.into_iter().chain(plan.superseded_slots));
        if plan.unnamed_key {
            self.overwrite_unnamed_keys()?;
        }
        Ok(())
    }

    /// Finds the key of a record that could not name it: the one that no record names.
    fn overwrite_unnamed_keys(&self) -> Result<()> {
        let mut named = Named::default();
        for family in Family::ALL {
            self.records.scan(family, &[], &[], &mut |_, record| {
                named.note(Header::parse(record).ok().as_ref());
                Scan::Continue
            })?;
        }
        self.settle_slots(&named, usize::MAX).map(drop)
    }

    /// Empties every slot that no record names, and lets the empty ones be used. While some record
    /// cannot say which slot it names, unnamed slots are kept: one of them may be its.
    ///
    /// # Errors
    /// More unnamed keys than `keys_max`; nothing was overwritten.
    pub fn settle_slots(&self, named: &Named, keys_max: usize) -> Result<usize> {
        self.slots.mark_lost(named.slots.iter().copied())?;
        let mut unnamed = Vec::new();
        self.slots.each_used(|slot| {
            if !named.slots.contains(&slot) {
                unnamed.push(slot);
            }
        })?;
        if named.silent > 0 {
            let kept: HashSet<u32> = unnamed.into_iter().collect();
            self.slots
                .set_free(&|slot| named.slots.contains(&slot) || kept.contains(&slot))?;
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
            let images: Vec<_> = unnamed.iter().map(|slot| (*slot, EMPTY)).collect();
            self.slots.write(&images)?;
        }
        self.slots.set_free(&|slot| named.slots.contains(&slot))?;
        Ok(unnamed.len())
    }
}

impl Plan {
    fn put(&mut self, header: Header, key: &DataKey, record: &NewRecord<'_>) {
        self.writes.push(Write {
            family: record.family,
            key: record.key.clone(),
            value: Some(codec::seal(header, key, &record.binding, record.contents)),
        });
    }
}
