//! Verifies an erasure log offline, from its bytes and from the checkpoint and key that the verifier trusts.

use ed25519_dalek::VerifyingKey;

use crate::receipts::checkpoint::Checkpoint;
use crate::receipts::{Malformed, Receipt, ReceiptKind, hash, signed_by, signing_key_id};
use likeness_types::names::RandomId;

/// What a verified log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSummary {
    /// Whose log it is.
    pub deployment: RandomId,
    /// Receipts in it.
    pub size: u64,
    /// Hash of the last of them.
    pub head: [u8; 32],
    /// Erasures.
    pub erased: u64,
    /// Removals from people who stay.
    pub reduced: u64,
    /// Erasures and removals whose bytes have left the data files.
    pub purged: u64,
    /// Keys destroyed.
    pub keys_destroyed: u64,
    /// Times that the operator accepted a log shorter than its anchor.
    pub overrides: u64,
    /// The public keys, oldest first. The first one has to be known from elsewhere.
    pub public_keys: Vec<[u8; 32]>,
}

/// Why a log is not what it should be. `at` is the receipt's place, from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Nothing in it.
    #[error("the log is empty: expected a first receipt with the signing key")]
    Empty,
    /// The log ends inside a receipt, or holds something else.
    #[error("receipt {at}: {malformed}")]
    Malformed {
        /// Where.
        at: u64,
        /// What.
        malformed: Malformed,
    },
    /// A receipt was removed, moved or put in.
    #[error("receipt {at}: expected {expected}, found {found}: receipts were removed, moved or put in")]
    OutOfPlace {
        /// Where.
        at: u64,
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// A receipt was changed, or the one before it.
    #[error("receipt {at}: it does not continue the receipt before it: one of the two was changed")]
    Broken {
        /// Where.
        at: u64,
    },
    /// A signature does not fit.
    #[error("receipt {at}: the signature does not fit: it was changed, or made with another key")]
    Signature {
        /// Where.
        at: u64,
    },
    /// The log says that something was purged that it does not say was erased.
    #[error("receipt {at}: it completes receipt {about}, which is no unfinished erasure")]
    Unfounded {
        /// Where.
        at: u64,
        /// What it speaks of.
        about: u64,
    },
    /// The log is shorter than it once was.
    #[error("the log has {size} receipts; the checkpoint has seen {expected}: its end is missing")]
    Truncated {
        /// Receipts found.
        size: u64,
        /// Receipts that there were.
        expected: u64,
    },
    /// The log is not the one that the checkpoint saw.
    #[error("the log's first {size} receipts are not those that the checkpoint has seen")]
    Forked {
        /// Receipts at the checkpoint.
        size: u64,
    },
    /// The checkpoint is not from this log's deployment or keys, or was changed.
    #[error("the checkpoint is not signed with a key of this log")]
    ForeignCheckpoint,
    /// The first key is not the one that the verifier trusts.
    #[error("the log begins with another signing key than the trusted one")]
    ForeignKey,
}

/// Verifies a whole log: every link, every signature, every purge, and, where the verifier has them, an
/// earlier checkpoint and the public key that the log must begin with.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn verify(
    log: &[u8],
    earlier: Option<&[u8]>,
    trusted: Option<&[u8; 32]>,
) -> Result<ChainSummary, ChainError> {
    let mut walk = Walk::default();
    let earlier_at = earlier
        .map(|bytes| Checkpoint::parse(bytes).map_err(|_| ChainError::ForeignCheckpoint))
        .transpose()?;
    let mut rest = log;
    let mut seen = None;
    while !rest.is_empty() {
        let at = walk.size;
        let (receipt, length) =
            Receipt::parse(rest).map_err(|malformed| ChainError::Malformed { at, malformed })?;
        walk.step(&receipt, &rest[..length])?;
        if earlier_at.is_some_and(|checkpoint| checkpoint.size == walk.size) {
            seen = Some(walk.head);
        }
        rest = &rest[length..];
    }
    let summary = walk.finish()?;
    if trusted.is_some_and(|key| summary.public_keys.first() != Some(key)) {
        return Err(ChainError::ForeignKey);
    }
    if let (Some(checkpoint), Some(bytes)) = (earlier_at, earlier) {
        let signed =
            |key: &[u8; 32]| VerifyingKey::from_bytes(key).is_ok_and(|key| checkpoint.is_signed(&key, bytes));
        if checkpoint.deployment != summary.deployment || !summary.public_keys.iter().any(signed) {
            return Err(ChainError::ForeignCheckpoint);
        }
        match seen {
            Some(head) if head == checkpoint.head => {}
            Some(_) => {
                return Err(ChainError::Forked {
                    size: checkpoint.size,
                });
            }
            None => {
                return Err(ChainError::Truncated {
                    size: summary.size,
                    expected: checkpoint.size,
                });
            }
        }
    }
    Ok(summary)
}

#[derive(Default)]
struct Walk {
    deployment: Option<RandomId>,
    size: u64,
    head: [u8; 32],
    keys: Vec<VerifyingKey>,
    unfinished: std::collections::BTreeSet<u64>,
    counts: [u64; 5],
}

impl Walk {
    fn step(&mut self, receipt: &Receipt, bytes: &[u8]) -> Result<(), ChainError> {
        let at = self.size;
        if receipt.sequence != at {
            return Err(ChainError::OutOfPlace {
                at,
                expected: format!("sequence {at}"),
                found: format!("sequence {}", receipt.sequence),
            });
        }
        if receipt.previous != self.head
            || *self.deployment.get_or_insert(receipt.deployment) != receipt.deployment
        {
            return Err(ChainError::Broken { at });
        }
        // The first receipt brings the key that it is signed with; a later one is signed with the key
        // before it, which so vouches for the new one.
        let brought = (receipt.kind == ReceiptKind::SigningKey)
            .then(|| VerifyingKey::from_bytes(&receipt.subject))
            .transpose()
            .map_err(|_| ChainError::Signature { at })?;
        let key = self
            .keys
            .last()
            .or(brought.as_ref())
            .ok_or(ChainError::Signature { at })?;
        if signing_key_id(key) != receipt.signing_key || !signed_by(key, bytes) {
            return Err(ChainError::Signature { at });
        }
        self.keys.extend(brought);
        let [erased, reduced, purged, overrides, destroyed] = &mut self.counts;
        match receipt.kind {
            ReceiptKind::SigningKey => {}
            ReceiptKind::Override => *overrides += 1,
            ReceiptKind::Erased | ReceiptKind::Reduced => {
                *(if receipt.kind == ReceiptKind::Erased {
                    erased
                } else {
                    reduced
                }) += 1;
                *destroyed += receipt.keys.len() as u64;
                self.unfinished.insert(at);
            }
            ReceiptKind::Purged => {
                if !self.unfinished.remove(&receipt.about) {
                    return Err(ChainError::Unfounded {
                        at,
                        about: receipt.about,
                    });
                }
                *purged += 1;
            }
        }
        self.size += 1;
        self.head = hash(bytes);
        Ok(())
    }

    fn finish(self) -> Result<ChainSummary, ChainError> {
        let [erased, reduced, purged, overrides, keys_destroyed] = self.counts;
        Ok(ChainSummary {
            deployment: self.deployment.ok_or(ChainError::Empty)?,
            size: self.size,
            head: self.head,
            erased,
            reduced,
            purged,
            keys_destroyed,
            overrides,
            public_keys: self.keys.iter().map(VerifyingKey::to_bytes).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::receipts::DestroyedKey;
    use likeness_types::person::Timestamp;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// A log with a key, two erasures, their purges in another order, and a change of keys between.
    fn log() -> Vec<Vec<u8>> {
        let (mut receipts, mut head) = (Vec::<Vec<u8>>::new(), [0; 32]);
        let mut add = |kind, signer: u8, subject: [u8; 32], about| {
            let receipt = Receipt {
                kind,
                deployment: RandomId([9; 16]),
                sequence: receipts.len() as u64,
                previous: head,
                time: Timestamp(1),
                signing_key: signing_key_id(&key(signer).verifying_key()),
                request: RandomId([3; 16]),
                subject,
                generation: 4,
                about,
                faces: 1,
                keys: match kind {
                    ReceiptKind::Erased => vec![DestroyedKey {
                        id: RandomId([5; 16]),
                        commitment: [6; 16],
                    }],
                    _ => Vec::new(),
                },
            };
            let bytes = receipt.sign(&key(signer));
            head = hash(&bytes);
            receipts.push(bytes);
        };
        add(ReceiptKind::SigningKey, 1, key(1).verifying_key().to_bytes(), 0);
        add(ReceiptKind::Erased, 1, [7; 32], 0);
        add(ReceiptKind::Erased, 1, [8; 32], 0);
        add(ReceiptKind::SigningKey, 1, key(2).verifying_key().to_bytes(), 0);
        add(ReceiptKind::Purged, 2, [0; 32], 2);
        add(ReceiptKind::Purged, 2, [0; 32], 1);
        receipts
    }

    fn checkpoint(size: usize, signer: u8) -> Vec<u8> {
        let receipts = log();
        Checkpoint {
            deployment: RandomId([9; 16]),
            size: size as u64,
            head: hash(&receipts[size - 1]),
            unpurged: 0,
            created: 3,
            destroyed: 2,
            live: 1,
            time: Timestamp(2),
            signing_key: signing_key_id(&key(signer).verifying_key()),
        }
        .sign(&key(signer))
    }

    #[test]
    fn a_whole_log_is_verified_and_counted() {
        let summary = verify(&log().concat(), None, None).expect("nothing is wrong");
        assert_eq!(
            (
                summary.size,
                summary.erased,
                summary.purged,
                summary.keys_destroyed
            ),
            (6, 2, 2, 2)
        );
        assert_eq!(summary.public_keys.len(), 2);
        let trusted = key(1).verifying_key().to_bytes();
        assert!(verify(&log().concat(), None, Some(&trusted)).is_ok());
        let other = key(2).verifying_key().to_bytes();
        assert_eq!(
            verify(&log().concat(), None, Some(&other)),
            Err(ChainError::ForeignKey)
        );
    }

    #[test]
    fn a_key_that_the_log_does_not_introduce_signs_nothing_and_a_former_one_no_more() {
        for stranger in [3, 1] {
            let mut receipts = log();
            let (mut purged, _) = Receipt::parse(&receipts[4]).expect("whole");
            purged.signing_key = signing_key_id(&key(stranger).verifying_key());
            receipts[4] = purged.sign(&key(stranger));
            let found = verify(&receipts[..5].concat(), None, None);
            assert_eq!(found, Err(ChainError::Signature { at: 4 }), "key {stranger}");
        }
    }

    #[test]
    fn every_edited_bit_is_found() {
        let good = log().concat();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bad, None, None).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_removed_repeated_or_reordered_receipt_is_found() {
        let good = log();
        for at in 0..good.len() - 1 {
            let mut removed = good.clone();
            removed.remove(at);
            assert!(verify(&removed.concat(), None, None).is_err(), "without {at}");
            let mut swapped = good.clone();
            swapped.swap(at, at + 1);
            assert!(verify(&swapped.concat(), None, None).is_err(), "{at} swapped");
            let mut repeated = good.clone();
            repeated.insert(at, good[at].clone());
            assert!(verify(&repeated.concat(), None, None).is_err(), "{at} twice");
        }
        assert_eq!(verify(&[], None, None), Err(ChainError::Empty));
    }

    #[test]
    fn a_missing_end_is_found_against_any_earlier_checkpoint_and_only_so() {
        let good = log();
        for kept in 1..good.len() {
            let cut = good[..kept].concat();
            assert!(
                verify(&cut, None, None).is_ok(),
                "a chain cannot show its own end"
            );
            for seen in kept + 1..=4 {
                let found = verify(&cut, Some(&checkpoint(seen, 1)), None);
                let expected = ChainError::Truncated {
                    size: kept as u64,
                    expected: seen as u64,
                };
                assert_eq!(found, Err(expected));
            }
        }
        assert!(verify(&good.concat(), Some(&checkpoint(3, 1)), None).is_ok());
        assert!(verify(&good.concat(), Some(&checkpoint(5, 2)), None).is_ok());
    }

    #[test]
    fn another_log_with_good_signatures_is_found_against_a_checkpoint() {
        let mut earlier = Checkpoint::parse(&checkpoint(3, 1)).expect("whole");
        earlier.head[0] ^= 1;
        let forked = verify(&log().concat(), Some(&earlier.sign(&key(1))), None);
        assert_eq!(forked, Err(ChainError::Forked { size: 3 }));
        let foreign = verify(&log().concat(), Some(&checkpoint(3, 7)), None);
        assert_eq!(foreign, Err(ChainError::ForeignCheckpoint));
        let mut edited = checkpoint(3, 1);
        edited[90] ^= 1;
        assert_eq!(
            verify(&log().concat(), Some(&edited), None),
            Err(ChainError::ForeignCheckpoint)
        );
    }
}
