//! Rewrites the slots in place: no second file ever holds a wrapped key.

use crate::keys::KeyRing;
use crate::slots::{EMPTY, SLOT_BYTES, SlotBytes, SlotImage};
use likeness_types::error::{OperatorError, Result};

/// What a used slot becomes, by its number; 0 is the header.
pub type RewriteSlot = fn(&KeyRing, u32, &SlotImage) -> SlotImage;

/// Slots that are read, written and synced together.
const GROUP_SLOTS: u32 = 4096;
const DOING: &str = "upgrading the slot file";

/// Rewrites every slot that has the first format, the header last. Empty slots stay empty, and slots of any other
/// format stay as they are: those of the second were rewritten before a kill, the rest is damaged.
pub(super) fn rewrite_in_place(
    file: &dyn SlotBytes,
    formats: [u32; 2],
    rewrite: &dyn Fn(u32, &SlotImage) -> SlotImage,
    say: &dyn Fn(&'static str, u64, u64),
) -> Result<()> {
    let failed = |e: std::io::Error| -> likeness_types::error::Error {
        let detail = e.to_string();
        OperatorError::Store { doing: DOING, detail }.into()
    };
    let count = file.size_bytes().map_err(failed)? / SLOT_BYTES as u64;
    let count = u32::try_from(count).map_err(|e| failed(std::io::Error::other(e)))?;
    // ORDER: the header last: while it has the old format, so may slots.
    let groups = (1..count)
        .step_by(GROUP_SLOTS as usize)
        .map(|first| (first, GROUP_SLOTS.min(count - first)));
    for (first, slots) in groups.chain((count > 0).then_some((0, 1))) {
        let mut images = vec![EMPTY; slots as usize];
        file.read_at(offset(first), images.as_flattened_mut())
            .map_err(failed)?;
        let mut is_changed = false;
        for (slot, image) in (first..).zip(&images) {
            if *image == EMPTY || format_of(slot, image) != formats[0] {
                continue;
            }
            let new = rewrite(slot, image);
            if format_of(slot, &new) != formats[1] {
                let detail = format!("expected a slot of format {}, made another", formats[1]);
                return Err(OperatorError::Store { doing: DOING, detail }.into());
            }
            say("rewriting slots in place", u64::from(slot), u64::from(count));
            file.write_at(offset(slot), &new).map_err(failed)?;
            is_changed = true;
        }
        if is_changed {
            file.sync().map_err(failed)?;
        }
    }
    // What a kill left unsynced counts as rewritten above.
    file.sync().map_err(failed)
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * SLOT_BYTES as u64
}

/// The header has it behind its name.
fn format_of(slot: u32, image: &SlotImage) -> u32 {
    let at = if slot == 0 { 14..18 } else { 0..4 };
    u32::from_le_bytes(image[at].try_into().expect("four bytes"))
}
