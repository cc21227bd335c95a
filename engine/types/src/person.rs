//! A person as the gallery keeps them: sealed on disk, and never printed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::Inside;
use crate::crypto::Secret;
use crate::doors::Comparing;
use crate::error::{RequestError, Result};
use crate::names::{FaceId, PersonId, RandomId};
use crate::scheme::SchemeId;
use crate::template::{Bits, Probe, Template};

/// Longest display name and consent purpose, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 256;
/// Most tags of a person.
pub const TAGS_MAX: usize = 32;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// The farthest an expiry may be away, in years of 365 days: further is a mistake in the unit.
pub const EXPIRY_YEARS_MAX: u64 = 100;

/// The detection score of a face that came as features.
pub const FEATURES_SCORE: f32 = 0.0;

/// Which faces a search for people who are enrolled twice names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// Faces of photographs alone: features may be crafted to ask with.
    #[default]
    Photographs,
    /// Faces that came as features too: for an administrator, and written into the audit log.
    Features,
}

impl Names {
    /// Whether an answer may name this face.
    pub fn may_name(self, face: &StoredFace) -> bool {
        self == Self::Features || !face.came_as_features()
    }
}

/// A moment, in milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The clock's time.
    pub fn now() -> Self {
        Self(u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The clock's time, exactly.
pub fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO)
}

/// What the client asserts about the person's consent.
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// What the person agreed to.
    pub purpose: String,
    /// When.
    pub given: Timestamp,
    /// The person has the minimum age, or a parent agreed.
    pub of_age_or_parental: bool,
}

/// What a client keeps with a person beside the faces.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// A name to show; may be empty.
    pub name: String,
    /// Labels to sort people by; sorted, without repeats.
    pub tags: Vec<String>,
    /// The consent asserted last, if any.
    pub consent: Option<Consent>,
    /// When the person is erased by itself; none is never.
    pub expires: Option<Timestamp>,
}

impl Profile {
    /// Sorts the tags and checks every limit.
    ///
    /// # Errors
    /// A text or a list over its limit, or an empty tag.
    pub fn checked(mut self) -> Result<Self> {
        limit("name", self.name.len(), TEXT_BYTES_MAX)?;
        if let Some(consent) = &self.consent {
            limit("consent.purpose", consent.purpose.len(), TEXT_BYTES_MAX)?;
            if consent.purpose.is_empty() {
                return Err(RequestError::invalid("consent.purpose", "a purpose", "an empty text").into());
            }
        }
        self.tags.sort();
        self.tags.dedup();
        if self.tags.len() > TAGS_MAX {
            let received = format!("{} tags", self.tags.len());
            return Err(RequestError::invalid("tags", format!("at most {TAGS_MAX} tags"), received).into());
        }
        for tag in &self.tags {
            limit("tags", tag.len(), TAG_BYTES_MAX)?;
            if tag.is_empty() {
                return Err(RequestError::invalid("tags", "tags of at least 1 byte", "an empty tag").into());
            }
        }
        Ok(self)
    }
}

/// Takes a profile with the consent that a collection asks for.
pub fn checked_consent(profile: &Profile) -> Result<()> {
    match &profile.consent {
        Some(consent) if consent.of_age_or_parental => Ok(()),
        _ => Err(RequestError::ConsentRequired.into()),
    }
}

/// Takes an expiry that lies ahead, and not farther than [`EXPIRY_YEARS_MAX`].
pub fn checked_expiry(expires: Option<Timestamp>, now: Timestamp) -> Result<()> {
    let years_ms = EXPIRY_YEARS_MAX * 365 * 24 * 3600 * 1000;
    let refuse = |received: &str| {
        let expected = format!("a time in the future, at most {EXPIRY_YEARS_MAX} years from now");
        Err(RequestError::invalid("expires", expected, received).into())
    };
    match expires {
        Some(expires) if expires <= now => refuse("a time in the past"),
        Some(expires) if expires.0 - now.0 > years_ms => refuse("a later time"),
        _ => Ok(()),
    }
}

fn limit(field: &'static str, bytes: usize, bytes_max: usize) -> Result<()> {
    if bytes > bytes_max {
        let expected = format!("at most {bytes_max} bytes");
        return Err(RequestError::invalid(field, expected, format!("{bytes} bytes")).into());
    }
    Ok(())
}

/// A face ready to be kept: its template and what was measured on the way.
pub struct NewFace {
    /// The name it will have.
    pub id: FaceId,
    /// The bits that will be kept.
    template: Template,
    /// For looking it up before it is kept, where that was asked for; wiped when it is kept.
    probe: Option<Probe>,
    /// The scheme of template and probe.
    pub scheme: SchemeId,
    /// How sure the detector was, 0 to 1; 0 for features.
    pub detection_score: f32,
}

impl NewFace {
    /// A face of a random name, that was not made to be looked for.
    pub fn new(template: Template, scheme: SchemeId, detection_score: f32) -> Self {
        Self {
            id: FaceId::random(),
            template,
            probe: None,
            scheme,
            detection_score,
        }
    }

    /// The same face, made to be looked for; its probe is wiped when it is kept.
    pub fn with_probe(self, probe: Probe) -> Self {
        Self {
            probe: Some(probe),
            ..self
        }
    }

    /// The same face without its probe, which is wiped.
    pub fn without_probe(self) -> Self {
        Self { probe: None, ..self }
    }

    /// The bits that will be kept.
    pub fn template(&self, _: Inside) -> &Template {
        &self.template
    }

    /// What it is looked for with; none where it was not made for that.
    pub fn probe(&self, _: Inside) -> Option<&Probe> {
        self.probe.as_ref()
    }

    /// The same, taken.
    pub fn into_probe(self, _: Inside) -> Option<Probe> {
        self.probe
    }

    /// The similarity to the most similar of these that can be compared.
    pub fn similarity(&self, faces: &[StoredFace], comparing: &Comparing) -> Option<f32> {
        let each = faces
            .iter()
            .filter_map(|face| self.similarity_to(face.scheme, face.template.compare(comparing), Inside));
        each.max_by(f32::total_cmp)
    }

    /// The similarity to a template, if both are of one scheme, and the face was made to be looked for.
    pub fn similarity_to(&self, scheme: SchemeId, template: &Template, _: Inside) -> Option<f32> {
        let probe = self.probe.as_ref().filter(|_| self.scheme == scheme)?;
        Some(probe.similarity(probe.score(template)))
    }
}

/// One kept face.
pub struct StoredFace {
    /// Its name.
    pub id: FaceId,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// How sure the detector was, 0 to 1; 0 of a face that came as features.
    pub detection_score: f32,
    /// What its template can be compared with.
    pub scheme: SchemeId,
    /// The bits that are kept.
    pub template: KeptTemplate,
}

/// A template that is kept: it is compared by a [`Comparing`] only.
pub struct KeptTemplate(Template);

impl KeptTemplate {
    /// A template to keep.
    pub fn new(template: Template) -> Self {
        Self(template)
    }

    /// To be compared.
    pub fn compare(&self, _: &Comparing) -> &Template {
        &self.0
    }

    /// To be put into an index, which is compared by a [`Comparing`] too.
    pub fn indexed(&self, _: Inside) -> &Template {
        &self.0
    }

    /// What a test looks at.
    #[cfg(any(test, feature = "testing"))]
    pub fn any(&self) -> &Template {
        &self.0
    }

    /// To be sealed.
    pub fn to_bytes(&self, inside: Inside) -> Zeroizing<Vec<u8>> {
        self.0.to_bytes(inside)
    }

    /// What a copy of fewer bits keeps.
    pub fn beginning(&self, bits: Bits) -> Self {
        Self(self.0.beginning(bits))
    }
}

impl StoredFace {
    /// The face as it is kept from this moment on; its probe is wiped.
    pub fn new(face: NewFace, enrolled: Timestamp) -> Self {
        Self {
            id: face.id,
            enrolled,
            detection_score: face.detection_score,
            scheme: face.scheme,
            template: KeptTemplate::new(face.template),
        }
    }

    /// Whether the client brought features instead of a photograph: then the face may be crafted, bit by bit.
    pub(crate) fn came_as_features(&self) -> bool {
        // No photograph's face is taken with a score of 0, and features have none.
        self.detection_score == FEATURES_SCORE
    }
}

/// What opens a person's rows of the running log. It lies in the sealed record and nowhere else, so that it is
/// destroyed with the record's own key, and the rows with it.
#[derive(Clone)]
pub struct LogKey {
    /// What the keys of the rows begin with: random, so that rows name nobody and a PersonID enrolled again has
    /// other rows.
    pub id: RandomId,
    /// Shared with the calls that have yet to write a row.
    secret: Arc<Secret>,
}

impl LogKey {
    /// For somebody new. A copy of a person is somebody new; a rename and a record sealed anew are not.
    pub fn random() -> Self {
        Self {
            id: RandomId::random(),
            secret: Arc::new(Secret::random()),
        }
    }

    /// As a record keeps it.
    pub fn kept(id: RandomId, secret: Secret) -> Self {
        Self {
            id,
            secret: Arc::new(secret),
        }
    }

    /// The key itself.
    pub fn secret(&self, _: Inside) -> &Secret {
        &self.secret
    }
}

/// One person of a collection.
pub struct Person {
    /// The client's name for the person.
    pub id: PersonId,
    /// Drawn at enrolment, and gone with the record: by it a token knows whom it was used for.
    pub mark: RandomId,
    /// Opens the person's rows of the running log.
    pub log: LogKey,
    /// What the client keeps with the person.
    pub profile: Profile,
    /// When the person was first enrolled.
    pub enrolled: Timestamp,
    /// When the record last changed.
    pub updated: Timestamp,
    /// At least one.
    pub faces: Vec<StoredFace>,
}

impl Person {
    /// The templates of the faces that one scheme can compare.
    pub fn comparable(&self, scheme: SchemeId, comparing: &Comparing) -> Vec<&Template> {
        let comparable = self.faces.iter().filter(|face| face.scheme == scheme);
        comparable.map(|face| face.template.compare(comparing)).collect()
    }

    /// The same of those faces alone that a check may name to this caller.
    pub fn nameable(&self, scheme: SchemeId, names: Names, comparing: &Comparing) -> Vec<&Template> {
        let faces = self.faces.iter();
        let nameable = faces.filter(|face| face.scheme == scheme && names.may_name(face));
        nameable.map(|face| face.template.compare(comparing)).collect()
    }

    /// Whether the person's time is over: gone for everybody, erased or not yet.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.profile.expires.is_some_and(|expires| expires <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_tags(tags: &[&str]) -> Result<Profile> {
        Profile {
            tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            ..Profile::default()
        }
        .checked()
    }

    #[test]
    fn tags_are_sorted_without_repeats_and_limited() {
        let profile = with_tags(&["b", "a", "b"]).expect("allowed");
        assert_eq!(profile.tags, ["a", "b"]);
        assert!(with_tags(&[""]).is_err());
        assert!(with_tags(&[&"t".repeat(65)]).is_err());
        let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
        assert!(with_tags(&many.iter().map(String::as_str).collect::<Vec<_>>()).is_err());
    }

    #[test]
    fn a_consent_without_a_purpose_is_refused() {
        let consent = Consent {
            purpose: String::new(),
            given: Timestamp(0),
            of_age_or_parental: true,
        };
        let profile = Profile {
            consent: Some(consent),
            ..Profile::default()
        };
        assert!(profile.checked().is_err());
    }

    #[test]
    fn an_expiry_lies_ahead_and_within_a_hundred_years() {
        let (now, years_ms) = (Timestamp(1_000), EXPIRY_YEARS_MAX * 365 * 24 * 3600 * 1000);
        for (expires, taken) in [(0, false), (1_000, false), (1_001, true)] {
            assert_eq!(checked_expiry(Some(Timestamp(expires)), now).is_ok(), taken);
        }
        assert!(checked_expiry(Some(Timestamp(now.0 + years_ms)), now).is_ok());
        assert!(checked_expiry(Some(Timestamp(now.0 + years_ms + 1)), now).is_err());
        assert!(checked_expiry(None, now).is_ok());
    }
}
