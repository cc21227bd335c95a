//! Refusals to gRPC statuses, with details a program can read.

use std::collections::HashMap;
use std::time::Duration;

use likeness_engine::{Error, OperatorError, Rejection, RequestError, Scope};
use likeness_proto::v1::{self, RejectionReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every ErrorInfo.
const DOMAIN: &str = "likeness";
/// When a refused call is worth another try, where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Idempotency tokens are kept for a day, and the expired ones removed every hour.
const RETRY_AFTER_TOKENS: Duration = Duration::from_secs(3600);

/// A code, as the gRPC specification spells it.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

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
    /// A defect of ours; the details stay here.
    Panicked,
}

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

/// What a refusal says: code, reason, and the fields it speaks of.
struct Saying {
    code: Code,
    reason: &'static str,
    message: String,
    violations: Vec<(String, String)>,
    retry: Option<Duration>,
}

impl Saying {
    fn new(code: Code, reason: &'static str, message: impl ToString) -> Self {
        Self {
            code,
            reason,
            message: message.to_string(),
            violations: Vec::new(),
            retry: None,
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
        self.retry = Some(wait);
        self
    }
}

impl Refusal {
    /// The status of a call with this id.
    pub fn into_status(self, request_id: &str) -> Status {
        let saying = self.saying();
        let mut details = ErrorDetails::new();
        details.set_error_info(saying.reason, DOMAIN, HashMap::new());
        details.set_request_info(request_id, "");
        for (field, description) in saying.violations {
            details.add_bad_request_violation(field, description);
        }
        if let Some(wait) = saying.retry {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(saying.code, saying.message, details)
    }

    /// Code and reason, for the logs.
    pub fn verdict(&self) -> (Code, &'static str) {
        let saying = self.saying();
        (saying.code, saying.reason)
    }

    /// What became of one item of a stream.
    pub fn item(&self) -> v1::ItemRefused {
        let saying = self.saying();
        let passes = matches!(
            saying.code,
            Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable
        );
        v1::ItemRefused {
            reason: saying.reason.to_owned(),
            message: saying.message,
            retry: saying.retry.is_some() || passes,
        }
    }

    /// What the log says, where the reply may not.
    pub fn operator_detail(&self) -> Option<String> {
        match self {
            Self::Engine(Error::Operator(error)) | Self::Item(_, Error::Operator(error)) => {
                Some(error.to_string())
            }
            Self::Panicked => Some("a worker panicked".to_owned()),
            _ => None,
        }
    }

    fn saying(&self) -> Saying {
        match self {
            Self::Engine(error) => engine_saying(error),
            Self::Photographs(rejected) => photographs_saying(rejected),
            Self::Photograph(field, rejected) => {
                let reason = rejection_reason(rejected).as_str_name();
                Saying::new(Code::InvalidArgument, reason, rejected)
                    .about(*field, format!("{reason}: {rejected}"))
            }
            Self::Item(field, error) => engine_saying(error).about_item(field),
            Self::Busy(wait) => {
                Saying::new(Code::ResourceExhausted, "BUSY", "too many calls are waiting").retry_after(*wait)
            }
            Self::MemoryBusy(wait) => Saying::new(
                Code::ResourceExhausted,
                "MEMORY_BUSY",
                "other calls use the memory that this one needs",
            )
            .retry_after(*wait),
            Self::MessageTooLong { length, most } => Saying::new(
                Code::OutOfRange,
                "MESSAGE_TOO_LONG",
                format!("the message is too long: expected at most {most} bytes, received {length}"),
            ),
            Self::TooSlow => Saying::new(
                Code::DeadlineExceeded,
                "MESSAGE_TOO_SLOW",
                "the call's message comes too slowly",
            ),
            Self::TooManyCalls(wait) => Saying::new(
                Code::ResourceExhausted,
                "TOO_MANY_CALLS",
                "the API key or its account calls too often",
            )
            .retry_after(*wait),
            Self::TooMuchWork(wait) => Saying::new(
                Code::ResourceExhausted,
                "TOO_MUCH_WORK",
                "the account's photographs take more of the server's time than it may have",
            )
            .retry_after(*wait),
            Self::KeyRequired => Saying::new(
                Code::Unauthenticated,
                "KEY_REQUIRED",
                "the call shows no API key: expected the metadata `authorization: Bearer likeness_...`",
            ),
            Self::KeyNotValid => {
                Saying::new(Code::Unauthenticated, "KEY_NOT_VALID", "the API key is not valid")
            }
            Self::ScopeMissing(scope) => Saying::new(
                Code::PermissionDenied,
                "SCOPE_MISSING",
                format!("the API key lacks the scope {}", scope.name()),
            ),
            Self::KeyRestricted => Saying::new(
                Code::PermissionDenied,
                "KEY_RESTRICTED",
                "the call concerns all collections, and the API key is good for some only",
            ),
            Self::OperatorOnly => Saying::new(
                Code::PermissionDenied,
                "OPERATOR_ONLY",
                "the call needs a key of the operator's account",
            ),
            Self::WrongRegion => Saying::new(
                Code::FailedPrecondition,
                "WRONG_REGION",
                "the account is bound to another region than this server's",
            ),
            Self::Late => Saying::new(
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                "the deadline passed before the call was done",
            ),
            Self::Stopping => {
                Saying::new(Code::Unavailable, "SHUTTING_DOWN", "the server is about to end").retry()
            }
            #[cfg(not(feature = "graph"))]
            Self::NoGraphs => Saying::new(
                Code::Unimplemented,
                "NO_GRAPHS",
                "the server is built without the feature `graph`: the flat index serves every collection, and there is \
                 nothing to measure",
            ),
            Self::Panicked => Saying::new(Code::Internal, "INTERNAL", "the call failed inside the server"),
        }
    }
}

fn engine_saying(error: &Error) -> Saying {
    match error {
        Error::Photo(rejected) => Saying::new(
            Code::InvalidArgument,
            rejection_reason(rejected).as_str_name(),
            rejected,
        ),
        Error::Request(error) => request_saying(error),
        Error::Stopped(stopped) => Saying::new(Code::Cancelled, "GIVEN_UP", stopped),
        Error::NoMemory(error) => Saying::new(Code::ResourceExhausted, "MEMORY_BUSY", error).retry(),
        Error::Operator(error) => operator_saying(error),
    }
}

fn photographs_saying(rejected: &[(usize, Rejection)]) -> Saying {
    let reason = rejected
        .first()
        .map_or(RejectionReason::Unspecified, |(_, r)| rejection_reason(r));
    let message = match rejected {
        [(_, only)] => only.to_string(),
        several => format!("{} photographs were rejected", several.len()),
    };
    let mut saying = Saying::new(Code::InvalidArgument, reason.as_str_name(), message);
    saying.violations = rejected
        .iter()
        .map(|(index, rejection)| {
            let reason = rejection_reason(rejection).as_str_name();
            (format!("photographs[{index}]"), format!("{reason}: {rejection}"))
        })
        .collect();
    saying
}

fn request_saying(error: &RequestError) -> Saying {
    let (code, reason) = match error {
        RequestError::Invalid {
            field,
            expected,
            received,
        } => {
            return Saying::new(Code::InvalidArgument, "INVALID_FIELD", error)
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
            return Saying::new(Code::ResourceExhausted, "TOO_MANY_TOKENS", error)
                .retry_after(RETRY_AFTER_TOKENS);
        }
        RequestError::ComparisonsLimited { wait } => {
            return Saying::new(Code::ResourceExhausted, "COMPARISONS_LIMITED", error).retry_after(*wait);
        }
        RequestError::Damaged => (Code::DataLoss, "RECORD_DAMAGED"),
    };
    Saying::new(code, reason, error)
}

/// The operator's errors name files and keys: the caller learns only that waiting may help.
fn operator_saying(error: &OperatorError) -> Saying {
    let message = "the server cannot do this now; its operator has the details";
    match error {
        OperatorError::ModelMismatch { .. } | OperatorError::Inference { .. } => {
            Saying::new(Code::Unavailable, "MODEL_FAILED", message)
        }
        OperatorError::Keys { .. }
        | OperatorError::Format { .. }
        | OperatorError::File { .. }
        | OperatorError::ErasureLogShort { .. }
        | OperatorError::AuditLogShort { .. } => Saying::new(Code::Unavailable, "MISCONFIGURED", message),
        OperatorError::Store { .. } | OperatorError::NoDescriptors { .. } | OperatorError::Poisoned => {
            Saying::new(Code::Unavailable, "STORE_FAILED", message).retry()
        }
        // Waiting mends no disk.
        OperatorError::DamagedPlace => Saying::new(Code::Unavailable, "STORE_FAILED", message),
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
        let status = Refusal::from(error).into_status("id");
        assert!(!format!("{status:?}").contains("/secret/path"));
        assert_eq!(status.code(), Code::Unavailable);
    }

    #[test]
    fn a_refusal_carries_reason_request_id_and_field() {
        let status = Refusal::from(RequestError::invalid("top_k", "1 to 100", "101")).into_status("id-1");
        let details = status.get_error_details();
        assert_eq!(
            details.error_info().map(|i| i.reason.as_str()),
            Some("INVALID_FIELD")
        );
        assert_eq!(
            details.request_info().map(|i| i.request_id.as_str()),
            Some("id-1")
        );
        assert_eq!(
            details
                .bad_request()
                .map(|b| b.field_violations[0].field.as_str()),
            Some("top_k")
        );
    }

    #[test]
    fn an_item_of_a_list_is_blamed_by_its_place() {
        let status = Refusal::Item("collections[3]".to_owned(), RequestError::NoCollection.into());
        let status = status.into_status("id");
        assert_eq!(status.code(), Code::NotFound);
        let details = status.get_error_details();
        let reason = details.error_info().map(|i| i.reason.as_str());
        assert_eq!(reason, Some("COLLECTION_NOT_FOUND"));
        let fields = &details.bad_request().expect("violations").field_violations;
        assert_eq!(fields[0].field, "collections[3]");
        assert_eq!(fields[0].description, "the collection does not exist");
    }

    #[test]
    fn each_photograph_is_rejected_by_its_own_reason() {
        let rejected = vec![(0, Rejection::NoFace), (2, Rejection::SeveralFaces { found: 3 })];
        let status = Refusal::Photographs(rejected).into_status("id");
        let details = status.get_error_details();
        let fields = &details.bad_request().expect("violations").field_violations;
        assert_eq!(fields[0].field, "photographs[0]");
        assert_eq!(
            fields[1].description,
            "SEVERAL_FACES: one face is required and 3 were found"
        );
        assert_eq!(details.error_info().map(|i| i.reason.as_str()), Some("NO_FACE"));
    }
}
