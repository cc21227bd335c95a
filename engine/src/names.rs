//! The names a client chooses, each parsed once at the door: account, collection, PersonID; and the
//! random names the engine gives.

use std::fmt;

use crate::crypto;
use crate::error::{RequestError, Result};

/// Longest PersonID and collection name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

const NAME_RULE: &str = "1 to 64 bytes of A-Z a-z 0-9 _ . @ % # & -";

fn parse_name(field: &'static str, text: &str) -> Result<Box<str>> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.@%#&-".contains(&b);
    // The text itself never goes into an error: a PersonID is often an e-mail address.
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        let received = format!("{} bytes", text.len());
        return Err(RequestError::invalid(field, NAME_RULE, received).into());
    }
    if let Some(position) = text.bytes().position(|b| !allowed(b)) {
        let received = format!("another character at byte {position}");
        return Err(RequestError::invalid(field, NAME_RULE, received).into());
    }
    Ok(text.into())
}

/// The name a client knows a person by. Chosen by the client, kept sealed, never printed.
///
/// ```
/// use likeness_engine::PersonId;
/// assert!(PersonId::parse("ada@example.org").is_ok());
/// assert!(PersonId::parse("ada lovelace").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonId(Box<str>);

impl PersonId {
    /// # Errors
    /// Anything but 1 to 64 bytes of `[A-Za-z0-9_.@%#&-]`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(parse_name("person_id", text)?))
    }

    /// The name, for replies and for sealing.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonId(..)")
    }
}

/// The name of a collection of people, unique within an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(Box<str>);

impl CollectionName {
    /// # Errors
    /// Anything but 1 to 64 bytes of `[A-Za-z0-9_.@%#&-]`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(parse_name("collection", text)?))
    }

    /// The name as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose collections a call speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(Box<str>);

impl Account {
    /// # Errors
    /// Anything but 1 to 64 bytes of `[A-Za-z0-9_.@%#&-]`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(parse_name("account", text)?))
    }

    /// The account's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Account {
    /// The one account of a deployment that has no others.
    fn default() -> Self {
        Self("default".into())
    }
}

/// A random 128-bit name given by the engine: of a collection, a data key, a key, a deployment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RandomId(pub(crate) [u8; 16]);

impl RandomId {
    /// A new one, from the operating system's randomness.
    pub fn random() -> Self {
        Self(crypto::random())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        crypto::unhex(text).map(Self)
    }
}

impl fmt::Display for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crypto::hex(&self.0))
    }
}

impl fmt::Debug for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RandomId({self})")
    }
}

/// The name of one face of a person: 32 hex digits, given at enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaceId(pub(crate) RandomId);

impl FaceId {
    pub(crate) fn new() -> Self {
        Self(RandomId::random())
    }

    /// # Errors
    /// Anything but 32 hex digits.
    pub fn parse(text: &str) -> Result<Self> {
        RandomId::parse(text).map(Self).ok_or_else(|| {
            RequestError::invalid("face_id", "32 hex digits", format!("{} bytes", text.len())).into()
        })
    }
}

impl fmt::Display for FaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_character_and_length_is_taken_and_no_other() {
        for byte in 0..=127_u8 {
            let text = char::from(byte).to_string();
            let allowed = byte.is_ascii_alphanumeric() || "_.@%#&-".contains(char::from(byte));
            assert_eq!(PersonId::parse(&text).is_ok(), allowed, "byte {byte}");
        }
        assert!(PersonId::parse("").is_err());
        assert!(PersonId::parse(&"a".repeat(64)).is_ok());
        assert!(PersonId::parse(&"a".repeat(65)).is_err());
        assert!(PersonId::parse("é").is_err());
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_person_id() {
        let id = PersonId::parse("ada@example.org").expect("allowed");
        assert_eq!(format!("{id:?}"), "PersonId(..)");
        let refused = PersonId::parse("ada lovelace").expect_err("a space is not allowed");
        assert!(!format!("{refused} {refused:?}").contains("ada"));
    }
}
