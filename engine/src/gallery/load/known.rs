//! The collections that are known before the first person is read, and how a record key is taken apart.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::gallery::collection::Collection;
use likeness_store::codec::Digest;
use likeness_types::names::RandomId;

/// The collections that there are: all of them are known before the first person is read.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) by_id: HashMap<RandomId, Arc<Collection>>,
    pub(crate) damaged: HashSet<RandomId>,
}

/// A record key is two 16-byte names.
pub(crate) fn split(key: &[u8]) -> Option<(Digest, RandomId)> {
    let (first, second) = key.split_first_chunk::<16>()?;
    Some((Digest(*first), RandomId(second.try_into().ok()?)))
}
