//! What the blocking work of a call may use.

use std::sync::Arc;

use likeness_engine::{Account, AuditEntry, CollectionName, CollectionRef, Engine, Names, Result, Scope};

use super::caller::{Caller, Needs};
use crate::convert;

/// The gates' view of the engine: what the blocking work of a call may use.
pub struct Work {
    pub engine: Arc<Engine>,
    pub account: Account,
    pub caller: Caller,
}

/// How far a call has come that has its turn more than once.
pub enum Progress<S, T> {
    /// It has another turn, and goes on from here.
    On(S),
    /// It is done.
    Done(T),
}

impl Work {
    pub fn collection(&self, name: &CollectionName) -> Result<CollectionRef> {
        self.sees(name)?;
        self.engine.collection(&self.account, name)
    }

    /// Which faces a check for people who are enrolled twice names to this caller.
    pub fn names(&self) -> Names {
        match self.caller.may(Needs::Of(Scope::Admin)) {
            Ok(()) => Names::Features,
            Err(_) => Names::Photographs,
        }
    }

    /// An act of an administrator: written down, then carried out.
    pub fn audited<T>(&self, entry: &AuditEntry, act: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
        let engine = &self.engine;
        engine.administration().audited(entry, |_| act(engine))
    }

    /// # Errors
    /// A collection that the key is not good for: it does not exist, whether there is one or not.
    pub fn sees(&self, name: &CollectionName) -> Result<()> {
        if self.caller.sees(name) {
            Ok(())
        } else {
            Err(convert::no_such_collection())
        }
    }
}
