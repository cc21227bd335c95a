//! Sealed records together with their data keys: reads, and the order of the writes of a commit.

pub(crate) mod plan;
pub(crate) mod rows;
pub mod slots;
pub(crate) mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use zeroize::Zeroizing;

pub use self::rows::Row;
pub use self::turns::{CHANGES_PER_COMMIT_MAX, KEYS_PER_COMMIT_MAX};
use crate::audit::anchor::{Anchor, Head};
use crate::codec;
use crate::codec::{Binding, Digest, Header, Record};
use crate::counters::{CounterChanges, Counters};
use crate::erasure_log::{Erasure, ErasureLog, Issued, Unpurged};
use crate::keys::KeyRing;
use crate::receipts::ReceiptKind;
use crate::records::{DamagedFile, Family, Records, Scan, Visit, Write};
use crate::slots::{AtRest, DataKey, EMPTY, SlotError, SlotImage, Slots};
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::RandomId;
use likeness_types::scheme::SchemeId;

/// Purged erasures that are logged with one pair of syncs.
const PURGED_TOGETHER: usize = 256;

/// What lies under a record key.
pub enum Found {
    /// Nothing, or something whose data key is gone.
    Nothing,
    /// A readable record.
    Open {
        /// Its clear part.
        header: Header,
        /// The opened contents, wiped on drop.
        contents: Zeroizing<Vec<u8>>,
    },
    /// A record that cannot be read, with its clear part if that can.
    Damaged(Option<Header>),
}

/// Records, slots and the keys that open them.
pub struct Vault {
    records: Box<dyn Records>,
    slots: Slots,
    /// The erasure log.
    pub log: ErasureLog,
    /// The anchor of the audit log.
    pub audit_anchor: Anchor,
    /// The keys of the deployment.
    pub ring: Arc<KeyRing>,
    counters: Arc<dyn Counters>,
    /// Slots that are not empty. Held by whoever needs disk and log to be of one moment: through every
    /// commit, for the anchor, and to learn what can be purged.
    live: Mutex<u64>,
    poisoned: AtomicBool,
    /// Keys that no record named and that the start kept, since some record could not say which is its.
    unnamed_kept: AtomicUsize,
    /// Where people went who were renamed a moment ago, for rows that still name the old place.
    moved: Mutex<VecDeque<(RandomId, Vec<u8>)>>,
}

/// Changes that become durable together.
#[derive(Default)]
pub struct Plan {
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
    /// What becomes of counters.
    pub counters: CounterChanges,
}

/// Which slots the records name.
#[derive(Default)]
pub struct Named {
    slots: RoaringBitmap,
    /// Of the running log, one for each person.
    logs: Vec<RandomId>,
    /// Records that could not say which slot is theirs.
    silent: usize,
}

impl Named {
    /// Places where nobody knows which records there were.
    pub fn note_gaps(&mut self, gaps: usize) {
        self.silent += gaps;
    }

    /// Of a record that goes: its slot is accounted for, and its rows are nobody's.
    pub fn note_going(&mut self, header: &Header) {
        self.slots.insert(header.slot);
    }

    /// Of a record that stays; none where its clear part cannot be read.
    pub fn note(&mut self, header: Option<&Header>) {
        match header {
            Some(header) => {
                self.slots.insert(header.slot);
                if header.log != RandomId::default() {
                    self.logs.push(header.log);
                }
            }
            None => self.silent += 1,
        }
    }
}

/// Damaged places of the disk hide who is to be erased, or which key is whose.
pub fn hidden(doing: &'static str) -> Error {
    let detail = "damaged places of the disk hide records, and which key is whose; put back a copy of the data, whose start \
                  carries out what was begun, and ask again for the rest"
        .to_owned();
    OperatorError::Store { doing, detail }.into()
}

/// Where a receipt will be, once it is durable.
pub type Ticket = Arc<OnceLock<Issued>>;

/// Who asked for an erasure, and of whom and what.
#[derive(Clone, Copy, Default)]
pub struct Asked {
    /// The id of the request, for the receipt.
    pub request: RandomId,
    /// The commitment to the erased subject, as the receipt states it.
    pub subject: [u8; 32],
    /// The state of the collection's index after the erasure.
    pub generation: u64,
    /// Faces in the record.
    pub faces: u32,
    /// The account that will own the receipt; none for the operator alone.
    pub owner: Option<Digest>,
}

/// A record to be written.
pub struct NewRecord<'a> {
    /// The family that it is written to.
    pub family: Family,
    /// Its key within the family.
    pub key: Vec<u8>,
    /// What its seal binds.
    pub binding: Binding<'a>,
    /// The scheme of its templates.
    pub scheme: SchemeId,
    /// Of the person's running log; zeros for a collection.
    pub log: RandomId,
    /// The contents to be sealed.
    pub contents: &'a [u8],
}

impl Vault {
    /// From its parts, opened.
    pub fn new(
        records: Box<dyn Records>,
        slots: Slots,
        log: ErasureLog,
        audit_anchor: Anchor,
        ring: Arc<KeyRing>,
        counters: Arc<dyn Counters>,
    ) -> Self {
        Self {
            records,
            slots,
            log,
            audit_anchor,
            ring,
            counters,
            live: Mutex::new(0),
            poisoned: AtomicBool::new(false),
            unnamed_kept: AtomicUsize::new(0),
            moved: Mutex::default(),
        }
    }

    /// A person's counters, as they lie on disk.
    pub fn meter_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.records.get(Family::Meter, key)
    }

    /// The row of an idempotency token.
    pub fn token_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.records.get(Family::Tokens, key)
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`OperatorError::DamagedPlace`] where nothing can be told of it, not even whether it is there.
    pub fn read(&self, family: Family, key: &[u8], binding: &Binding<'_>) -> Result<Found> {
        let mut record = self.records.get(family, key)?;
        loop {
            let Some(bytes) = &record else {
                return Ok(Found::Nothing);
            };
            let found = self.open(bytes, binding)?;
            if matches!(found, Found::Open { .. }) {
                return Ok(found);
            }
            // It may have been sealed anew between the two reads, or be about to be erased: then it changes.
            // ORDER: after the commit that is on its way, which overwrites keys before it deletes records.
            drop(self.live.lock());
            let again = self.records.get(family, key)?;
            if again == record {
                return Ok(match (found, self.refuse_if_poisoned()) {
                    // A key that was lost is no erasure; what a failed commit left, only a restart knows.
                    (Found::Nothing, Ok(())) => Found::Damaged(Header::parse(bytes).ok()),
                    (found, _) => found,
                });
            }
            record = again;
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
        Self::open_by(Record::parse(record).ok().as_ref(), binding, |header| {
            self.slots.data_key(header.slot, header.data_key)
        })
    }

    /// All data keys, wrapped, as they are now: to open every record at a start, while nothing changes.
    pub fn keys_at_rest(&self) -> Result<AtRest> {
        self.slots.at_rest()
    }

    /// [`Self::open`] with keys that were read before, of a record whose clear part may be damaged.
    pub fn open_at_rest(
        &self,
        keys: &AtRest,
        record: Option<&Record<'_>>,
        binding: &Binding<'_>,
    ) -> Result<Found> {
        Self::open_by(record, binding, |header| {
            self.slots.data_key_at_rest(keys, header.slot, header.data_key)
        })
    }

    fn open_by(
        record: Option<&Record<'_>>,
        binding: &Binding<'_>,
        data_key: impl FnOnce(&Header) -> Result<Result<DataKey, SlotError>>,
    ) -> Result<Found> {
        let Some(record) = record else {
            return Ok(Found::Damaged(None));
        };
        let header = record.header;
        let key = match data_key(&header)? {
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

    /// Visits the records in the places that scans of the whole family passed over, as far as each can be read by
    /// itself.
    pub fn scan_beside(&self, family: Family, visit: &mut Visit<'_>) -> Result<()> {
        self.records.scan_beside(family, visit)
    }

    /// The damaged data files that were met so far.
    pub fn damaged_files(&self) -> Vec<DamagedFile> {
        self.records.damaged_files()
    }

    /// Reads the rows of which nothing else proves what they held, and that a start does not read otherwise.
    ///
    /// # Errors
    /// A damaged place among the rows of any such kind: who serves without them might take a call for a new one, or
    /// count too little.
    pub fn refuse_unproven_damage(&self) -> Result<()> {
        self.records
            .scan(Family::Meter, &[], &[], &mut |_, _| Scan::Continue)?;
        let files = self.damaged_files();
        let is_unproven =
            |file: &&DamagedFile| Family::UNPROVEN.iter().any(|family| family.name() == file.family);
        match files.iter().find(is_unproven) {
            None => Ok(()),
            Some(file) => Err(OperatorError::Format {
                what: "records",
                expected: format!(
                    "whole data files of the {}, for nothing else proves what they held",
                    file.family
                ),
                found: format!(
                    "damage in records/{}; put back a copy of the data directory",
                    file.name
                ),
            }
            .into()),
        }
    }

    /// Keys that no record named and that the start kept, since some record could not say which is its.
    pub fn unnamed_kept(&self) -> usize {
        self.unnamed_kept.load(Ordering::Relaxed)
    }

    /// Reads the data files that a start does not, as long as `goes_on`; they are rewritten only afterwards.
    pub fn verify(&self, goes_on: &dyn Fn() -> bool) -> Result<()> {
        self.records.verify(goes_on)
    }

    /// Makes a plan durable; when this returns, it survives a power cut.
    ///
    /// # Errors
    /// After any error nothing more is written: what is on disk is known again only after a restart. The exception is
    /// [`OperatorError::NoDescriptors`]: nothing was written, and the next change is tried as usual.
    pub fn commit(&self, plan: Plan) -> Result<()> {
        let mut live = self.live.lock();
        // ORDER: before the first write of any disk: between two of them a shortage could not be taken back.
        if let Err(error) = self.refuse_unless_ready() {
            self.forgo(plan);
            return Err(error);
        }
        let outcome = self.commit_in_order(plan, &mut live);
        self.poison_on_error(outcome)
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(OperatorError::Poisoned.into());
        }
        Ok(())
    }

    /// # Errors
    /// Nothing was written. A shortage of descriptors passes; after anything else only a restart helps.
    fn refuse_unless_ready(&self) -> Result<()> {
        self.refuse_if_poisoned()?;
        match self.records.ready() {
            Err(error @ Error::Operator(OperatorError::NoDescriptors { .. })) => Err(error),
            ready => self.poison_on_error(ready),
        }
    }

    fn commit_in_order(&self, mut plan: Plan, live: &mut u64) -> Result<()> {
        self.counters.complete(self, &mut plan)?;
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
        let mut writes = plan.writes;
        if !first.is_empty() {
            writes.push(Self::turn_row(self.slots.begin_turn(&first)?));
        }
        writes.extend(self.log.take_owner_rows());
        self.counters.before_write(&plan.counters);
        self.records.write(writes)?;
        self.counters.after_write(&plan.counters);
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

    /// Advances the audit log's anchor to where that log is now.
    pub(crate) fn advance_audit_anchor(&self, head: Head) -> Result<()> {
        self.refuse_if_poisoned()?;
        self.poison_on_error(self.audit_anchor.advance(head, &self.ring))
    }

    fn poison_on_error<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        outcome
    }

    /// Everything that is erased, on disk too, and not yet purged.
    pub(crate) fn unpurged(&self) -> Result<BTreeMap<u64, Unpurged>> {
        // ORDER: not beside a commit: what it has logged, its records may still hold, and a purge would
        // say PURGED too early. After a failed one only a restart knows.
        let _live = self.live.lock();
        self.refuse_if_poisoned()?;
        Ok(self.log.unpurged())
    }

    /// Says of erasures that their bytes have left the data files, some at a time, so that nobody who
    /// erases waits long for the log.
    pub(crate) fn say_purged(&self, sequences: &[u64]) -> Result<()> {
        self.write_owner_rows()?;
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
    pub fn log_late(&self, asked: Asked, touched: Option<(Family, Vec<u8>)>) -> Result<Option<Issued>> {
        if self.unnamed_kept() > 0 {
            return Err(hidden("saying that faces were deleted"));
        }
        let mut reduction = asked.erasure(ReceiptKind::Reduced);
        reduction.touched.extend(touched);
        let ticket = Arc::clone(&reduction.issued);
        self.poison_on_error(self.log.erase(vec![reduction]))?;
        self.advance_anchor()?;
        Ok(ticket.get().cloned())
    }
}
