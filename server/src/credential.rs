//! The key that a client shows with every call.

use std::fmt;
use std::path::Path;

use likeness_engine::{Account, Administration, ApiKey, NewApiKey, Result, Scopes};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use zeroize::Zeroizing;

/// Metadata key that carries it.
pub const AUTHORIZATION: &str = "authorization";
/// What stands before the key.
pub const SCHEME: &str = "Bearer ";

/// A connection that shows a key.
pub type KeyedChannel = InterceptedService<Channel, Credential>;

/// A new key of the operator's account that may do everything, for whoever has the deployment to themselves.
///
/// # Errors
/// The store failed.
pub fn all_scopes(administration: &Administration<'_>, label: &str) -> Result<ApiKey> {
    let account = Account::default();
    administration.ensure_account(&account)?;
    let new = NewApiKey {
        scopes: Scopes::ALL,
        label: label.to_owned(),
        ..NewApiKey::default()
    };
    Ok(administration.create_api_key(&account, new)?.0)
}

/// A key, or none. It is shown to the server and to nobody else.
#[derive(Clone, Default)]
pub struct Credential(Option<MetadataValue<Ascii>>);

impl Credential {
    /// The key as `likeness api-key create` printed it; none if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        // Only the form: whether it fits is the server's to say.
        ApiKey::parse(text).map(|key| Self::of(&key))
    }

    /// This key.
    pub fn of(key: &ApiKey) -> Self {
        let shown = Zeroizing::new(format!("{SCHEME}{}", &*key.text()));
        let mut value: MetadataValue<Ascii> = shown.parse().expect("letters, digits and underscores");
        value.set_sensitive(true);
        Self(Some(value))
    }

    /// Whether there is no key to show.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The key in a file, whatever space is around it.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let text = Zeroizing::new(std::fs::read_to_string(path)?);
        Self::parse(text.trim())
            .ok_or_else(|| std::io::Error::other("expected one API key, found something else"))
    }

    /// The connection that shows it.
    pub fn on(self, channel: Channel) -> KeyedChannel {
        InterceptedService::new(channel, self)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(shown) = &self.0 {
            request.metadata_mut().insert(AUTHORIZATION, shown.clone());
        }
        Ok(request)
    }
}
