//! The vault, and the owners of the rows that lie beside the records.

use std::ops::Deref;
use std::sync::Arc;

use likeness_store::vault::Vault;
use likeness_types::clock::Clock;

use crate::guard::comparison_limiter::{ComparisonLimiter, PersonCounters};
use crate::guard::idempotency::Tokens;

/// What a change may read and plan. Records are the vault's, and it reads as the vault; every other row has an owner of
/// its own.
pub(crate) struct Storage {
    vault: Arc<Vault>,
    pub limiter: ComparisonLimiter,
    pub tokens: Tokens,
}

impl Storage {
    pub fn new(vault: Vault, counters: Arc<PersonCounters>, clock: Clock) -> Self {
        let vault = Arc::new(vault);
        Self {
            limiter: ComparisonLimiter::new(Arc::clone(&vault), counters),
            tokens: Tokens::new(Arc::clone(&vault), clock),
            vault,
        }
    }

    /// For threads that read and write records alone.
    pub fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault)
    }
}

impl Deref for Storage {
    type Target = Vault;

    fn deref(&self) -> &Vault {
        &self.vault
    }
}
