//! The names a client chooses, each parsed once at the door: account, collection, PersonID; and the
//! random names the engine gives.

use std::fmt;

use crate::crypto;
use crate::error::{RequestError, Result};

/// Longest PersonID and collection name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

const NAME_RULE: &str = "1 to 64 bytes of A-Z a-z 0-9 _ . @ % # & -";

const TOKEN_RULE: &str = "16 to 64 bytes of A-Z a-z 0-9 _ . @ % # & -";

fn parse_name(field: &'static str, text: &str) -> Result<Box<str>> {
    parse_text(field, text, NAME_RULE)
}

fn parse_text(field: &'static str, text: &str, rule: &'static str) -> Result<Box<str>> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.@%#&-".contains(&b);
    // The text itself never goes into an error: a PersonID is often an e-mail address.
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        let received = format!("{} bytes", text.len());
        return Err(RequestError::invalid(field, rule, received).into());
    }
    if let Some(position) = text.bytes().position(|b| !allowed(b)) {
        let received = format!("another character at byte {position}");
        return Err(RequestError::invalid(field, rule, received).into());
    }
    Ok(text.into())
}

/// The name a client knows a person by. Chosen by the client, kept sealed, never printed.
///
/// ```
/// use likeness_types::names::PersonId;
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

/// Shortest token, in bytes: enough for 96 random bits in base 64.
pub(crate) const TOKEN_BYTES_MIN: usize = 16;

/// The name a client gives to one write, so that it can be sent again without being made again. Whoever
/// knows it may ask what became of the write, so it is never printed.
///
/// ```
/// use likeness_types::names::Token;
/// assert!(Token::parse("idempotency_token", "5f0c2b1e-77aa-4a7c").is_ok());
/// assert!(Token::parse("idempotency_token", "short").is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// # Errors
    /// Anything but 16 to 64 bytes of `[A-Za-z0-9_.@%#&-]`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self> {
        if text.len() < TOKEN_BYTES_MIN {
            let received = format!("{} bytes", text.len());
            return Err(RequestError::invalid(field, TOKEN_RULE, received).into());
        }
        Ok(Self(parse_text(field, text, TOKEN_RULE)?))
    }

    /// The token of one item of a stream. The slash is in no token of a client's, so it is no other's.
    pub fn of_item(&self, sequence: u64) -> Self {
        Self(format!("{}/{sequence}", self.0).into())
    }

    /// The text in UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A random 128-bit name given by the engine: of a collection, a data key, a key, a deployment.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RandomId(pub [u8; 16]);

impl RandomId {
    /// A new one, from the operating system's randomness.
    pub fn random() -> Self {
        Self(crypto::random())
    }

    /// 32 hex digits, or nothing.
    pub fn parse(text: &str) -> Option<Self> {
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
pub struct FaceId(pub RandomId);

impl FaceId {
    /// A random name.
    pub fn random() -> Self {
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
    fn a_token_has_16_to_64_of_the_allowed_characters_and_is_shown_nowhere() {
        let parse = |text: &str| Token::parse("idempotency_token", text);
        assert!(parse(&"a".repeat(16)).is_ok() && parse(&"a".repeat(64)).is_ok());
        for refused in [
            "",
            &"a".repeat(15),
            &"a".repeat(65),
            "sixteen or more/secret",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            let error = parse(refused).expect_err("not a token");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        let token = parse("not-to-be-printed").expect("allowed");
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert!(token.of_item(1) != token.of_item(2));
        assert!(
            parse("not-to-be-printed/1").is_err(),
            "no client can name another's item"
        );
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_person_id() {
        let id = PersonId::parse("ada@example.org").expect("allowed");
        assert_eq!(format!("{id:?}"), "PersonId(..)");
        let refused = PersonId::parse("ada lovelace").expect_err("a space is not allowed");
        assert!(!format!("{refused} {refused:?}").contains("ada"));
    }
}
