//! Why a call gets no answer: the kind of refusal, its reason, what it says, and when to try again. A door turns it
//! into the errors of its protocol.

pub mod broken_stream;
pub mod code;

use std::fmt;
use std::time::Duration;

use likeness_engine::{Error, OperatorError, Rejection, RequestError, Scope};
use likeness_proto::v1::{self, RejectionReason};

use self::broken_stream::{BrokenStream, REASON as BROKEN_STREAM};
pub use self::code::Code;

/// When a refused call is worth another try, where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Idempotency tokens are kept for a day, and the expired ones removed every hour.
const RETRY_AFTER_TOKENS: Duration = Duration::from_secs(3600);

/// Why a call gets no answer.
#[derive(Debug)]
pub enum Refusal {
    /// The engine says why.
    Engine(Error),
    /// No photograph of the call was accepted: each one's index and reason.
    Photographs(Vec<(usize, Rejection)>),
    /// One photograph of several, by its field in the request.
    Photograph(&'static str, Rejection),
    /// One item of a list in the request, by its field.
    Item(String, Error),
    /// The call would wait too long; when it is worth another try.
    Busy(Duration),
    /// There is no memory for the call now; when it is worth another try.
    MemoryBusy(Duration),
    /// A message longer than any of its service may be, in bytes.
    MessageTooLong {
        /// As it says of itself.
        length: u32,
        /// As it may be.
        most: usize,
    },
    /// The call's message comes too slowly.
    TooSlow,
    /// The key or the account calls too often; when it may again.
    TooManyCalls(Duration),
    /// The account's photographs take too much of the workers; when it may send the next.
    TooMuchWork(Duration),
    /// The call shows no key.
    KeyRequired,
    /// The call shows a key that is unknown, wrong, revoked or expired.
    KeyNotValid,
    /// The key lacks a scope.
    ScopeMissing(Scope),
    /// The key is good for some collections only, and the call is about all of them.
    KeyRestricted,
    /// The key is not the operator's.
    OperatorOnly,
    /// The account is bound to another region than the server's.
    WrongRegion,
    /// The call's time is up.
    Late,
    /// The server is about to end.
    Stopping,
    /// The server is built without what the call asks for.
    #[cfg(not(feature = "graph"))]
    NoGraphs,
    /// The server is built without what the call asks for.
    #[cfg(not(feature = "graph"))]
    NoGraphs,
    /// A defect of ours; the details stay here.
    Panicked,
    /// The stream of requests broke off, and the transport says why.
    BrokenStream(BrokenStream),
}

/// The refusal of one call.
#[derive(Debug)]
pub struct Refused {
    /// Names the call, in the logs too.
    pub request_id: String,
    refusal: Box<Refusal>,
}

impl Refused {
    /// The call with this id is refused.
    pub fn new(request_id: String, refusal: Refusal) -> Self {
        let refusal = Box::new(refusal);
        Self { request_id, refusal }
    }

    /// What the caller is told.
    pub fn explain(&self) -> Explanation {
        self.refusal.explain()
    }

    /// The call's id, and why it was refused.
    pub fn into_parts(self) -> (String, Refusal) {
        (self.request_id, *self.refusal)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain().message)
    }
}

impl std::error::Error for Refused {}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

/// The reason of a rejection, on the wire.
pub fn rejection_reason(rejection: &Rejection) -> RejectionReason {
    match rejection {
        Rejection::NoFace => RejectionReason::NoFace,
        Rejection::SeveralFaces { .. } => RejectionReason::SeveralFaces,
        Rejection::FaceTooSmall { .. } => RejectionReason::FaceTooSmall,
        Rejection::LowConfidence { .. } => RejectionReason::LowConfidence,
        Rejection::TooManyFaces { .. } => RejectionReason::TooManyFaces,
        Rejection::UnsupportedFormat => RejectionReason::UnsupportedFormat,
        Rejection::UnsupportedKind { .. } => RejectionReason::UnsupportedKind,
        Rejection::Truncated { .. } => RejectionReason::Truncated,
        Rejection::Undecodable { .. } => RejectionReason::Undecodable,
        Rejection::TooManyBytes { .. } => RejectionReason::TooManyBytes,
        Rejection::TooManyPixels { .. } => RejectionReason::TooManyPixels,
        Rejection::SideTooShort { .. } => RejectionReason::SideTooShort,
        Rejection::SideTooLong { .. } => RejectionReason::SideTooLong,
        Rejection::EyesTooClose { .. } => RejectionReason::EyesTooClose,
        Rejection::TooBlurred { .. } => RejectionReason::TooBlurred,
        Rejection::TooDark { .. } => RejectionReason::TooDark,
        Rejection::TooBright { .. } => RejectionReason::TooBright,
        Rejection::LowContrast { .. } => RejectionReason::LowContrast,
        Rejection::TurnedAway { .. } => RejectionReason::TurnedAway,
        Rejection::Tilted { .. } => RejectionReason::Tilted,
        Rejection::LandmarksUnsure { .. } => RejectionReason::LandmarksUnsure,
        Rejection::EyesClosed { .. } => RejectionReason::EyesClosed,
        Rejection::NotThePerson { .. } => RejectionReason::NotThePerson,
    }
}

/// A rejection, on the wire.
pub fn rejection(rejection: &Rejection) -> v1::Rejection {
    v1::Rejection {
        reason: rejection_reason(rejection).into(),
        message: rejection.to_string(),
    }
}

/// What the caller is told of a refusal.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The kind of the refusal.
    pub code: Code,
    /// Why, in one of the words of the contract.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
    /// Fields of the request, and what is wrong with each.
    pub violations: Vec<(String, String)>,
    /// When the call is worth another try.
    pub retry_after: Option<Duration>,
}

impl Explanation {
    fn new(code: Code, reason: &'static str, message: impl ToString) -> Self {
        Self {
            code,
            reason,
            message: message.to_string(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    fn about(mut self, field: impl Into<String>, description: String) -> Self {
        self.violations.push((field.into(), description));
        self
    }

    /// The same, said of one item of a list.
    fn about_item(mut self, field: &str) -> Self {
        let description = match self.violations.pop() {
            Some((_, description)) => description,
            None => self.message,
        };
        self.message = format!("{field}: {description}");
        self.violations = vec![(field.to_owned(), description)];
        self
    }

    fn retry(self) -> Self {
        self.retry_after(RETRY_AFTER)
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl Refusal {
    /// Code and reason, for the logs.
    pub fn verdict(&self) -> (Code, &'static str) {
        let explanation = self.explain();
        (explanation.code, explanation.reason)
    }

    /// What became of one item of a stream.
    pub fn item(&self) -> v1::ItemRefused {
        let explanation = self.explain();
        let passes = matches!(
            explanation.code,
            Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable
        );
        v1::ItemRefused {
            reason: explanation.reason.to_owned(),
            message: explanation.message,
            retry: explanation.retry_after.is_some() || passes,
        }
    }

    /// What the log says, where the reply may not.
    pub fn operator_detail(&self) -> Option<String> {
        match self {
            Self::Engine(Error::Operator(error)) | Self::Item(_, Error::Operator(error)) => {
                Some(error.to_string())
            }
            #[cfg(not(feature = "graph"))]
            Self::NoGraphs => Explanation::new(
                Code::Unimplemented,
                "NO_GRAPHS",
                "the server is built without the feature `graph`: the exact index serves every collection, and there is \
                 nothing to measure",
            ),
            Self::Panicked => Some("a worker panicked".to_owned()),
            _ => None,
        }
    }

    /// What the caller is told.
    pub fn explain(&self) -> Explanation {
        match self {
            Self::Engine(error) => engine_explanation(error),
            Self::Photographs(rejected) => photographs_explanation(rejected),
            Self::Photograph(field, rejected) => {
                let reason = rejection_reason(rejected).as_str_name();
                Explanation::new(Code::InvalidArgument, reason, rejected)
                    .about(*field, format!("{reason}: {rejected}"))
            }
            Self::Item(field, error) => engine_explanation(error).about_item(field),
            Self::Busy(wait) => limited("BUSY", "too many calls are waiting", *wait),
            Self::MemoryBusy(wait) => limited(
                "MEMORY_BUSY",
                "other calls use the memory that this one needs",
                *wait,
            ),
            Self::TooManyCalls(wait) => limited(
                "TOO_MANY_CALLS",
                "the API key or its account calls too often",
                *wait,
            ),
            Self::TooMuchWork(wait) => limited(
                "TOO_MUCH_WORK",
                "the account's photographs take more of the server's time than it may have",
                *wait,
            ),
            Self::MessageTooLong { length, most } => Explanation::new(
                Code::OutOfRange,
                "MESSAGE_TOO_LONG",
                format!("the message is too long: expected at most {most} bytes, received {length}"),
            ),
            Self::TooSlow => Explanation::new(
                Code::DeadlineExceeded,
                "MESSAGE_TOO_SLOW",
                "the call's message comes too slowly",
            ),
            Self::KeyRequired => unauthenticated(
                "KEY_REQUIRED",
                "the call shows no API key: expected the metadata `authorization: Bearer likeness_...`",
            ),
            Self::KeyNotValid => unauthenticated("KEY_NOT_VALID", "the API key is not valid"),
            Self::ScopeMissing(scope) => denied(
                "SCOPE_MISSING",
                format!("the API key lacks the scope {}", scope.name()),
            ),
            Self::KeyRestricted => denied(
                "KEY_RESTRICTED",
                "the call concerns all collections, and the API key is good for some only",
            ),
            Self::OperatorOnly => denied("OPERATOR_ONLY", "the call needs a key of the operator's account"),
            Self::WrongRegion => Explanation::new(
                Code::FailedPrecondition,
                "WRONG_REGION",
                "the account is bound to another region than this server's",
            ),
            Self::Late => Explanation::new(
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                "the deadline passed before the call was done",
            ),
            Self::Stopping => {
                Explanation::new(Code::Unavailable, "SHUTTING_DOWN", "the server is about to end").retry()
            }
            Self::BrokenStream(broken) => Explanation::new(broken.code, BROKEN_STREAM, broken),
            Self::Panicked => {
                Explanation::new(Code::Internal, "INTERNAL", "the call failed inside the server")
            }
        }
    }
}

fn limited(reason: &'static str, message: &str, wait: Duration) -> Explanation {
    Explanation::new(Code::ResourceExhausted, reason, message).retry_after(wait)
}

fn unauthenticated(reason: &'static str, message: &str) -> Explanation {
    Explanation::new(Code::Unauthenticated, reason, message)
}

fn denied(reason: &'static str, message: impl ToString) -> Explanation {
    Explanation::new(Code::PermissionDenied, reason, message)
}

fn engine_explanation(error: &Error) -> Explanation {
    match error {
        Error::Photo(rejected) => Explanation::new(
            Code::InvalidArgument,
            rejection_reason(rejected).as_str_name(),
            rejected,
        ),
        Error::Request(error) => request_explanation(error),
        Error::Stopped(stopped) => Explanation::new(Code::Cancelled, "GIVEN_UP", stopped),
        Error::NoMemory(error) => Explanation::new(Code::ResourceExhausted, "MEMORY_BUSY", error).retry(),
        Error::Operator(error) => operator_explanation(error),
    }
}

fn photographs_explanation(rejected: &[(usize, Rejection)]) -> Explanation {
    let reason = rejected
        .first()
        .map_or(RejectionReason::Unspecified, |(_, r)| rejection_reason(r));
    let message = match rejected {
        [(_, only)] => only.to_string(),
        several => format!("{} photographs were rejected", several.len()),
    };
    let mut explanation = Explanation::new(Code::InvalidArgument, reason.as_str_name(), message);
    explanation.violations = rejected
        .iter()
        .map(|(index, rejection)| {
            let reason = rejection_reason(rejection).as_str_name();
            (format!("photographs[{index}]"), format!("{reason}: {rejection}"))
        })
        .collect();
    explanation
}

fn request_explanation(error: &RequestError) -> Explanation {
    let (code, reason) = match error {
        RequestError::Invalid {
            field,
            expected,
            received,
        } => {
            return Explanation::new(Code::InvalidArgument, "INVALID_FIELD", error)
                .about(*field, format!("expected {expected}, received {received}"));
        }
        RequestError::NoCollection => (Code::NotFound, "COLLECTION_NOT_FOUND"),
        RequestError::CollectionExists => (Code::AlreadyExists, "COLLECTION_EXISTS"),
        RequestError::NoAccount => (Code::NotFound, "ACCOUNT_NOT_FOUND"),
        RequestError::AccountExists => (Code::AlreadyExists, "ACCOUNT_EXISTS"),
        RequestError::AccountClosed => (Code::FailedPrecondition, "ACCOUNT_CLOSED"),
        RequestError::NoApiKey => (Code::NotFound, "API_KEY_NOT_FOUND"),
        RequestError::QuotaPersons { .. } => (Code::ResourceExhausted, "QUOTA_PEOPLE"),
        RequestError::QuotaFaces { .. } => (Code::ResourceExhausted, "QUOTA_FACES"),
        RequestError::TooMany { .. } => (Code::ResourceExhausted, "LIMIT_REACHED"),
        RequestError::EarlierExpiry => (Code::PermissionDenied, "SCOPE_MISSING"),
        RequestError::NoPerson => (Code::NotFound, "PERSON_NOT_FOUND"),
        RequestError::PersonExists => (Code::AlreadyExists, "PERSON_EXISTS"),
        RequestError::NoFaceOfThatId => (Code::NotFound, "FACE_NOT_FOUND"),
        RequestError::NoReceipt => (Code::NotFound, "RECEIPT_NOT_FOUND"),
        RequestError::LastFace => (Code::FailedPrecondition, "LAST_FACE"),
        RequestError::FacesPerPerson { .. } => (Code::FailedPrecondition, "TOO_MANY_FACES_FOR_PERSON"),
        RequestError::SchemeMismatch { .. } | RequestError::NoPassage { .. } => {
            (Code::FailedPrecondition, "SCHEME_MISMATCH")
        }
        RequestError::ConsentRequired => (Code::FailedPrecondition, "CONSENT_REQUIRED"),
        RequestError::TokenReused => (Code::FailedPrecondition, "TOKEN_REUSED"),
        RequestError::TokenSpent => (Code::Aborted, "TOKEN_SPENT"),
        RequestError::TooManyTokens { .. } => {
            return Explanation::new(Code::ResourceExhausted, "TOO_MANY_TOKENS", error)
                .retry_after(RETRY_AFTER_TOKENS);
        }
        RequestError::ComparisonsLimited { wait } => {
            return Explanation::new(Code::ResourceExhausted, "COMPARISONS_LIMITED", error)
                .retry_after(*wait);
        }
        RequestError::Damaged => (Code::DataLoss, "RECORD_DAMAGED"),
    };
    Explanation::new(code, reason, error)
}

/// The operator's errors name files and keys: the caller learns only that waiting may help.
fn operator_explanation(error: &OperatorError) -> Explanation {
    let message = "the server cannot do this now; its operator has the details";
    match error {
        OperatorError::ModelMismatch { .. } | OperatorError::Inference { .. } => {
            Explanation::new(Code::Unavailable, "MODEL_FAILED", message)
        }
        OperatorError::Keys { .. }
        | OperatorError::Format { .. }
        | OperatorError::File { .. }
        | OperatorError::ErasureLogShort { .. }
        | OperatorError::AuditLogShort { .. } => {
            Explanation::new(Code::Unavailable, "MISCONFIGURED", message)
        }
        OperatorError::Store { .. } | OperatorError::NoDescriptors { .. } | OperatorError::Poisoned => {
            Explanation::new(Code::Unavailable, "STORE_FAILED", message).retry()
        }
        // Waiting mends no disk.
        OperatorError::DamagedPlace => Explanation::new(Code::Unavailable, "STORE_FAILED", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_error_tells_the_caller_neither_paths_nor_keys() {
        let error = OperatorError::Keys {
            what: "root key",
            expected: "a".to_owned(),
            found: "/secret/path".to_owned(),
        };
        let explanation = Refusal::from(error).explain();
        assert!(!format!("{explanation:?}").contains("/secret/path"));
        assert_eq!(explanation.code, Code::Unavailable);
    }

    #[test]
    fn an_item_of_a_list_is_blamed_by_its_place() {
        let refusal = Refusal::Item("collections[3]".to_owned(), RequestError::NoCollection.into());
        let explanation = refusal.explain();
        assert_eq!(explanation.code, Code::NotFound);
        assert_eq!(explanation.reason, "COLLECTION_NOT_FOUND");
        let blamed = (
            "collections[3]".to_owned(),
            "the collection does not exist".to_owned(),
        );
        assert_eq!(explanation.violations, [blamed]);
    }

    #[test]
    fn each_photograph_is_rejected_by_its_own_reason() {
        let rejected = vec![(0, Rejection::NoFace), (2, Rejection::SeveralFaces { found: 3 })];
        let explanation = Refusal::Photographs(rejected).explain();
        assert_eq!(explanation.violations[0].0, "photographs[0]");
        assert_eq!(
            explanation.violations[1].1,
            "SEVERAL_FACES: one face is required and 3 were found"
        );
        assert_eq!(explanation.reason, "NO_FACE");
    }
}
