//! The scheme of a template: models, alignment, size and projection key. Templates are comparable within one scheme.

use std::fmt;

use crate::crypto;
use crate::names::RandomId;
use crate::template::Bits;

/// The version of the way features become bits; counts up when that changes.
const PROTECTION_VERSION: u32 = 1;

/// Everything a template depends on. Templates of two schemes are never compared.
#[derive(Clone, PartialEq, Eq)]
pub struct Scheme {
    /// Digest over detector, landmarks, embedder and alignment.
    pub models: [u8; 32],
    /// The same for people: the embedder's file and the beginning of that digest.
    pub models_name: String,
    /// The length of the templates.
    pub bits: Bits,
    /// Which projection key rotated the features.
    pub projection: RandomId,
}

/// A short digest of a [`Scheme`], kept with every face.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemeId(pub [u8; 16]);

impl Scheme {
    /// The digest of all of it.
    pub fn id(&self) -> SchemeId {
        let bits = u32::try_from(self.bits.get()).expect("at most 2048");
        let parts = crypto::length_prefixed(&[
            &PROTECTION_VERSION.to_le_bytes(),
            &self.models,
            &bits.to_le_bytes(),
            &self.projection.0,
        ]);
        let mut id = [0; 16];
        blake3::Hasher::new_derive_key("likeness v1 scheme")
            .update(&parts)
            .finalize_xof()
            .fill(&mut id);
        SchemeId(id)
    }
}

impl fmt::Display for Scheme {
    /// As in `fr_feature-87aacdfe/1024/3f2a9c01`: embedder, bits, projection key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.projection.to_string();
        write!(f, "{}/{}/{}", self.models_name, self.bits.get(), &key[..8])
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheme({self})")
    }
}

impl fmt::Display for SchemeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crypto::hex(&self.0))
    }
}

impl fmt::Debug for SchemeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemeId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_part_is_another_scheme() {
        let scheme = Scheme {
            models: [1; 32],
            models_name: "models".to_owned(),
            bits: Bits::B1024,
            projection: RandomId([2; 16]),
        };
        let changed = [
            Scheme {
                models: [3; 32],
                ..scheme.clone()
            },
            Scheme {
                bits: Bits::B512,
                ..scheme.clone()
            },
            Scheme {
                projection: RandomId([4; 16]),
                ..scheme.clone()
            },
        ];
        for other in changed {
            assert_ne!(scheme.id(), other.id(), "{other}");
        }
        let renamed = Scheme {
            models_name: "other words".to_owned(),
            ..scheme.clone()
        };
        assert_eq!(scheme.id(), renamed.id());
    }
}
