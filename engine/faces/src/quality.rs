//! Quality of a face in numbers, and the levels of the gate that asks for more or less of it.
//!
//! The numbers are measured in `pipeline/quality.rs`; docs/quality.md explains each, and shows what the
//! levels cost and gain.

use likeness_types::error::Rejection;

/// What was measured of a face. Every number is finite and within its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Between the centres of the eyes, in pixels of the photograph.
    pub eye_distance_px: f32,
    /// How much of what changes across the face is fine detail: 0 to 1. Noise counts as detail.
    pub sharpness: f32,
    /// Mean luminance of the face, 0 to 255.
    pub brightness: f32,
    /// Standard deviation of the luminance of the face, 0 to 127.5.
    pub contrast: f32,
    /// Turned to the side, -90 to 90 degrees; above 0 the face looks to the right edge of the photograph.
    pub yaw_degrees: f32,
    /// Turned up (above 0) or down, -90 to 90 degrees.
    pub pitch_degrees: f32,
    /// Tilted clockwise (above 0) or back, -180 to 180 degrees.
    pub roll_degrees: f32,
    /// How well the two passes of the landmark network agree, 0 to 1.
    pub landmark_confidence: f32,
    /// How open the less open eye is, 0 to 1.
    pub eyes_open: f32,
}

/// How good a face must be. Each level asks for what the one before does, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum QualityLevel {
    /// Whatever is found, sure enough and large enough.
    #[default]
    None,
    /// What can be matched at all.
    Low,
    /// What is matched nearly as well as a good photograph.
    Medium,
    /// A good photograph of somebody who looks at the camera.
    High,
    /// A portrait.
    Strict,
}

/// What a level asks for.
struct Asked {
    eye_distance_px_min: f32,
    sharpness_min: f32,
    brightness_min: f32,
    brightness_max: f32,
    contrast_min: f32,
    yaw_degrees_max: f32,
    pitch_degrees_max: f32,
    roll_degrees_max: f32,
    landmark_confidence_min: f32,
    eyes_open_min: f32,
}

impl Asked {
    /// The table, each column a number of [`Quality`], each row a level. Chosen on 1,046 photographs of
    /// Labeled Faces in the Wild, on how many of them a limit refuses and on what is recognised of them
    /// once they are degraded that far: docs/quality.md.
    #[rustfmt::skip] // a table
    const BY_LEVEL: [Self; 5] = [
        //         eyes px  sharp  dark  bright  contrast  yaw    pitch  roll   landmarks  open
        Self::row( 0.0,     0.0,   0.0,  255.0,  0.0,      90.0,  90.0,  180.0, 0.0,       0.0),
        Self::row(14.0,     0.20,  20.0, 220.0,  7.0,      60.0,  50.0,  45.0,  0.2,       0.0),
        Self::row(20.0,     0.26,  32.0, 205.0, 10.0,      45.0,  40.0,  35.0,  0.4,       0.1),
        Self::row(28.0,     0.33,  45.0, 195.0, 13.0,      32.0,  28.0,  25.0,  0.6,       0.2),
        Self::row(35.0,     0.39,  60.0, 185.0, 16.0,      20.0,  20.0,  15.0,  0.7,       0.35),
    ];

    #[allow(clippy::too_many_arguments, reason = "a row of the table above")]
    const fn row(
        eye_distance_px_min: f32,
        sharpness_min: f32,
        brightness_min: f32,
        brightness_max: f32,
        contrast_min: f32,
        yaw_degrees_max: f32,
        pitch_degrees_max: f32,
        roll_degrees_max: f32,
        landmark_confidence_min: f32,
        eyes_open_min: f32,
    ) -> Self {
        Self {
            eye_distance_px_min,
            sharpness_min,
            brightness_min,
            brightness_max,
            contrast_min,
            yaw_degrees_max,
            pitch_degrees_max,
            roll_degrees_max,
            landmark_confidence_min,
            eyes_open_min,
        }
    }
}

impl QualityLevel {
    /// All of them, the least demanding first.
    pub const ALL: [Self; 5] = [Self::None, Self::Low, Self::Medium, Self::High, Self::Strict];

    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Strict => "strict",
        }
    }

    /// As it is stored: its place in [`Self::ALL`].
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The level stored as this number.
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    const fn asked(self) -> &'static Asked {
        &Asked::BY_LEVEL[self as usize]
    }
}

impl Quality {
    /// The highest level that the face passes.
    pub fn level(&self) -> QualityLevel {
        let passed = |level: &QualityLevel| self.rejection(*level).is_none();
        QualityLevel::ALL
            .into_iter()
            .rev()
            .find(passed)
            .unwrap_or_default()
    }

    /// Why the level refuses the face, if it does: the first reason, causes before their consequences
    /// (what is turned away has unsure landmarks, too).
    pub fn rejection(&self, level: QualityLevel) -> Option<Rejection> {
        self.pixels_rejection(level.asked())
            .or_else(|| self.pose_rejection(level.asked()))
    }

    fn pixels_rejection(&self, asked: &Asked) -> Option<Rejection> {
        Some(if self.eye_distance_px < asked.eye_distance_px_min {
            Rejection::EyesTooClose {
                distance_px: self.eye_distance_px,
                distance_px_min: asked.eye_distance_px_min,
            }
        } else if self.brightness < asked.brightness_min {
            Rejection::TooDark {
                brightness: self.brightness,
                brightness_min: asked.brightness_min,
            }
        } else if self.brightness > asked.brightness_max {
            Rejection::TooBright {
                brightness: self.brightness,
                brightness_max: asked.brightness_max,
            }
        } else if self.contrast < asked.contrast_min {
            Rejection::LowContrast {
                contrast: self.contrast,
                contrast_min: asked.contrast_min,
            }
        } else if self.sharpness < asked.sharpness_min {
            Rejection::TooBlurred {
                sharpness: self.sharpness,
                sharpness_min: asked.sharpness_min,
            }
        } else {
            return None;
        })
    }

    fn pose_rejection(&self, asked: &Asked) -> Option<Rejection> {
        let [yaw, pitch, roll] = [self.yaw_degrees, self.pitch_degrees, self.roll_degrees].map(f32::abs);
        Some(if yaw > asked.yaw_degrees_max {
            Rejection::TurnedAway {
                direction: "to the side",
                degrees: yaw,
                degrees_max: asked.yaw_degrees_max,
            }
        } else if pitch > asked.pitch_degrees_max {
            Rejection::TurnedAway {
                direction: "up or down",
                degrees: pitch,
                degrees_max: asked.pitch_degrees_max,
            }
        } else if roll > asked.roll_degrees_max {
            Rejection::Tilted {
                degrees: roll,
                degrees_max: asked.roll_degrees_max,
            }
        } else if self.landmark_confidence < asked.landmark_confidence_min {
            Rejection::LandmarksUnsure {
                confidence: self.landmark_confidence,
                confidence_min: asked.landmark_confidence_min,
            }
        } else if self.eyes_open < asked.eyes_open_min {
            Rejection::EyesClosed {
                open: self.eyes_open,
                open_min: asked.eyes_open_min,
            }
        } else {
            return None;
        })
    }
}

/// Somebody who looks into a good camera.
#[cfg(test)]
pub(crate) const PORTRAIT: Quality = Quality {
    eye_distance_px: 80.0,
    sharpness: 0.6,
    brightness: 130.0,
    contrast: 40.0,
    yaw_degrees: -3.0,
    pitch_degrees: 4.0,
    roll_degrees: 1.0,
    landmark_confidence: 0.9,
    eyes_open: 0.9,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_portrait_passes_every_level() {
        assert_eq!(PORTRAIT.level(), QualityLevel::Strict);
    }

    #[test]
    fn each_shortcoming_is_its_own_reason_with_value_and_limit() {
        type Spoil = fn(&mut Quality);
        let spoilt: [(Spoil, &str, &str); 11] = [
            (|q| q.eye_distance_px = 3.0, "eyes-too-close", "3.0"),
            (|q| q.sharpness = 0.04, "too-blurred", "0.04"),
            (|q| q.brightness = 11.0, "too-dark", "11"),
            (|q| q.brightness = 251.0, "too-bright", "251"),
            (|q| q.contrast = 2.5, "low-contrast", "2.5"),
            (|q| q.yaw_degrees = -71.0, "turned-away", "71"),
            (|q| q.pitch_degrees = 66.0, "turned-away", "66"),
            (|q| q.pitch_degrees = -66.0, "turned-away", "66"),
            (|q| q.roll_degrees = -88.0, "tilted", "88"),
            (|q| q.landmark_confidence = 0.05, "landmarks-unsure", "0.05"),
            (|q| q.eyes_open = 0.02, "eyes-closed", "0.02"),
        ];
        for (spoil, name, value) in spoilt {
            let mut quality = PORTRAIT;
            spoil(&mut quality);
            let rejection = quality.rejection(QualityLevel::Medium).expect(name);
            assert_eq!(rejection.name(), name);
            assert!(rejection.to_string().contains(value), "{rejection}");
            assert_eq!(quality.rejection(QualityLevel::None), None, "{name}");
        }
    }

    #[test]
    fn a_level_survives_the_disk() {
        for level in QualityLevel::ALL {
            assert_eq!(QualityLevel::numbered(level.number()), Some(level));
        }
        assert_eq!(QualityLevel::numbered(5), None);
    }

    #[test]
    fn each_level_asks_for_what_the_one_before_does_and_more() {
        for pair in Asked::BY_LEVEL.windows(2) {
            let [less, more] = pair else {
                unreachable!("windows of two")
            };
            let more_of = [
                (less.eye_distance_px_min, more.eye_distance_px_min),
                (less.sharpness_min, more.sharpness_min),
                (less.brightness_min, more.brightness_min),
                (-less.brightness_max, -more.brightness_max),
                (less.contrast_min, more.contrast_min),
                (-less.yaw_degrees_max, -more.yaw_degrees_max),
                (-less.pitch_degrees_max, -more.pitch_degrees_max),
                (-less.roll_degrees_max, -more.roll_degrees_max),
                (less.landmark_confidence_min, more.landmark_confidence_min),
            ];
            assert!(more_of.iter().all(|(less, more)| less < more), "{more_of:?}");
            assert!(less.eyes_open_min <= more.eyes_open_min);
        }
    }

    /// Any face that can be measured.
    fn any() -> impl Strategy<Value = Quality> {
        let lights = (0.0..200f32, 0.0..1f32, 0.0..255f32, 0.0..127f32);
        let pose = (-90.0..90f32, -90.0..90f32, -180.0..180f32);
        (lights, pose, 0.0..1f32, 0.0..1f32).prop_map(|(lights, pose, confidence, open)| Quality {
            eye_distance_px: lights.0,
            sharpness: lights.1,
            brightness: lights.2,
            contrast: lights.3,
            yaw_degrees: pose.0,
            pitch_degrees: pose.1,
            roll_degrees: pose.2,
            landmark_confidence: confidence,
            eyes_open: open,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_face_passes_every_level_up_to_its_own_and_none_above(quality in any()) {
            for level in QualityLevel::ALL {
                prop_assert_eq!(quality.rejection(level).is_none(), level <= quality.level());
            }
        }
    }
}
