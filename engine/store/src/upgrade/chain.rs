//! The steps from older formats of the data directory to the present one.

use crate::records::Family;
use crate::upgrade::files::{FileOf, RewriteFile};
use crate::upgrade::rows::RewriteRow;
use crate::upgrade::slots::RewriteSlot;

/// The format that this program reads and writes.
pub const FORMAT: u32 = 3;

/// From the oldest format that can be upgraded to [`FORMAT`]. A step that was released is never changed: a directory
/// may be in the middle of it.
pub const CHAIN: Chain = Chain {
    format: FORMAT,
    steps: &[],
};

/// What leads from older formats to the format of the program.
pub struct Chain {
    /// The format of the program.
    pub format: u32,
    /// One for each format from the first one's to `format`, without a gap.
    pub steps: &'static [Step],
}

/// From one format to the next.
pub struct Step {
    /// The format before the step.
    pub from: u32,
    /// The first version of the program that reads the new format.
    pub program: &'static str,
    /// What changes, for the log.
    pub description: &'static str,
    /// What is rewritten, in order.
    pub parts: &'static [Part],
}

/// A part of a step that is done as a whole, or continued after a kill.
pub struct Part {
    /// What it rewrites.
    pub work: Work,
    /// The most that the new bytes take, in percent of the old ones.
    pub size_percent: u64,
}

/// What a part rewrites.
pub enum Work {
    /// Every row of a family.
    Rows {
        /// The family.
        family: Family,
        /// The new row of an old one.
        rewrite: RewriteRow,
    },
    /// Every slot, in place.
    Slots {
        /// The slots' own format number, before and after.
        from: u32,
        /// After.
        to: u32,
        /// The new slot of an old one.
        rewrite: RewriteSlot,
    },
    /// One file.
    File {
        /// Its directory.
        of: FileOf,
        /// Its name.
        name: &'static str,
        /// The new bytes of the old ones.
        rewrite: RewriteFile,
    },
}

impl Step {
    pub(super) const fn to(&self) -> u32 {
        self.from + 1
    }
}
