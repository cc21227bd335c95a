//! Opening one person's record at a start: what needs a cipher and no order, on any core.

use crate::gallery::collection::Collection;
use crate::gallery::load::known::{Known, split};
use likeness_store::codec;
use likeness_store::codec::{Digest, Header, Record};
use likeness_store::slots::AtRest;
use likeness_store::vault::{Found, Vault};
use likeness_types::error::Result;
use likeness_types::names::RandomId;
use likeness_types::person::Person;

/// What opens the records of people, on any core.
pub(super) struct Opening<'a> {
    pub vault: &'a Vault,
    pub keys: &'a AtRest,
    pub known: &'a Known,
}

/// A record of the family of people.
pub(super) struct Read<'a> {
    /// Empty where nothing is to be erased under it.
    pub key: Vec<u8>,
    pub header: Option<Header>,
    pub whose: Whose<'a>,
}

pub(super) enum Whose<'a> {
    /// Its key is no person's.
    Nobodys,
    /// This person's, whose data key is gone.
    Keyless(&'a Collection, Digest),
    /// Of this collection, which does not serve.
    Of(RandomId),
    /// This person's, if it can be read.
    Somebodys(&'a Collection, Digest, Option<Box<Person>>),
}

impl<'a> Opening<'a> {
    pub fn person(&self, key: &[u8], record: &[u8]) -> Result<Read<'a>> {
        let record = Record::parse(record).ok();
        let whose = self.whose(key, record.as_ref())?;
        let header = record.map(|record| record.header);
        let key = match whose {
            Whose::Somebodys(..) => Vec::new(),
            _ => key.to_vec(),
        };
        Ok(Read { key, header, whose })
    }

    fn whose(&self, key: &[u8], record: Option<&Record<'_>>) -> Result<Whose<'a>> {
        let Some((id, digest)) = split(key).map(|(id, digest)| (RandomId(id.0), Digest(digest.0))) else {
            return Ok(Whose::Nobodys);
        };
        let Some(collection) = self.known.by_id.get(&id) else {
            return Ok(Whose::Of(id));
        };
        let binding = collection.person_binding(self.vault.ring.deployment, digest);
        Ok(match self.vault.open_at_rest(self.keys, record, &binding)? {
            Found::Nothing => Whose::Keyless(collection, digest),
            Found::Damaged(_) => Whose::Somebodys(collection, digest, None),
            Found::Open { contents, .. } => {
                let person = codec::person_from_contents(&contents).ok();
                Whose::Somebodys(collection, digest, person.map(Box::new))
            }
        })
    }
}
