//! The sealed rows of accounts and keys: what is in them, and what binds them.

use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::access::{AccountSettings, ApiKeyInfo, KeyDigest, Quotas, Scopes};
use likeness_store::codec;
use likeness_store::codec::{Binding, Digest, Unreadable};
use likeness_types::crypto;
use likeness_types::error::Result;
use likeness_types::names::{Account, CollectionName, RandomId};
use likeness_types::person::Timestamp;

/// The place of an account's own record among its keys'.
pub(crate) const OWN: RandomId = RandomId([0; 16]);

pub(crate) struct Entry {
    pub(crate) name: Account,
    pub(crate) settings: AccountSettings,
    pub(crate) created: Timestamp,
    pub(crate) closed: Option<Timestamp>,
    /// Set once everything of a closed account is gone.
    pub(crate) final_receipt: Option<u64>,
}

pub(crate) struct Key {
    pub(crate) info: ApiKeyInfo,
    pub(crate) digest: KeyDigest,
    pub(crate) revoked: AtomicBool,
}

/// One sealed row.
pub(crate) enum Row {
    Account,
    Key,
}

/// Which row a key of the family names.
pub(crate) fn row(id: RandomId) -> Row {
    if id == OWN { Row::Account } else { Row::Key }
}

/// What a row is bound to; the digest stands for the account.
pub(crate) fn binding(deployment: RandomId, digest: Digest, id: RandomId) -> Binding<'static> {
    Binding {
        kind: match row(id) {
            Row::Account => "account",
            Row::Key => "api key",
        },
        deployment,
        account: "",
        collection: id,
        digest,
    }
}

#[derive(Serialize, Deserialize)]
struct AccountContents<'a> {
    name: &'a str,
    region: &'a str,
    persons_max: u64,
    faces_max: u64,
    calls_per_second: u32,
    created_ms: u64,
    closed_ms: Option<u64>,
    final_receipt: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct KeyContents<'a> {
    account: &'a str,
    digest: [u8; 32],
    /// The first eight; a byte behind the contents has the next eight.
    scopes: u8,
    collections: Option<Vec<&'a str>>,
    created_ms: u64,
    expires_ms: Option<u64>,
    label: &'a str,
}

impl Entry {
    pub(crate) fn to_contents(&self) -> Zeroizing<Vec<u8>> {
        crypto::plain_bytes(&AccountContents {
            name: self.name.as_str(),
            region: &self.settings.region,
            persons_max: self.settings.quotas.persons,
            faces_max: self.settings.quotas.faces,
            calls_per_second: self.settings.quotas.calls_per_second,
            created_ms: self.created.0,
            closed_ms: self.closed.map(|closed| closed.0),
            final_receipt: self.final_receipt,
        })
    }

    pub(crate) fn from_contents(contents: &[u8]) -> Result<Self, Unreadable> {
        let contents: AccountContents<'_> = codec::from_contents(contents)?;
        Ok(Self {
            name: Account::parse(contents.name).map_err(|_| Unreadable)?,
            settings: AccountSettings {
                region: contents.region.to_owned(),
                quotas: Quotas {
                    persons: contents.persons_max,
                    faces: contents.faces_max,
                    calls_per_second: contents.calls_per_second,
                },
            },
            created: Timestamp(contents.created_ms),
            closed: contents.closed_ms.map(Timestamp),
            final_receipt: contents.final_receipt,
        })
    }
}

impl Key {
    pub(crate) fn to_contents(&self) -> Zeroizing<Vec<u8>> {
        let only = self.info.collections.as_ref();
        let collections = only.map(|only| only.iter().map(CollectionName::as_str).collect());
        let [scopes, more_scopes] = self.info.scopes.0.to_le_bytes();
        let contents = KeyContents {
            account: self.info.account.as_str(),
            digest: *self.digest.as_bytes(),
            scopes,
            collections,
            created_ms: self.info.created.0,
            expires_ms: self.info.expires.map(|expires| expires.0),
            label: &self.info.label,
        };
        crypto::plain_bytes(&(contents, more_scopes))
    }

    pub(crate) fn from_contents(id: RandomId, contents: &[u8]) -> Result<Self, Unreadable> {
        let (contents, rest): (KeyContents<'_>, _) = codec::first_of_contents(contents)?;
        // A key from before there were more has none of them.
        let more_scopes = rest.first().copied().unwrap_or(0);
        let names = |only: Vec<&str>| only.into_iter().map(CollectionName::parse).collect::<Result<_>>();
        let collections = contents.collections.map(names).transpose();
        Ok(Self {
            info: ApiKeyInfo {
                id,
                account: Account::parse(contents.account).map_err(|_| Unreadable)?,
                scopes: Scopes(u16::from_le_bytes([contents.scopes, more_scopes])),
                collections: collections.map_err(|_| Unreadable)?,
                created: Timestamp(contents.created_ms),
                expires: contents.expires_ms.map(Timestamp),
                label: contents.label.to_owned(),
            },
            digest: KeyDigest::from_bytes(contents.digest),
            revoked: AtomicBool::new(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;

    #[test]
    fn a_key_of_all_scopes_from_before_there_were_more_than_eight_has_none_of_the_later_ones() {
        let id = RandomId([7; 16]);
        let key = Key {
            info: ApiKeyInfo {
                id,
                account: Account::default(),
                scopes: Scopes::ALL,
                collections: None,
                created: Timestamp(1),
                expires: None,
                label: "door".to_owned(),
            },
            digest: KeyDigest::from_bytes([1; 32]),
            revoked: AtomicBool::new(false),
        };
        let contents = key.to_contents();
        let scopes = |contents: &[u8]| Key::from_contents(id, contents).map(|key| key.info.scopes);
        assert_eq!(scopes(&contents), Ok(Scopes::ALL));
        let earlier = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Duplicates);
        assert_eq!(scopes(&contents[..contents.len() - 1]), Ok(earlier.collect()));
    }
}
