//! The sealed records of collections: what binds them, and where they lie.

use likeness_store::codec::{Binding, Digest};
use likeness_store::receipts::KEYS_PER_RECEIPT_MAX;
use likeness_store::records::{Family, Scan};
use likeness_store::vault::Vault;
use likeness_types::error::Result;
use likeness_types::names::RandomId;

/// What a collection's record is bound to; the digest stands for account and name.
pub(crate) fn collection_binding(deployment: RandomId, digest: Digest, id: RandomId) -> Binding<'static> {
    Binding {
        kind: "collection",
        deployment,
        account: "",
        collection: id,
        digest,
    }
}

/// A record with its key.
pub(crate) type Keyed = (Vec<u8>, Vec<u8>);

/// The records whose keys begin so, under a collection's digest at most one, unless the disk is damaged; and at how
/// many places it is.
pub(crate) fn collection_records(vault: &Vault, prefix: &[u8]) -> Result<(Vec<Keyed>, usize)> {
    let mut records = Vec::new();
    let gaps = vault.scan(Family::Collections, prefix, &[], &mut |key, record| {
        records.push((key.to_vec(), record.to_vec()));
        Scan::Continue
    })?;
    Ok((records, gaps))
}

/// Records erased together when a collection goes.
pub(crate) const ERASE_GROUP: usize = KEYS_PER_RECEIPT_MAX;
