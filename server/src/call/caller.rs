//! Who calls: a key, what it is good for, and where the call comes from.

use std::net::SocketAddr;

use likeness_engine::{Account, AccountSettings, ApiKey, CollectionName, Engine, Grant, RandomId, Scope};

use crate::refusal::Refusal;

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
    fn new(grant: Grant) -> Self {
        Self {
            account: grant.account().clone(),
            key: grant.key_id(),
            settings: grant.settings().clone(),
            grant,
        }
    }

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

/// Whom the credentials of a call identify.
#[derive(Clone)]
pub enum Identity {
    /// The holder of a valid key.
    Caller(Caller),
    /// The key is unknown, wrong, revoked or expired: the caller is not told which.
    KeyNotValid,
    /// The call shows no key.
    KeyMissing,
}

impl Identity {
    /// Looks up the text of a key.
    pub fn of_key(text: &str, engine: &Engine) -> Self {
        match ApiKey::parse(text).and_then(|key| engine.grant(&key)) {
            Some(grant) => Self::Caller(Caller::new(grant)),
            None => Self::KeyNotValid,
        }
    }

    /// The caller, if a key is valid.
    ///
    /// # Errors
    /// No key, or one that is not valid.
    pub fn caller(&self) -> Result<&Caller, Refusal> {
        match self {
            Self::Caller(caller) => Ok(caller),
            Self::KeyNotValid => Err(Refusal::KeyNotValid),
            Self::KeyMissing => Err(Refusal::KeyRequired),
        }
    }
}

/// Where a call comes from.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub SocketAddr);

impl ClientAddress {
    /// For the log: the address without the port, which says nothing of who calls.
    pub fn text(address: Option<Self>) -> String {
        address.map_or_else(String::new, |Self(address)| address.ip().to_string())
    }
}
