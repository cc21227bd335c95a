//! Who calls: a key is looked up as the call arrives, and whoever has none is refused before the message is
//! read.

use std::net::SocketAddr;
use std::sync::Arc;

use likeness_engine::{Account, AccountSettings, ApiKey, CollectionName, Engine, Grant, RandomId, Scope};
use likeness_proto::credential::{AUTHORIZATION, SCHEME};
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use zeroize::Zeroizing;

use crate::connections::Link;
use crate::service::Service;
use crate::status::Refusal;

/// What an RPC asks of its caller's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// That it is one.
    AnyKey,
    /// A scope.
    Of(Scope),
    /// A scope, and all collections of the account: what is done cannot be done to some of them.
    WholeAccount(Scope),
    /// A scope, by a key of the operator's own account: what is done concerns everybody.
    Operator(Scope),
}

/// Who calls, as long as the key is good.
#[derive(Clone)]
pub struct Caller {
    /// Whose key it is: everything that the call sees and changes is this account's.
    pub account: Account,
    /// The key's public name.
    pub key: RandomId,
    /// Region and quotas of the account, as they were when the call arrived.
    pub settings: AccountSettings,
    grant: Grant,
}

impl Caller {
    /// # Errors
    /// The account is bound to another region. The operator may still administer.
    pub fn at_home(&self, region: &str, needs: Needs) -> Result<(), Refusal> {
        let bound = self.settings.region.as_str();
        let administers = matches!(needs, Needs::Operator(_)) && self.is_operator();
        if bound.is_empty() || bound == region || administers {
            Ok(())
        } else {
            Err(Refusal::WrongRegion)
        }
    }

    /// # Errors
    /// A scope that the key lacks, or collections that it is restricted to.
    pub fn may(&self, needs: Needs) -> Result<(), Refusal> {
        self.still()?;
        let (scope, whole, operator) = match needs {
            Needs::AnyKey => return Ok(()),
            Needs::Of(scope) => (scope, false, false),
            Needs::WholeAccount(scope) => (scope, true, false),
            Needs::Operator(scope) => (scope, true, true),
        };
        if !self.grant.may(scope) {
            return Err(Refusal::ScopeMissing(scope));
        }
        if whole && self.grant.is_restricted() {
            return Err(Refusal::KeyRestricted);
        }
        if operator && !self.is_operator() {
            return Err(Refusal::OperatorOnly);
        }
        Ok(())
    }

    /// Whether the key has a scope, beside the one that the call asks for.
    pub fn has(&self, scope: Scope) -> bool {
        self.grant.may(scope)
    }

    /// Whether the key belongs to the operator's account.
    pub fn is_operator(&self) -> bool {
        self.account == Account::default()
    }

    /// # Errors
    /// The key was revoked or has expired since the call began.
    pub fn still(&self) -> Result<(), Refusal> {
        if self.grant.is_live() {
            Ok(())
        } else {
            Err(Refusal::KeyNotValid)
        }
    }

    /// Whether the key is good for a collection of this name. The others do not exist for it.
    pub fn sees(&self, collection: &CollectionName) -> bool {
        self.grant.sees(collection)
    }
}

/// What a call shows, in its request's extensions.
#[derive(Clone)]
pub enum Shown {
    /// A key that fits.
    Key(Caller),
    /// A key that is unknown, wrong, revoked or expired: which, nobody is told.
    NotValid,
    /// None.
    Nothing,
}

/// Where a call comes from, in its request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub SocketAddr);

impl ClientAddress {
    /// As it was noted when the request arrived.
    pub fn of<T>(request: &Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// For the log: the address without the port, which says nothing of who calls.
    pub fn text(address: Option<Self>) -> String {
        address.map_or_else(String::new, |Self(address)| address.ip().to_string())
    }
}

/// Looks up the key that a call shows, as it arrives. Refuses nobody: health is everybody's.
pub fn note(
    engine: Arc<Engine>,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |mut request| {
        let shown = shown(request.metadata(), &engine);
        let link = Link::of(&request).cloned();
        if let (Some(link), Shown::Key(caller)) = (&link, &shown) {
            link.show_key(&caller.account);
        }
        // Nobody further in needs it, and so nobody can let it slip.
        request.metadata_mut().remove(AUTHORIZATION);
        if let Some(link) = link {
            request.extensions_mut().insert(ClientAddress(link.address()));
        }
        request.extensions_mut().insert(shown);
        Ok(request)
    }
}

fn shown(metadata: &MetadataMap, engine: &Engine) -> Shown {
    let mut values = metadata.get_all(AUTHORIZATION).iter();
    let (Some(value), rest) = (values.next(), values.next()) else {
        return Shown::Nothing;
    };
    let text = value.to_str().ok().filter(|_| rest.is_none());
    let key = text.and_then(|text| text.strip_prefix(SCHEME)).map(str::to_owned);
    let key = key.map(Zeroizing::new).and_then(|text| ApiKey::parse(&text));
    match key.and_then(|key| engine.grant(&key)) {
        Some(grant) => Shown::Key(Caller {
            account: grant.account().clone(),
            key: grant.key_id(),
            settings: grant.settings().clone(),
            grant,
        }),
        None => Shown::NotValid,
    }
}

/// Who calls.
///
/// # Errors
/// Nobody that is known.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    match request.extensions().get::<Shown>() {
        Some(Shown::Key(caller)) => Ok(caller.clone()),
        Some(Shown::NotValid) => Err(Refusal::KeyNotValid),
        // Also where the lookup was forgotten: then nobody is let in.
        Some(Shown::Nothing) | None => Err(Refusal::KeyRequired),
    }
}

/// Lets a request in, or not, before its message is read.
#[derive(Clone)]
pub enum Door {
    /// Refuses nobody.
    Open,
    /// Refuses whoever shows no key.
    Keyed(Service),
}

impl Door {
    /// A service behind this door.
    pub fn before<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }
}

impl Interceptor for Door {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match (&self, caller(&request)) {
            (Self::Keyed(service), Err(refusal)) => {
                Err(service.turn_away("", refusal, ClientAddress::of(&request)))
            }
            _ => Ok(request),
        }
    }
}
