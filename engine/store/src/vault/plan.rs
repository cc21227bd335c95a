//! Plans a change: what it writes and under which keys, before anything is written.

use std::sync::Arc;

use super::{Asked, NewRecord, Plan, Ticket, Vault};
use crate::codec;
use crate::codec::Header;
use crate::erasure_log::Erasure;
use crate::receipts::{DestroyedKey, KEYS_PER_RECEIPT_MAX, ReceiptKind};
use crate::records::{Change, Family, Write};
use crate::slots::DataKey;
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

impl Asked {
    pub(crate) fn erasure(self, kind: ReceiptKind) -> Erasure {
        Erasure {
            kind,
            request: self.request,
            subject: self.subject,
            generation: self.generation,
            faces: self.faces,
            owner: self.owner,
            keys: Vec::new(),
            touched: Vec::new(),
            issued: Ticket::default(),
        }
    }
}

impl Plan {
    /// Whether no row is written or deleted.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Takes over what one more change wants.
    pub fn append(&mut self, other: Self) {
        debug_assert!(other.unnamed_key.is_none(), "looked for before");
        self.writes.extend(other.writes);
        self.new_slots.extend(other.new_slots);
        self.erasures.extend(other.erasures);
        self.reductions.extend(other.reductions);
        self.erased_slots.extend(other.erased_slots);
        self.superseded_slots.extend(other.superseded_slots);
        self.counters.append(other.counters);
    }

    /// The rows of a record that goes, in its own batch: at no moment is there a row of nobody.
    pub fn forget_rows(&mut self, header: &Header) {
        if header.log != RandomId::default() {
            self.writes.push(Write {
                family: Family::RunningLog,
                key: header.log.0.to_vec(),
                change: Change::DeleteAll,
            });
        }
    }

    /// What is going to be written.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// A write that belongs to no slot.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// The counters in memory under a record key are dropped with the commit.
    pub fn unmeter(&mut self, key: Vec<u8>) {
        self.counters.forgotten.push(key);
    }

    /// Begins an erasure: the records erased from here on are in one receipt.
    pub fn begin_erasure(&mut self, asked: Asked) -> Ticket {
        let erasure = asked.erasure(ReceiptKind::Erased);
        let ticket = Arc::clone(&erasure.issued);
        self.erasures.push(erasure);
        ticket
    }
}

impl Plan {
    fn put(&mut self, header: Header, key: &DataKey, record: &NewRecord<'_>) {
        self.writes.push(Write {
            family: record.family,
            key: record.key.clone(),
            change: Change::Put(codec::seal(header, key, &record.binding, record.contents)),
        });
    }
}

impl Vault {
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
                log: record.log,
                ..*previous
            };
            plan.put(header, &key, record);
            return Ok(header);
        }
        self.plan_put_under_new_key(plan, record, 0, DataKey::new())
    }

    /// Plans a record that loses something it had: sealed under a new data key, so that what was
    /// removed dies with the old one.
    pub fn plan_reseal(
        &self,
        plan: &mut Plan,
        record: &NewRecord<'_>,
        previous: &Header,
        asked: Option<Asked>,
    ) -> Result<Option<Ticket>> {
        let commitment = self.slots.commitment(previous.slot)?;
        // What is logged goes from older copies of the data as well, and so must not have the new key's name; what is not
        // logged must keep it, or an older copy would bring back who was erased since.
        let key = match asked {
            Some(_) => DataKey::new(),
            None => DataKey::of(previous.data_key),
        };
        self.plan_put_under_new_key(plan, record, previous.generation + 1, key)?;
        plan.superseded_slots.push(previous.slot);
        let Some(asked) = asked else {
            return Ok(None);
        };
        let mut reduction = asked.erasure(ReceiptKind::Reduced);
        reduction.keys.push(DestroyedKey {
            id: previous.data_key,
            commitment,
        });
        reduction.touched.push((record.family, record.key.clone()));
        let ticket = Arc::clone(&reduction.issued);
        plan.reductions.push(reduction);
        Ok(Some(ticket))
    }

    /// Plans a record in the place of another under another record key: sealed under a new data key by the same name; the
    /// other goes with its data key. What is logged names no key and nobody: it is there so that the other's
    /// bytes are purged also if a crash comes between.
    pub fn plan_move(
        &self,
        plan: &mut Plan,
        record: &NewRecord<'_>,
        other: Vec<u8>,
        previous: &Header,
        asked: Asked,
    ) -> Result<Ticket> {
        let key = DataKey::of(previous.data_key);
        self.plan_put_under_new_key(plan, record, previous.generation + 1, key)?;
        self.note_move(record.log, &record.key);
        plan.superseded_slots.push(previous.slot);
        let mut reduction = asked.erasure(ReceiptKind::Reduced);
        reduction.touched.push((record.family, other.clone()));
        let ticket = Arc::clone(&reduction.issued);
        plan.reductions.push(reduction);
        let metered = self.plan_forget(plan, record.family, other)?;
        let moved = plan.reductions.last_mut().expect("pushed above");
        moved
            .touched
            .extend(metered.into_iter().map(|key| (Family::Meter, key)));
        Ok(ticket)
    }

    fn plan_put_under_new_key(
        &self,
        plan: &mut Plan,
        record: &NewRecord<'_>,
        generation: u64,
        key: DataKey,
    ) -> Result<Header> {
        // Checked here too, so that refused changes do not use up slots or let the file grow.
        self.refuse_if_poisoned()?;
        let header = Header {
            slot: self.slots.allocate()?,
            data_key: key.id,
            generation,
            scheme: record.scheme,
            log: record.log,
        };
        plan.new_slots
            .push((header.slot, self.slots.wrap(header.slot, &key)));
        plan.put(header, &key, record);
        Ok(header)
    }

    /// Gives back what a change took that is not made.
    pub fn forgo(&self, plan: Plan) {
        self.slots
            .release(plan.new_slots.into_iter().map(|(slot, _)| slot));
    }

    /// Plans the end of a record and of its data key, as part of the erasure that was begun; `header` is
    /// none where it cannot be read.
    pub fn plan_erase(
        &self,
        plan: &mut Plan,
        family: Family,
        key: Vec<u8>,
        header: Option<&Header>,
    ) -> Result<()> {
        let number = plan.erasures.len() - 1;
        let erasure = plan.erasures.last_mut().expect("an erasure was begun");
        debug_assert!(erasure.keys.len() < KEYS_PER_RECEIPT_MAX, "whoever plans splits");
        erasure.touched.push((family, key.clone()));
        match header {
            Some(header) => {
                if header.log != RandomId::default() {
                    erasure.touched.push((Family::RunningLog, header.log.0.to_vec()));
                }
                let held = self.slots.holds(header.slot, header.data_key)?;
                // A key that is in no slot any more may be in an older copy: it is named all the same.
                if !held || plan.erased_slots.insert(header.slot) {
                    let commitment = held.then(|| self.slots.commitment(header.slot)).transpose()?;
                    erasure.keys.push(DestroyedKey {
                        id: header.data_key,
                        commitment: commitment.unwrap_or_default(),
                    });
                }
            }
            None => plan.unnamed_key = Some(number),
        }
        header.iter().for_each(|header| plan.forget_rows(header));
        let metered = self.plan_forget(plan, family, key)?;
        let touched = metered.into_iter().map(|key| (Family::Meter, key));
        plan.erasures[number].touched.extend(touched);
        Ok(())
    }

    /// Plans the end of a record whose data key is gone already, and of a person's counters; answers the keys under which
    /// there were any on disk.
    pub fn plan_forget(&self, plan: &mut Plan, family: Family, key: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let metered = match family {
            Family::Persons => self.counters.plan_forget(self, plan, &key)?,
            _ => Vec::new(),
        };
        let change = Change::Delete;
        plan.writes.push(Write { family, key, change });
        Ok(metered)
    }
}
