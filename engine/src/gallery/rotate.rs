//! Rotation of keys while the server serves.
//!
//! Wrapping key: every slot is wrapped anew, then the old key is destroyed. Records do not change, because they do not
//! name the wrapping key. Signing key: the old key signs the new one in the erasure log, where every verifier finds it,
//! and signs nothing after that.

use crate::gallery::commit::Writer;
use likeness_store::keys::{KeyRing, Purpose, RingKey};
use likeness_store::receipts;
use likeness_types::error::Result;

/// Lets a new key sign receipts, or goes on with a rotation that was interrupted; answers the public key.
pub(crate) fn rotate_signing(
    writer: &Writer,
    ring: &KeyRing,
    save: impl Fn(&KeyRing) -> Result<()>,
) -> Result<[u8; 32]> {
    if ring.all(Purpose::Signing).len() == 1 {
        let next = ring.with(RingKey::random(Purpose::Signing, ""));
        // ORDER: the new key durable before the log names it: a log whose key is lost could not go on.
        save(&next)?;
        ring.replace_by(&next);
    }
    let newest = ring.signing();
    let public = receipts::public_key(newest.secret.expose());
    writer.alone(move |vault| {
        vault.introduce_signing_key(newest.secret.expose())?;
        vault.advance_anchor()
    })?;
    let alone = ring.with_one_signing_key();
    // ORDER: log and anchor durable under the new key before the old one counts no more.
    save(&alone)?;
    ring.replace_by(&alone);
    Ok(public)
}

/// Slots wrapped anew between two changes of other callers: 512 KiB of the file, one sync.
const SLOTS_AT_ONCE: u32 = 4096;

/// How a rotation went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Slots that were wrapped anew.
    pub rewrapped: u64,
    /// Damaged slots: as long as there are any, the old key is kept, in case they can be mended.
    pub unreadable: u64,
    /// Whether the old key is destroyed.
    pub old_key_destroyed: bool,
}

/// Rotates, or goes on with a rotation that was interrupted. `save` makes a ring durable; `progress` is
/// told how many slots are done, and how many there are.
pub(crate) fn rotate_wrapping(
    writer: &Writer,
    ring: &KeyRing,
    save: impl Fn(&KeyRing) -> Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rotation> {
    if ring.all(Purpose::Wrapping).len() == 1 {
        let next = ring.with(RingKey::random(Purpose::Wrapping, ""));
        // ORDER: the new key durable before any slot is wrapped under it.
        save(&next)?;
        ring.replace_by(&next);
    }
    let newest = ring.wrapping().id;
    let mut rotation = Rotation::default();
    let mut first = 1;
    // Slots that the file gains meanwhile are wrapped under the new key from the start.
    let count = writer.alone(|storage| storage.slot_count())?;
    while first < count {
        let end = count.min(first.saturating_add(SLOTS_AT_ONCE));
        let (rewrapped, unreadable) = writer.alone(move |vault| vault.rewrap_slots(first..end, newest))?;
        rotation.rewrapped += rewrapped;
        rotation.unreadable += unreadable;
        first = end;
        progress(u64::from(first) - 1, u64::from(count) - 1);
    }
    if rotation.unreadable == 0 {
        let alone = ring.without(|key| key.purpose == Purpose::Wrapping && key.id != newest);
        // ORDER: every slot durable under the new key before the old one is destroyed.
        save(&alone)?;
        ring.replace_by(&alone);
        rotation.old_key_destroyed = true;
    }
    Ok(rotation)
}
