//! The API key that a client sends with every call, and the metadata that carries it.

use std::fmt;
use std::path::Path;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use zeroize::Zeroizing;

use crate::resend::Resending;

/// Metadata key that carries the API key.
pub const AUTHORIZATION: &str = "authorization";
/// Precedes the API key in the value of [`AUTHORIZATION`].
pub const SCHEME: &str = "Bearer ";

/// Precedes the two numbers of an API key.
const PREFIX: &str = "likeness_";
const ID_HEX_DIGITS: usize = 32;
const SECRET_HEX_DIGITS: usize = 64;

/// A connection that sends an API key, and makes a call again whose message it had not read when it ended.
pub type KeyedChannel = InterceptedService<Resending<Channel>, Credential>;

/// An API key, or none.
#[derive(Clone, Default)]
pub struct Credential(Option<MetadataValue<Ascii>>);

impl Credential {
    /// The key as `likeness api-key create` printed it; none if the text has another form. Whether a server
    /// accepts the key is not known here.
    pub fn parse(text: &str) -> Option<Self> {
        if !has_form(text) {
            return None;
        }
        let sent = Zeroizing::new(format!("{SCHEME}{text}"));
        let mut value: MetadataValue<Ascii> = sent.parse().ok()?;
        value.set_sensitive(true);
        Some(Self(Some(value)))
    }

    /// Whether there is no key to send.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The key in a file; white space around it is ignored.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let text = Zeroizing::new(std::fs::read_to_string(path)?);
        Self::parse(text.trim())
            .ok_or_else(|| std::io::Error::other("expected one API key, found something else"))
    }

    /// The connection that sends it.
    pub fn on(self, channel: Channel) -> KeyedChannel {
        InterceptedService::new(Resending::new(channel), self)
    }
}

/// Whether a text has the form `likeness_<32 hex digits>_<64 hex digits>`.
fn has_form(text: &str) -> bool {
    let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let numbers = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    numbers.is_some_and(|(id, secret)| hex(id, ID_HEX_DIGITS) && hex(secret, SECRET_HEX_DIGITS))
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(sent) = &self.0 {
            request.metadata_mut().insert(AUTHORIZATION, sent.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_of_the_form_of_a_key_is_one_and_its_debug_print_is_empty() {
        let (id, secret) = ("0".repeat(ID_HEX_DIGITS), "f".repeat(SECRET_HEX_DIGITS));
        let key = format!("likeness_{id}_{secret}");
        let credential = Credential::parse(&key).expect("a key");
        assert!(!credential.is_none());
        assert_eq!(format!("{credential:?}"), "Credential(..)");
        for other in [
            "",
            &key[1..],
            &key[..key.len() - 1],
            &format!("{key}0"),
            &key.replace('f', "g"),
            &format!("other_{id}_{secret}"),
        ] {
            assert!(Credential::parse(other).is_none(), "{other}");
        }
    }
}
