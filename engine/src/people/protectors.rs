//! What turns features into bits: one for each projection key, made when it is first asked for, because an
//! account can be made while the engine serves.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use likeness_faces::pipeline::protect::Protector;
use likeness_store::keys::{KeyRing, Purpose};
use likeness_types::names::RandomId;

/// By the projection key's id.
#[derive(Default)]
pub(crate) struct Protectors(RwLock<HashMap<RandomId, Arc<Protector>>>);

impl Protectors {
    /// Of features of so many values, by this key; none if it is not in the ring, or not any more.
    pub fn of(&self, ring: &KeyRing, projection: RandomId, dim: usize) -> Option<Arc<Protector>> {
        let key = ring.by_id(Purpose::Projection, projection);
        let Some(key) = key else {
            // What was drawn from a key that is destroyed goes with it.
            self.0.write().remove(&projection);
            return None;
        };
        if let Some(known) = self.0.read().get(&projection) {
            return Some(Arc::clone(known));
        }
        let made = Arc::new(Protector::new(key.secret.expose(), dim));
        let mut known = self.0.write();
        Some(Arc::clone(known.entry(projection).or_insert(made)))
    }
}
