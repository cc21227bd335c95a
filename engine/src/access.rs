//! Who may do what: scopes, and the keys that callers show.
//!
//! A key is `likeness_<id>_<secret>`: its id is public, its secret 256 random bits of which only a keyed
//! digest is kept, so that neither the data directory nor the key store by itself holds anything that opens
//! the service.

pub(crate) mod accounts;
pub(crate) mod administration;
pub(crate) mod census;
pub(crate) mod closing;

use std::collections::BTreeSet;
use std::fmt;

use zeroize::Zeroizing;

use likeness_types::crypto;
use likeness_types::crypto::Secret;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{Account, CollectionName, RandomId};
use likeness_types::person::{EXPIRY_YEARS_MAX, Timestamp};

/// Longest label of a key and name of a region, in bytes.
pub const LABEL_BYTES_MAX: usize = 64;

/// Collections that one key can be restricted to.
pub const KEY_COLLECTIONS_MAX: usize = 100;

/// Keys of one account.
pub const API_KEYS_MAX: usize = 1000;

/// Accounts of a deployment.
pub const ACCOUNTS_MAX: usize = 10_000;

const PREFIX: &str = "likeness";

const DIGEST_CONTEXT: &str = "likeness v1 api key";

const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Reading who is enrolled, and what is kept of them; no faces are compared.
    Read,
    /// Enrolling people, and changing what is kept of them.
    Enrol,
    /// Enrolling from features instead of photographs, together with [`Self::Enrol`].
    Import,
    /// Comparing a face with everybody.
    Search,
    /// Comparing a face with one person, or two photographs.
    Verify,
    /// Erasing people and their faces.
    Erase,
    /// Collections, keys and accounts.
    Admin,
    /// Receipts of erasure, residue audits and logs.
    Audit,
    /// Comparing everybody in a collection with everybody else.
    Duplicates,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Enrol,
        Self::Import,
        Self::Search,
        Self::Verify,
        Self::Erase,
        Self::Admin,
        Self::Audit,
        Self::Duplicates,
    ];

    /// Its name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Enrol => "enrol",
            Self::Import => "import",
            Self::Search => "search",
            Self::Verify => "verify",
            Self::Erase => "erase",
            Self::Admin => "admin",
            Self::Audit => "audit",
            Self::Duplicates => "duplicates",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(pub(crate) u16);

impl Scopes {
    /// Every one.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// Whether a scope is among them.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Each of them, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A key as its holder has it. It cannot be printed or copied; [`Self::text`] is for the one time that it
/// is shown.
pub struct ApiKey {
    pub(crate) id: RandomId,
    secret: Secret,
}

impl ApiKey {
    pub(crate) fn random() -> Self {
        Self {
            id: RandomId::random(),
            secret: Secret::random(),
        }
    }

    /// Reads `likeness_<32 hex digits>_<64 hex digits>`; nothing is said of what was wrong with another text.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix('_')?;
        let (id, secret) = rest.split_once('_')?;
        let mut secret = crypto::unhex::<32>(secret)?;
        Some(Self {
            id: RandomId::parse(id)?,
            secret: Secret::take(&mut secret),
        })
    }

    /// The key's public name.
    pub fn id(&self) -> RandomId {
        self.id
    }

    /// What whoever has it can do all that it may.
    pub fn text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(crypto::hex(self.secret.expose()));
        Zeroizing::new(format!("{PREFIX}_{}_{}", self.id, &*secret))
    }

    /// What is kept of it.
    pub(crate) fn digest(&self, deployment: &Secret) -> KeyDigest {
        let parts: [&[u8]; 2] = [&self.id.0, self.secret.expose()];
        KeyDigest::from_bytes(crypto::keyed_digest(deployment, DIGEST_CONTEXT, &parts))
    }
}

/// The digest of a key. Two are compared in constant time.
pub(crate) type KeyDigest = blake3::Hash;

/// What a new key is to be able to do.
#[derive(Debug, Clone, Default)]
pub struct NewApiKey {
    /// At least one.
    pub scopes: Scopes,
    /// Collections that it is restricted to; none for all of the account's, also future ones.
    pub collections: Option<BTreeSet<CollectionName>>,
    /// When it ends by itself; none for never.
    pub expires: Option<Timestamp>,
    /// What it is for, for people.
    pub label: String,
}

impl NewApiKey {
    /// # Errors
    /// No scope, too many collections, a label too long, an expiry that is past or too far away.
    pub(crate) fn checked(self, now: Timestamp) -> Result<Self> {
        if self.scopes.is_empty() {
            return Err(RequestError::invalid("scopes", "at least one scope", "none").into());
        }
        if let Some(count) = self.collections.as_ref().map(BTreeSet::len)
            && !(1..=KEY_COLLECTIONS_MAX).contains(&count)
        {
            let expected = format!("1 to {KEY_COLLECTIONS_MAX} collections, or no restriction");
            return Err(RequestError::invalid("collections", expected, count.to_string()).into());
        }
        check_label("label", &self.label)?;
        if let Some(expires) = self.expires {
            let latest = now.0.saturating_add(EXPIRY_YEARS_MAX * YEAR_MS);
            if expires <= now || expires.0 > latest {
                let expected = format!("a time to come within {EXPIRY_YEARS_MAX} years");
                let received = if expires <= now {
                    "a time past"
                } else {
                    "one later"
                };
                return Err(RequestError::invalid("expires", expected, received).into());
            }
        }
        Ok(self)
    }
}

/// Printable, and short.
pub(crate) fn check_label(field: &'static str, label: &str) -> Result<()> {
    let expected = || format!("at most {LABEL_BYTES_MAX} bytes without control characters");
    if label.len() > LABEL_BYTES_MAX {
        return Err(RequestError::invalid(field, expected(), format!("{} bytes", label.len())).into());
    }
    if label.chars().any(char::is_control) {
        return Err(RequestError::invalid(field, expected(), "a control character").into());
    }
    Ok(())
}

/// A key, as its account sees it; the secret is nobody's but its holder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyInfo {
    /// Its public name.
    pub id: RandomId,
    /// Whose it is.
    pub account: Account,
    /// What it may do.
    pub scopes: Scopes,
    /// Collections that it is restricted to, by name.
    pub collections: Option<BTreeSet<CollectionName>>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// What it is for.
    pub label: String,
}

/// How much an account may hold and ask. Zero is no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// People in all its collections together.
    pub persons: u64,
    /// Faces of all of them.
    pub faces: u64,
    /// Calls a second, of all its keys together.
    pub calls_per_second: u32,
}

/// What an account is told, and can be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountSettings {
    /// The one region it may be served in; empty for any.
    pub region: String,
    /// How much it may hold and ask.
    pub quotas: Quotas,
}

impl AccountSettings {
    pub(crate) fn checked(self) -> Result<Self> {
        check_label("region", &self.region)?;
        Ok(self)
    }
}

/// An account, as its operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// Its name, for life.
    pub name: Account,
    /// What can be changed.
    pub settings: AccountSettings,
    /// When it was made.
    pub created: Timestamp,
    /// When it was closed, if it was.
    pub closed: Option<Timestamp>,
    /// Number of its final receipt, once its end is carried out.
    pub final_receipt: Option<u64>,
    /// Keys that have not been revoked; expired ones count.
    pub keys: usize,
}

/// Faces of one account from which the operator is told, unless it is set otherwise: one jurisdiction wants to
/// know of whoever stores so many.
pub const FACES_WARNING: u64 = 100_000;

/// What an account holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Its collections.
    pub collections: u64,
    /// People in all of them together, damaged ones included.
    pub persons: u64,
    /// Faces that can be found.
    pub faces: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_shown_and_in_no_other_form() {
        let key = ApiKey::random();
        let text = key.text();
        let ring = Secret::random();
        let read = ApiKey::parse(&text).expect("as it was shown");
        assert_eq!((read.id, read.digest(&ring)), (key.id, key.digest(&ring)));
        for other in [
            "",
            "likeness",
            "likeness__",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{}0", &*text),
            &text.replace("likeness", "Likeness"),
        ] {
            assert!(ApiKey::parse(other).is_none());
        }
    }

    #[test]
    fn a_digest_depends_on_id_secret_and_deployment() {
        let (one, other, ring) = (ApiKey::random(), ApiKey::random(), Secret::random());
        let mixed = ApiKey {
            id: one.id,
            secret: Secret::take(&mut { *other.secret.expose() }),
        };
        assert_ne!(one.digest(&ring), other.digest(&ring));
        assert_ne!(one.digest(&ring), mixed.digest(&ring));
        assert_ne!(one.digest(&ring), one.digest(&Secret::random()));
    }

    #[test]
    fn a_set_of_scopes_has_what_was_put_in() {
        for scope in Scope::ALL {
            let set = Scopes::from_iter([scope]);
            assert!(
                Scope::ALL
                    .iter()
                    .all(|other| set.has(*other) == (*other == scope))
            );
        }
        assert_eq!(Scopes::ALL.iter().count(), Scope::ALL.len());
        assert!(Scopes::default().is_empty());
    }

    #[test]
    fn a_new_key_is_held_to_its_limits() {
        let now = Timestamp(1_000_000);
        let new = |change: &dyn Fn(&mut NewApiKey)| {
            let mut key = NewApiKey {
                scopes: Scopes::ALL,
                ..NewApiKey::default()
            };
            change(&mut key);
            key.checked(now).is_ok()
        };
        assert!(new(&|_| {}));
        assert!(!new(&|key| key.scopes = Scopes::default()));
        assert!(!new(&|key| key.collections = Some(BTreeSet::new())));
        assert!(!new(&|key| key.label = "x".repeat(65)));
        assert!(!new(&|key| key.label = "a\nb".to_owned()));
        assert!(!new(&|key| key.expires = Some(now)));
        assert!(new(&|key| key.expires = Some(Timestamp(now.0 + 1))));
        assert!(!new(&|key| key.expires = Some(Timestamp(u64::MAX))));
    }
}
