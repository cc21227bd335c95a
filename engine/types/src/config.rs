//! Limits of the engine: on every input, and on what it tells about faces.

use std::time::Duration;

use crate::memory::MemoryBudget;
/// Limits on photographs and faces. The defaults are the published limits of comparable services.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one encoded photograph.
    pub image_bytes_max: u64,
    /// Pixels of one photograph, checked from the header before anything is allocated.
    pub image_pixels_max: u64,
    /// The shortest side a photograph may have, in pixels.
    pub image_side_px_min: u32,
    /// The longest side a photograph may have, in pixels.
    pub image_side_px_max: u32,
    /// The shortest side of a face box that is enrolled or searched, in pixels of the photograph.
    pub face_side_px_min: u32,
    /// Faces reported by one detection.
    pub detected_faces_max: usize,
    /// Detection score at and above which a box is a face (0 to 1).
    pub face_score_min: f32,
    /// What photographs in work may take together, of memory.
    pub memory: MemoryBudget,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            image_bytes_max: 10 * 1024 * 1024,
            image_pixels_max: 40_000_000,
            image_side_px_min: 64,
            image_side_px_max: 16_384,
            face_side_px_min: 34,
            detected_faces_max: 120,
            face_score_min: 0.65,
            memory: MemoryBudget::default(),
        }
    }
}

/// How much callers may learn of enrolled faces by comparing with them. Every similarity that is told is a step
/// towards the face, and so is every yes or no; `docs/limits.md` has what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreLimits {
    /// No similarity below the one of this false accept rate is told, and none is taken for a threshold. 1 tells
    /// every similarity, and takes every threshold.
    pub floor_far: f64,
    /// The same for searches, beside `floor_far`: of searches for somebody who is not enrolled, at most this part
    /// reach the floor, however many faces are searched. 1 leaves searches at `floor_far`.
    pub floor_fpir: f64,
    /// What told similarities are rounded to; 0 rounds nothing. For looks only.
    pub step: f32,
    /// Refused comparisons with one person in a day, over all callers, before they are slowed down.
    pub refused_a_day: u32,
    /// The same since the person was last recognised beyond doubt.
    pub refused_in_a_row: u32,
    /// So much above the threshold a recognition is in doubt: it counts as refused, and as one of `doubts`.
    pub doubt_margin: f32,
    /// Recognitions of one person in doubt, over all callers, before the threshold is higher by the margin.
    pub doubts: u32,
    /// How soon one of these is regained.
    pub doubt_regained: Duration,
    /// So many recognitions beyond doubt regain one as well; 0 for never.
    pub clear_a_doubt: u32,
    /// From one comparison to the next of a person who is slowed down.
    pub pause: Duration,
    /// What the pause grows to.
    pub pause_max: Duration,
    /// Similarities to one person that an account is told in a day, over all its keys; afterwards it is yes or no.
    pub told_a_day: u32,
    /// Comparisons in a day of one API key with a person who is slowed down, answered at once as long as none of the
    /// key's own was refused.
    pub own_turns_a_day: u32,
    /// The same of all keys of the account together.
    pub own_turns_of_account_a_day: u32,
    /// How often one person is named as a duplicate in a day, over all keys: in pairs of N:N searches, and by checks at
    /// enrolment.
    pub duplicates_a_day: u32,
}

impl Default for ScoreLimits {
    fn default() -> Self {
        Self {
            floor_far: 1e-4,
            floor_fpir: 0.1,
            step: 0.02,
            refused_a_day: 20,
            refused_in_a_row: 100,
            doubt_margin: 0.15,
            doubts: 5,
            doubt_regained: Duration::from_secs(24 * 3600),
            clear_a_doubt: 8,
            pause: Duration::from_secs(60),
            pause_max: Duration::from_secs(15 * 60),
            told_a_day: 10,
            own_turns_a_day: 5,
            own_turns_of_account_a_day: 20,
            duplicates_a_day: 10,
        }
    }
}

impl ScoreLimits {
    /// Whether no number of comparisons changes anything: then none is counted.
    pub fn compared_at_will(&self) -> bool {
        self.refused_a_day == u32::MAX && self.refused_in_a_row == u32::MAX && self.doubts == u32::MAX
    }

    /// The same of pairs of an N:N search.
    pub fn paired_at_will(&self) -> bool {
        self.duplicates_a_day == u32::MAX && self.doubts == u32::MAX
    }

    /// No limits: for evaluations and tests of something else.
    pub fn none() -> Self {
        Self {
            floor_far: 1.0,
            floor_fpir: 1.0,
            step: 0.0,
            refused_a_day: u32::MAX,
            refused_in_a_row: u32::MAX,
            doubts: u32::MAX,
            told_a_day: u32::MAX,
            duplicates_a_day: u32::MAX,
            ..Self::default()
        }
    }
}
