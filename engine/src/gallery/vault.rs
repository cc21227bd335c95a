//! Sealed records and their keys, always together: what can be read, and in which order disks change.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::error::{Error, OperatorError, RequestError, Result};
use crate::gallery::codec::{self, Binding, Header};
use crate::gallery::erasures::{Erasure, ErasureLog, Issued, Unpurged};
use crate::gallery::records::{Family, Records, Scan, Write};
use crate::gallery::tokens::Tokens;
use crate::keys::KeyRing;
use crate::names::RandomId;
use crate::receipts::{DestroyedKey, KEYS_PER_RECEIPT_MAX, ReceiptKind};
use crate::scheme::SchemeId;
use crate::slots::{DataKey, EMPTY, Rewrapped, SlotError, SlotImage, Slots};

/// Purged erasures that are logged with one pair of syncs.
const PURGED_TOGETHER: usize = 256;

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
    pub log: ErasureLog,
    pub ring: Arc<KeyRing>,
    pub tokens: Tokens,
    /// Slots that are not empty. Held by whoever needs disk and log to be of one moment: through every
    /// commit, for the anchor, and to learn what can be purged.
    live: Mutex<u64>,
    poisoned: AtomicBool,
}

/// Changes that become durable together.
#[derive(Default)]
pub(crate) struct Plan {
    writes: Vec<Write>,
    new_slots: Vec<(u32, SlotImage)>,
    /// Logged before anything is erased.
    erasures: Vec<Erasure>,
    /// Logged once the records sealed anew are durable.
    reductions: Vec<Erasure>,
    /// Slots whose records are erased: emptied before anything is written. A set, because damaged
    /// records may name one slot twice, and a slot given back twice would be given out twice.
    erased_slots: BTreeSet<u32>,
    /// Slots whose records were sealed anew elsewhere: emptied once the new ones are durable.
    superseded_slots: Vec<u32>,
    /// The erasure whose record could not say which key was its own.
    unnamed_key: Option<usize>,
}

/// Which slots the records name.
#[derive(Default)]
pub(crate) struct Named {
    slots: HashSet<u32>,
    /// Records that could not say which slot is theirs.
    silent: usize,
}

impl Named {
    /// Places where nobody knows which records there were.
    pub fn note_gaps(&mut self, gaps: usize) {
        self.silent += gaps;
    }

    pub fn note(&mut self, header: Option<&Header>) {
        match header {
            Some(header) => drop(self.slots.insert(header.slot)),
            None => self.silent += 1,
        }
    }
}

/// Where a receipt will be, once it is durable.
pub(crate) type Ticket = Arc<OnceLock<Issued>>;

/// Who asked for an erasure, and of whom and what.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked {
    pub request: RandomId,
    pub subject: [u8; 32],
    pub generation: u64,
    pub faces: u32,
}

impl Asked {
    fn erasure(self, kind: ReceiptKind) -> Erasure {
        Erasure {
            kind,
            request: self.request,
            subject: self.subject,
            generation: self.generation,
            faces: self.faces,
            keys: Vec::new(),
            touched: Vec::new(),
            issued: Ticket::default(),
        }
    }
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// A write that belongs to no slot.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Begins an erasure: the records erased from here on are in one receipt.
    pub fn begin_erasure(&mut self, asked: Asked) -> Ticket {
        let erasure = asked.erasure(ReceiptKind::Erased);
        let ticket = Arc::clone(&erasure.issued);
        self.erasures.push(erasure);
        ticket
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
    pub fn new(records: Box<dyn Records>, slots: Slots, log: ErasureLog, ring: Arc<KeyRing>) -> Self {
        Self {
            records,
            slots,
            log,
            ring,
            tokens: Tokens::new(Clock::System),
            live: Mutex::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    /// The row of an idempotency token.
    pub fn token_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.records.get(Family::Tokens, key)
    }

    /// Reads one record.
    pub fn read(&self, family: Family, key: &[u8], binding: &Binding<'_>) -> Result<Found> {
        let mut record = match self.records.get(family, key) {
            Err(Error::Request(RequestError::Damaged)) => return Ok(Found::Damaged(None)),
            got => got?,
        };
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

    /// A sealed record and its slot, as they lie on disk.
    pub fn sealed(&self, family: Family, key: &[u8]) -> Result<Option<(Vec<u8>, SlotImage)>> {
        let Some(record) = self.records.get(family, key)? else {
            return Ok(None);
        };
        let slot = match Header::parse(&record) {
            Ok(header) => self.slots.image(header.slot)?,
            Err(codec::Unreadable) => EMPTY,
        };
        Ok(Some((record, slot)))
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
    ) -> Result<usize> {
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
    pub fn plan_reseal(
        &self,
        plan: &mut Plan,
        record: &NewRecord<'_>,
        previous: &Header,
        asked: Option<Asked>,
    ) -> Result<Option<Ticket>> {
        let commitment = self.slots.commitment(previous.slot)?;
        self.plan_put_under_new_key(plan, record, previous.generation + 1)?;
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

    /// Plans a record in the place of another under another record key: sealed under a new data key; the
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
        self.plan_put_under_new_key(plan, record, previous.generation + 1)?;
        plan.superseded_slots.push(previous.slot);
        let mut reduction = asked.erasure(ReceiptKind::Reduced);
        reduction.touched.push((record.family, other.clone()));
        let ticket = Arc::clone(&reduction.issued);
        plan.reductions.push(reduction);
        self.plan_forget(plan, record.family, other);
        Ok(ticket)
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
        let mut live = self.live.lock();
        self.refuse_if_poisoned()?;
        let outcome = self.commit_in_order(plan, &mut live);
        self.poison_on_error(outcome)
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(OperatorError::Poisoned.into());
        }
        Ok(())
    }

    fn commit_in_order(&self, mut plan: Plan, live: &mut u64) -> Result<()> {
        if let Some(erasure) = plan.unnamed_key {
            self.find_unnamed_keys(&mut plan, erasure)?;
        }
        let (new, gone) = (
            plan.new_slots.len(),
            plan.erased_slots.len() + plan.superseded_slots.len(),
        );
        // ORDER: the log before anything else: from here on the erasure has happened, and every later
        // start, also with an older copy of the data, carries it out again.
        if !plan.erasures.is_empty() {
            self.log.erase(plan.erasures)?;
        }
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
        // ORDER: logged between the two, for the log destroys what it names at every start: before the new
        // records are durable it would destroy the person.
        if !plan.reductions.is_empty() {
            self.log.erase(plan.reductions)?;
        }
        if !plan.superseded_slots.is_empty() {
            let images: Vec<_> = plan.superseded_slots.iter().map(|slot| (*slot, EMPTY)).collect();
            self.slots.write(&images)?;
        }
        self.slots
            .release(plan.erased_slots.into_iter().chain(plan.superseded_slots));
        *live = (*live + new as u64).saturating_sub(gone as u64);
        Ok(())
    }

    /// From now on this key signs the log, and the key before it says so there.
    pub fn introduce_signing_key(&self, secret: &[u8; 32]) -> Result<()> {
        self.refuse_if_poisoned()?;
        self.poison_on_error(self.log.introduce(secret))
    }

    /// Advances the anchor to where the log is now.
    pub fn advance_anchor(&self) -> Result<()> {
        let live = self.live.lock();
        self.refuse_if_poisoned()?;
        let outcome = self.log.checkpoint(*live);
        self.poison_on_error(outcome).map(drop)
    }

    fn poison_on_error<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        outcome
    }

    /// Everything that is erased, on disk too, and not yet purged.
    pub fn unpurged(&self) -> Result<BTreeMap<u64, Unpurged>> {
        // ORDER: not beside a commit: what it has logged, its records may still hold, and a purge would
        // say PURGED too early. After a failed one only a restart knows.
        let _live = self.live.lock();
        self.refuse_if_poisoned()?;
        Ok(self.log.unpurged())
    }

    /// Says of erasures that their bytes have left the data files, some at a time, so that nobody who
    /// erases waits long for the log.
    pub fn say_purged(&self, sequences: &[u64]) -> Result<()> {
        for some in sequences.chunks(PURGED_TOGETHER) {
            self.poison_on_error(self.log.purged(some))?;
        }
        Ok(())
    }

    /// Logs that a start removes what no receipt names, so that its bytes are purged even if the next
    /// start has to do it.
    pub fn log_leftovers(&self) -> Result<()> {
        self.log
            .erase(vec![Asked::default().erasure(ReceiptKind::Erased)])
    }

    /// Logs, when it is asked about, a reduction that a crash had kept out of the log: the record was sealed
    /// anew, and the start has overwritten the old key as one that no record named.
    pub fn log_late(&self, asked: Asked) -> Result<Option<Issued>> {
        let reduction = asked.erasure(ReceiptKind::Reduced);
        let ticket = Arc::clone(&reduction.issued);
        self.poison_on_error(self.log.erase(vec![reduction]))?;
        self.advance_anchor()?;
        Ok(ticket.get().cloned())
    }

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
    /// names. While another record is as silent, it is not known whose they are, and they stay.
    fn find_unnamed_keys(&self, plan: &mut Plan, erasure: usize) -> Result<()> {
        let going: HashSet<_> = plan.writes.iter().map(|w| (w.family, w.key.as_slice())).collect();
        let mut named = Named::default();
        for family in Family::SEALED {
            let gaps = self.records.scan(family, &[], &[], &mut |key, record| {
                let header = Header::parse(record).ok();
                if header.is_some() || !going.contains(&(family, key)) {
                    named.note(header.as_ref());
                }
                Scan::Continue
            })?;
            named.note_gaps(gaps);
        }
        if named.silent > 0 {
            return Ok(());
        }
        let mut unnamed = Vec::new();
        self.slots.each_used(|slot, id| {
            if !named.slots.contains(&slot) {
                unnamed.push((slot, id));
            }
        })?;
        let keys = &mut plan.erasures[erasure].keys;
        unnamed.truncate(KEYS_PER_RECEIPT_MAX - keys.len());
        for (slot, id) in unnamed {
            if plan.erased_slots.insert(slot) {
                let commitment = self.slots.commitment(slot)?;
                keys.push(DestroyedKey { id, commitment });
            }
        }
        Ok(())
    }

    /// Empties every slot that no record names, and lets the empty ones be used. While some record
    /// cannot say which slot it names, unnamed slots are kept: one of them may be its.
    ///
    /// # Errors
    /// More unnamed keys than `keys_max`; nothing was overwritten.
    pub fn settle_slots(&self, named: &Named, keys_max: usize) -> Result<usize> {
        self.slots.mark_lost(named.slots.iter().copied())?;
        let (mut unnamed, mut used) = (Vec::new(), 0);
        self.slots.each_used(|slot, _| {
            used += 1;
            if !named.slots.contains(&slot) {
                unnamed.push(slot);
            }
        })?;
        *self.live.lock() = used;
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
            self.log_leftovers()?;
            let images: Vec<_> = unnamed.iter().map(|slot| (*slot, EMPTY)).collect();
            self.slots.write(&images)?;
            *self.live.lock() = used - unnamed.len() as u64;
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
