//! Replies and refusals as gRPC says them: a status with details that a program can read, and the id of the call in the
//! metadata.

use std::collections::HashMap;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::call::context::Answered;
use crate::refusal::broken_stream::BrokenStream;
use crate::refusal::{Code, Explanation, Refusal, Refused};

/// The domain of every ErrorInfo.
const DOMAIN: &str = "likeness";
/// Metadata key of the request id.
const REQUEST_ID: &str = "x-request-id";

/// The status of a refusal.
pub fn of(refused: Refused) -> Status {
    let (request_id, refusal) = refused.into_parts();
    let refusal = match refusal {
        Refusal::BrokenStream(broken) => return of_broken(broken),
        refusal => refusal.explain(),
    };
    let mut status = with_details(refusal, &request_id);
    insert_id(status.metadata_mut(), &request_id);
    status
}

/// The response of a reply.
pub fn response<T>(answered: Answered<T>) -> Response<T> {
    let mut response = Response::new(answered.reply);
    insert_id(response.metadata_mut(), &answered.request_id);
    response
}

/// A stream of requests that ended with this status.
pub fn broken(status: Status) -> BrokenStream {
    BrokenStream::new(code_of(status.code()), status)
}

/// The status that the stream ended with.
fn of_broken(broken: BrokenStream) -> Status {
    let code = broken.code;
    match broken.into_error().downcast::<Status>() {
        Ok(status) => *status,
        Err(error) => Status::new(code_to(code), error.to_string()),
    }
}

fn with_details(refusal: Explanation, request_id: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(refusal.reason, DOMAIN, HashMap::new());
    details.set_request_info(request_id, "");
    for (field, description) in refusal.violations {
        details.add_bad_request_violation(field, description);
    }
    if let Some(wait) = refusal.retry_after {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(code_to(refusal.code), refusal.message, details)
}

/// Says in the metadata which call it was.
fn insert_id(metadata: &mut MetadataMap, request_id: &str) {
    let value: MetadataValue<_> = request_id.parse().expect("hex digits are a metadata value");
    metadata.insert(REQUEST_ID, value);
}

macro_rules! codes {
    ($($code:ident),* $(,)?) => {
        /// A code, as tonic has it.
        const fn code_to(code: Code) -> tonic::Code {
            match code {
                $(Code::$code => tonic::Code::$code,)*
            }
        }

        /// A code of tonic's.
        const fn code_of(code: tonic::Code) -> Code {
            match code {
                $(tonic::Code::$code => Code::$code,)*
            }
        }
    };
}

codes!(
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
);

#[cfg(test)]
mod tests {
    use likeness_engine::RequestError;

    use super::*;

    #[test]
    fn a_refusal_carries_reason_request_id_and_field() {
        let refusal = Refusal::from(RequestError::invalid("top_k", "1 to 100", "101"));
        let status = of(Refused::new("id-1".to_owned(), refusal));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
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
    fn a_stream_that_broke_off_ends_with_the_status_of_its_transport() {
        let mut status = Status::out_of_range("too long");
        insert_id(status.metadata_mut(), "0f");
        let refused = Refused::new("1e".to_owned(), Refusal::BrokenStream(broken(status)));
        assert_eq!(refused.explain().reason, "BROKEN_STREAM");
        let status = of(refused);
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::OutOfRange, "too long")
        );
        let id = status.metadata().get(REQUEST_ID);
        assert_eq!(id.and_then(|id| id.to_str().ok()), Some("0f"));
    }

    #[test]
    fn every_code_is_named_as_the_specification_has_it() {
        for number in 0..=16 {
            let code = tonic::Code::from(number);
            assert_eq!(code_to(code_of(code)), code);
            let name = code_of(code).name().replace('_', "").to_lowercase();
            assert_eq!(name, format!("{code:?}").to_lowercase());
        }
    }
}
