//! Everything of an account, or of everybody, also what cannot be read.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::gallery::Gallery;
use crate::gallery::collection::Collections;
use crate::gallery::collection_records::collection_records;
use crate::gallery::collections::{CollectionErasure, erase_collections, erase_group_of};
use likeness_store::codec::Digest;
use likeness_store::receipts::KEYS_PER_RECEIPT_MAX;
use likeness_store::vault::{Asked, Vault, hidden};
use likeness_types::act::Act;
use likeness_types::error::{Error, RequestError, Result};
use likeness_types::names::{Account, CollectionName, RandomId};

/// A deployment that was closed: from here on nobody can read its data.
#[derive(Debug, Clone)]
pub struct ClosedDeployment {
    /// Which it was.
    pub deployment: RandomId,
    /// Accounts that were closed with it.
    pub accounts: u64,
    /// People who were erased with it.
    pub persons: u64,
    /// Collections that could not be read, and were erased all the same.
    pub unreadable_collections: u64,
    /// Receipts in its erasure log.
    pub receipts: u64,
    /// The last signed checkpoint of the log.
    pub checkpoint: Vec<u8>,
}

/// An account that was closed.
#[derive(Debug, Clone)]
pub struct ClosedAccount {
    /// People who were erased with it.
    pub persons: u64,
    /// Receipts of its collections.
    pub receipts: u64,
    /// Those of its collections that could not be read.
    pub unreadable_collections: u64,
    /// Collections of the deployment that cannot be read, and of which nobody knows whose they are. The key group
    /// that they would need is gone, if they were this account's.
    pub unreadable_left: u64,
    /// The last one: of the account, and of every key that was left of it.
    pub receipt: crate::erasure_receipt::ErasureReceipt,
}

impl Gallery {
    /// Erases every collection of an account: those that serve, and those that the audit log says it made, for one
    /// that cannot be read says nothing of its account itself.
    pub fn delete_collections_of(
        &self,
        account: &Account,
        request: RandomId,
    ) -> Result<Vec<CollectionErasure>> {
        let mut names: BTreeSet<_> = self.collections_of(account).map(|c| c.name.clone()).collect();
        self.audit_log(0, &mut |audited| {
            let made = audited.entry.act == Act::CreateCollection && audited.entry.of == *account;
            names.extend(
                made.then(|| CollectionName::parse(&audited.entry.object))
                    .and_then(Result::ok),
            );
            true
        })?;
        let mut erased = Vec::with_capacity(names.len());
        for name in names {
            match self.delete_collection(account, &name, request) {
                Ok(erasure) => erased.push(erasure),
                Err(Error::Request(RequestError::NoCollection)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(erased)
    }

    /// How many collections there are that cannot be read.
    pub fn unreadable_collections(&self) -> Result<u64> {
        let collections = Arc::clone(&self.collections);
        // Among the changes, so that none is on its way.
        self.writer.alone(move |vault| {
            let unreadable = unreadable(vault, &collections.read())?;
            Ok(unreadable.len() as u64)
        })
    }

    /// Erases the collections that cannot be read, whosever they are, and whoever is left in no other one; answers
    /// how many people that were.
    pub fn erase_unreadable(&self, request: RandomId) -> Result<u64> {
        let asked = Asked {
            request,
            ..Asked::default()
        };
        let collections = Arc::clone(&self.collections);
        self.writer.alone(move |vault| {
            for group in unreadable(vault, &collections.read())?.chunks(KEYS_PER_RECEIPT_MAX) {
                erase_collections(vault, group.to_vec(), asked, None)?;
            }
            Ok(())
        })?;
        debug_assert!(
            self.collections.read().is_empty(),
            "every account was closed before"
        );
        let (mut persons, mut after, mut hides) = (0, Vec::new(), false);
        loop {
            let from = after.clone();
            let group = self
                .writer
                .alone(move |vault| erase_group_of(vault, &[], &from, asked))?;
            let Some(group) = group else { break };
            persons += group.persons as u64;
            hides |= group.hides;
            after = group.last;
        }
        self.writer.alone(|vault| vault.advance_anchor())?;
        self.purger.wake();
        if hides {
            return Err(hidden("erasing everybody"));
        }
        Ok(persons)
    }
}

/// The records of collections that memory does not know.
pub(crate) fn unreadable(vault: &Vault, known: &Collections) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let known: HashSet<Digest> = known.values().map(|collection| collection.digest).collect();
    let (mut records, gaps) = collection_records(vault, &[])?;
    if gaps > 0 {
        return Err(hidden("looking for collections that cannot be read"));
    }
    records.retain(|(key, _)| {
        let digest = key.first_chunk().map(|digest| Digest(*digest));
        digest.is_none_or(|digest| !known.contains(&digest))
    });
    Ok(records)
}
