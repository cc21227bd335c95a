//! Errors, grouped by the party that can act on them: the caller or the operator.
//!
//! The enums are deliberately exhaustive: the server maps every variant to a status without a
//! catch-all arm, so a new error does not compile until its code is chosen.
//! No message ever holds a PersonID, a pixel, a feature, a template bit or a key.

use std::path::PathBuf;
use std::time::Duration;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything the engine can answer instead of a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another photograph may succeed.
    #[error(transparent)]
    Photo(#[from] Rejection),
    /// Another request may succeed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The caller's time is up, or the caller has gone: the same request may succeed later.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Others have the memory that the call needs: the same request may succeed soon.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// The operator has to act; the details belong in the log, not in a reply.
    #[error(transparent)]
    Operator(#[from] OperatorError),
}

/// Why a photograph, or a face in it, was not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the message above each variant names its fields")]
pub enum Rejection {
    /// The photograph shows no face that the detector is sure of.
    #[error("no face was found")]
    NoFace,
    /// One face is required and the photograph shows several; none is chosen silently.
    #[error("one face is required and {found} were found")]
    SeveralFaces { found: usize },
    /// The face is smaller than the limit.
    #[error("the face is {side_px} px on its short side; at least {side_px_min} px are required")]
    FaceTooSmall { side_px: u32, side_px_min: u32 },
    /// The detector saw something like a face but was not sure.
    #[error("the best face has a detection score of {score:.2}; at least {score_min:.2} is required")]
    LowConfidence { score: f32, score_min: f32 },
    /// More faces than the limit.
    #[error("{found} faces were found; at most {faces_max} are allowed")]
    TooManyFaces { found: usize, faces_max: usize },
    /// The bytes are no JPEG, PNG, WebP or BMP.
    #[error("the bytes are not a JPEG, PNG, WebP or BMP photograph")]
    UnsupportedFormat,
    /// The format is known but this kind of it is not taken (animated, exotic colour model, ...).
    #[error("this kind of {format} is not supported: {what}")]
    UnsupportedKind {
        format: &'static str,
        what: &'static str,
    },
    /// The file ends before the picture does.
    #[error("the {format} data end before the picture is complete")]
    Truncated { format: &'static str },
    /// The file is damaged.
    #[error("the {format} data are damaged and cannot be decoded")]
    Undecodable { format: &'static str },
    /// The file is larger than the limit.
    #[error("the photograph has {bytes} bytes; at most {bytes_max} are allowed")]
    TooManyBytes { bytes: u64, bytes_max: u64 },
    /// The picture has more pixels than the limit; nothing was allocated for it.
    #[error("the photograph is {width} x {height} px; at most {pixels_max} pixels are allowed")]
    TooManyPixels {
        width: u32,
        height: u32,
        pixels_max: u64,
    },
    /// A side is shorter than the limit.
    #[error("the photograph is {width} x {height} px; each side must have at least {side_px_min} px")]
    SideTooShort {
        width: u32,
        height: u32,
        side_px_min: u32,
    },
    /// A side is longer than the limit.
    #[error("the photograph is {width} x {height} px; each side may have at most {side_px_max} px")]
    SideTooLong {
        width: u32,
        height: u32,
        side_px_max: u32,
    },
    /// The eyes are too few pixels apart. This and all the following are refusals of the quality gate.
    #[error("the eyes are {distance_px:.1} px apart; at least {distance_px_min:.0} px are required")]
    EyesTooClose { distance_px: f32, distance_px_min: f32 },
    /// The face shows too little fine detail.
    #[error("the face is blurred: its sharpness is {sharpness:.3}; at least {sharpness_min:.2} is required")]
    TooBlurred { sharpness: f32, sharpness_min: f32 },
    /// The face is too dark.
    #[error("the face's mean luminance is {brightness:.1} of 255; at least {brightness_min:.0} is required")]
    TooDark { brightness: f32, brightness_min: f32 },
    /// The face is too bright.
    #[error("the face's mean luminance is {brightness:.1} of 255; at most {brightness_max:.0} is allowed")]
    TooBright { brightness: f32, brightness_max: f32 },
    /// Light and shade of the face are too much alike.
    #[error("the face's contrast is {contrast:.1} of 127; at least {contrast_min:.0} is required")]
    LowContrast { contrast: f32, contrast_min: f32 },
    /// The face does not look at the camera.
    #[error("the face is turned {direction} by {degrees:.1} degrees; at most {degrees_max:.0} are allowed")]
    TurnedAway {
        direction: &'static str,
        degrees: f32,
        degrees_max: f32,
    },
    /// The head is tilted in the plane of the photograph.
    #[error("the face is tilted by {degrees:.1} degrees; at most {degrees_max:.0} are allowed")]
    Tilted { degrees: f32, degrees_max: f32 },
    /// The two passes of the landmark network disagree, as they do where something hides the face.
    #[error(
        "the landmarks are unsure: a confidence of {confidence:.3}; at least {confidence_min:.2} is required"
    )]
    LandmarksUnsure { confidence: f32, confidence_min: f32 },
    /// An eye is closed, or narrowed very much.
    #[error("an eye is closed: it is open by {open:.3} of 1; at least {open_min:.2} is required")]
    EyesClosed { open: f32, open_min: f32 },
    /// The face is not like the person's other faces.
    // How unlike it is, is not told: it would be a step towards the person's face.
    #[error("the face does not reach a similarity of {similarity_min:.3} to the person's other faces")]
    NotThePerson { similarity_min: f32 },
}

/// Why a request was refused as it stands.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the message above each variant names its fields")]
pub enum RequestError {
    /// A field does not have the form it must have.
    #[error("{field}: expected {expected}, received {received}")]
    Invalid {
        field: &'static str,
        expected: String,
        received: String,
    },
    /// No collection of that name in this account.
    #[error("the collection does not exist")]
    NoCollection,
    /// A collection of that name exists.
    #[error("a collection of that name exists already")]
    CollectionExists,
    /// No account of that name.
    #[error("the account does not exist")]
    NoAccount,
    /// An account of that name exists, or existed.
    #[error("an account of that name exists already")]
    AccountExists,
    /// The account was closed.
    #[error("the account is closed")]
    AccountClosed,
    /// The account has no key of that id.
    #[error("the account has no key of this id")]
    NoApiKey,
    /// The account may hold no more people.
    #[error("the account may hold {max} people, and would have more")]
    QuotaPersons { max: u64 },
    /// The account may hold no more faces.
    #[error("the account may hold {max} faces, and would have more")]
    QuotaFaces { max: u64 },
    /// There is no room for one more.
    #[error("there are {max} {what} already, and no more")]
    TooMany { what: &'static str, max: usize },
    /// No person under that PersonID in this collection.
    #[error("no person is enrolled under this PersonID")]
    NoPerson,
    /// A person is enrolled under that PersonID.
    #[error("a person is enrolled under this PersonID already; add faces to it, or delete it first")]
    PersonExists,
    /// No face of that id with this person.
    #[error("the person has no face of this id")]
    NoFaceOfThatId,
    /// No receipt of that number in the erasure log.
    #[error("the erasure log has no receipt of this sequence number")]
    NoReceipt,
    /// Deleting these faces would leave a person without a face.
    #[error("a person keeps at least one face; delete the person instead")]
    LastFace,
    /// The person would have more faces than the collection allows.
    #[error("the person would have {faces} faces; the collection allows {faces_max}")]
    FacesPerPerson { faces: usize, faces_max: usize },
    /// The stored templates come from other models, another alignment, size or key.
    #[error(
        "the stored templates have another scheme ({stored}) than this engine makes ({current}); they are never compared"
    )]
    SchemeMismatch { stored: String, current: String },
    /// Another call was made under this idempotency token.
    #[error("another call was made under this idempotency token; choose another for this one")]
    TokenReused,
    /// Whatever was made or changed under this token is no longer there.
    #[error("the call was carried out under this idempotency token, and what it changed was erased since")]
    TokenSpent,
    /// Too many tokens of the last 24 hours are kept.
    #[error("{tokens_max} idempotency tokens of the last 24 hours are kept, and no more; ask without one")]
    TooManyTokens { tokens_max: u64 },
    /// The person was compared too often without being recognised.
    #[error("this person was compared too often without being recognised; the next comparison is due in {} s", wait.as_secs_f64().ceil())]
    ComparisonsLimited { wait: Duration },
    /// A copy would need templates that cannot be made of the stored ones.
    #[error(
        "the target's templates ({target}) cannot be made of the person's ({source_scheme}): expected the same models and projection key, and no more bits"
    )]
    NoPassage { source_scheme: String, target: String },
    /// The collection takes nobody without a consent.
    #[error(
        "the collection takes nobody without a consent: a purpose, a time, and minimum age or parental consent"
    )]
    ConsentRequired,
    /// An expiry earlier than the one on record, or any where there is none, asked for without the right to erase.
    #[error("an earlier expiry erases the person sooner, and needs the scope erase")]
    EarlierExpiry,
    /// The person's record cannot be read; every other person is unaffected.
    #[error("the person's record is damaged; it can be deleted, and enrolled again")]
    Damaged,
}

/// Nobody waits for the call any more: its deadline passed, or its caller went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call was given up before the stage '{before}'")]
pub struct Stopped {
    /// The stage that did not begin.
    pub before: &'static str,
}

/// The memory for photographs in work is used by others, or there is none left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the photographs of other calls use the memory that this one needs")]
pub struct NoMemory {
    /// So much was asked for.
    pub bytes: u64,
}

/// What only the operator can mend. Each names what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message above each variant names its fields")]
pub enum OperatorError {
    /// A model, the runtime or the manifest does not fit. Nothing was served.
    #[error("model '{model}': {what}: expected {expected}, found {found}")]
    ModelMismatch {
        model: String,
        what: &'static str,
        expected: String,
        found: String,
    },
    /// The inference runtime failed.
    #[error("inference failed in '{model}': {detail}")]
    Inference { model: String, detail: String },
    /// A file of the deployment could not be read or written.
    #[error("{doing} {path}: {source}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A key file or the keyring does not fit. The next start refuses too.
    #[error("key store: {what}: expected {expected}, found {found}")]
    Keys {
        what: &'static str,
        expected: String,
        found: String,
    },
    /// The data directory was written by another format. The next start refuses too.
    #[error("data directory: {what}: expected {expected}, found {found}")]
    Format {
        what: &'static str,
        expected: String,
        found: String,
    },
    /// The erasure log lacks receipts that it once had. The next start refuses too, unless the operator
    /// accepts it, which is then written into the log.
    #[error(
        "erasure log: expected at least {expected} receipts, as its anchor in the key store says, found {found}"
    )]
    ErasureLogShort { expected: u64, found: u64 },
    /// The audit log lacks entries that it once had, or its anchor is missing. The next start refuses too, unless the
    /// operator accepts it, which is then written into the log.
    #[error(
        "audit log: expected {}, found {found} entries; if an older copy of the data was put back, \
         --accept-short-audit-log starts the server with it",
        match expected {
            Some(expected) => format!("the {expected} entries or more that its anchor in the key store has seen"),
            None => "its anchor in the key store".to_owned(),
        }
    )]
    AuditLogShort { expected: Option<u64>, found: u64 },
    /// The store failed. What was acknowledged before is kept; the next start reads the truth from disk.
    #[error("the store failed while {doing}: {detail}")]
    Store { doing: &'static str, detail: String },
    /// A place of a data file cannot be read. What lies there is served again once a copy of the data was put back;
    /// everything else is served.
    #[error(
        "a damaged place of a data file may hold what was asked for; put back a copy of the data directory"
    )]
    DamagedPlace,
    /// The process has too few file descriptors left for a change to begin. Nothing was written; the same change
    /// succeeds when there are some again.
    #[error(
        "the store needs {expected} more file descriptors for a change, and fewer are free; raise the limit of open files \
         (LimitNOFILE, ulimit -n)"
    )]
    NoDescriptors { expected: usize },
    /// A write or sync failed earlier, so no later write is trusted; restart to read the truth from disk.
    #[error("an earlier write failed; the store refuses writes until it is opened again")]
    Poisoned,
}

impl Error {
    /// Whether it says that what the store holds of a person cannot be read.
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Request(RequestError::Damaged) | Self::Operator(OperatorError::DamagedPlace)
        )
    }
}

impl Rejection {
    /// The reason in one word, for counting.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoFace => "no-face",
            Self::SeveralFaces { .. } => "several-faces",
            Self::FaceTooSmall { .. } => "face-too-small",
            Self::LowConfidence { .. } => "low-confidence",
            Self::TooManyFaces { .. } => "too-many-faces",
            Self::UnsupportedFormat => "unsupported-format",
            Self::UnsupportedKind { .. } => "unsupported-kind",
            Self::Truncated { .. } => "truncated",
            Self::Undecodable { .. } => "undecodable",
            Self::TooManyBytes { .. } => "too-many-bytes",
            Self::TooManyPixels { .. } => "too-many-pixels",
            Self::SideTooShort { .. } => "side-too-short",
            Self::SideTooLong { .. } => "side-too-long",
            Self::EyesTooClose { .. } => "eyes-too-close",
            Self::TooBlurred { .. } => "too-blurred",
            Self::TooDark { .. } => "too-dark",
            Self::TooBright { .. } => "too-bright",
            Self::LowContrast { .. } => "low-contrast",
            Self::TurnedAway { .. } => "turned-away",
            Self::Tilted { .. } => "tilted",
            Self::LandmarksUnsure { .. } => "landmarks-unsure",
            Self::EyesClosed { .. } => "eyes-closed",
            Self::NotThePerson { .. } => "not-the-person",
        }
    }
}

impl RequestError {
    /// A malformed field. `received` must be a description (a length, a kind), never the value of
    /// anything personal.
    pub fn invalid(field: &'static str, expected: impl Into<String>, received: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            expected: expected.into(),
            received: received.into(),
        }
    }
}

impl OperatorError {
    /// An i/o error with what was being done, as in "reading".
    pub fn file(doing: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            doing,
            path: path.into(),
            source,
        }
    }
}
