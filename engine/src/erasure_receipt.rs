//! The receipt of an erasure, and the nonce that connects it with a person.

use likeness_store::erasure_log::Issued;
use likeness_store::receipts;
use likeness_types::crypto;
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::{Account, CollectionName, PersonId};

/// A receipt of an erasure, and what alone can tell whom it is about.
#[derive(Debug, Clone)]
pub struct ErasureReceipt {
    /// Its place in the log.
    pub sequence: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The receipt's subject is BLAKE3, keyed with this, of the length-prefixed account, collection and
    /// PersonID. It is not kept: a digest that could be recomputed would itself name the person for ever.
    /// Under an idempotency token it can be told again, to whoever makes the same call with that token.
    pub nonce: [u8; 32],
}

/// A person erased.
#[derive(Debug, Clone)]
pub struct PersonErasure {
    /// Faces that went; 0 for a damaged record.
    pub faces: usize,
    /// The proof.
    pub receipt: ErasureReceipt,
}

pub(crate) struct Nonce(pub [u8; 32]);

impl Nonce {
    pub fn new() -> Self {
        Self(crypto::random())
    }

    pub fn subject(
        &self,
        account: &Account,
        collection: Option<&CollectionName>,
        id: Option<&PersonId>,
    ) -> [u8; 32] {
        receipts::subject(&self.0, account, collection, id)
    }

    pub fn receipt(&self, issued: Option<Issued>) -> Result<ErasureReceipt> {
        let issued = issued.ok_or_else(|| OperatorError::Store {
            doing: "reading the receipt of an erasure",
            detail: "the erasure was carried out without one".to_owned(),
        })?;
        Ok(ErasureReceipt {
            sequence: issued.sequence,
            bytes: issued.bytes,
            nonce: self.0,
        })
    }
}
