//! The engine's limits: everything that comes in has one.

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
        }
    }
}
