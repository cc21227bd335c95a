//! Keys and receipts, as the service asks for them.

use crate::access_log::row::Part;
use crate::call::Call;
use crate::engine::{CollectionRef, Engine};
use crate::gallery::collections::CollectionErasure;
use crate::gallery::rotate::Rotation;
use likeness_store::erasure_log::Backlog;
use likeness_store::keys::Purpose;
use likeness_types::Inside;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{Account, PersonId};
use likeness_types::span::Step;

/// The reader of the erasure log.
#[derive(Debug, Clone)]
pub enum ReceiptReader {
    /// Sees every receipt.
    Operator,
    /// Sees the receipts of its own erasures, and those of no account: keys that sign, logs that were accepted.
    Account(Account),
}

impl ReceiptReader {
    /// The account, unless it is the operator's.
    pub fn of(account: &Account) -> Self {
        match *account == Account::default() {
            true => Self::Operator,
            false => Self::Account(account.clone()),
        }
    }

    fn account(&self) -> Option<&Account> {
        match self {
            Self::Operator => None,
            Self::Account(account) => Some(account),
        }
    }
}

/// The erasure log at one moment, as a reader sees it.
#[derive(Debug, Clone)]
pub struct ErasureStatus {
    /// Receipts.
    pub receipts: u64,
    /// Erasures that are not purged.
    pub backlog: Backlog,
    /// The latest signed checkpoint, which counts the keys of all accounts: the operator's alone.
    pub checkpoint: Option<Vec<u8>>,
}

impl Engine {
    /// Wraps every data key under a new wrapping key, online, and destroys the old one; goes on with a
    /// rotation that was interrupted. `progress` is told how many slots are done, and how many there
    /// are. Records are not touched.
    ///
    /// # Errors
    /// The store or the key store failed; calling it again goes on.
    pub fn rotate_wrapping(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Rotation> {
        let _one_at_a_time = self.rotating.lock();
        self.gallery
            .rotate_wrapping(|ring| self.store.save(ring, Inside), progress)
    }

    /// Lets a new key sign receipts and checkpoints, online; the last signature of the old one vouches for it
    /// in the log. Answers the new public key. Goes on with a rotation that was interrupted.
    ///
    /// # Errors
    /// The store or the key store failed; calling it again, or the next start, goes on.
    pub fn rotate_signing(&self) -> Result<[u8; 32]> {
        let _one_at_a_time = self.rotating.lock();
        self.gallery.rotate_signing(|ring| self.store.save(ring, Inside))
    }

    /// Whether a rotation of the wrapping key was interrupted.
    pub fn is_rotation_unfinished(&self) -> bool {
        self.ring.all(Purpose::Wrapping).len() > 1
    }

    /// Erases every collection of an account, and destroys the key that its templates were made with.
    /// Nobody can be enrolled under the account again.
    ///
    /// # Errors
    /// The store or the key store failed; calling it again goes on.
    pub fn destroy_key_group(&self, account: &Account, call: &mut Call) -> Result<Vec<CollectionErasure>> {
        let request = call.request();
        call.step(Step::Store, || {
            self.administration().destroy_key_group(account, request)
        })
    }

    /// Fingerprints of everything that is on disk of one person, for [`likeness_store::residue::scan`] after the
    /// erasure. Nothing can be read from them; who changes later needs new ones.
    ///
    /// # Errors
    /// Nobody has that PersonID.
    pub fn prepare_residue_audit(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        call: &mut Call,
    ) -> Result<Vec<u8>> {
        let prints = call.step(Step::Store, || self.gallery.fingerprints(&collection.0, id))?;
        if let Ok(person) = self.gallery.person(&collection.0, id) {
            self.note(call, &collection.0, &person, Part::Subject);
        }
        Ok(prints)
    }

    /// What is erased and not yet purged.
    pub fn backlog(&self) -> Backlog {
        self.gallery.backlog()
    }

    /// Damaged data files that were met since the start: what lies in them cannot be read, and nothing is purged.
    pub fn quarantined_files(&self) -> usize {
        self.gallery.quarantined_files()
    }

    /// How long the erasure log is, and what is not purged, as far as a reader sees it.
    pub fn erasure_status(&self, reader: &ReceiptReader) -> ErasureStatus {
        let account = reader.account();
        let is_operator = account.is_none();
        ErasureStatus {
            receipts: self.gallery.receipts_for(account),
            backlog: self.gallery.backlog_for(account),
            checkpoint: self.gallery.checkpoint().filter(|_| is_operator),
        }
    }

    /// The bytes of one receipt, as [`likeness_store::receipts::Receipt`] reads them.
    ///
    /// # Errors
    /// There is none of that number that the reader sees, or the log cannot be read.
    pub fn receipt(&self, reader: &ReceiptReader, sequence: u64) -> Result<Vec<u8>> {
        if !self.gallery.is_receipt_seen_by(reader.account(), sequence) {
            return Err(RequestError::NoReceipt.into());
        }
        Ok(self.gallery.receipt(sequence)?.ok_or(RequestError::NoReceipt)?)
    }

    /// The next receipts from a number on that the reader sees, and the number of the one after them.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn receipts(
        &self,
        reader: &ReceiptReader,
        first: u64,
        items_max: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<u64>)> {
        let (page, next) = self.gallery.receipts_seen_by(reader.account(), first, items_max);
        let read = |sequence| Ok(self.gallery.receipt(sequence)?.ok_or(RequestError::NoReceipt)?);
        let receipts = page.into_iter().map(read).collect::<Result<_>>()?;
        Ok((receipts, next))
    }
}
