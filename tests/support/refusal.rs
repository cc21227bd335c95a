//! Refusals, as a program reads them.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a status says, and that it says all it must.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    pub reason: String,
}

impl Refused {
    pub fn new(code: Code, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { code, reason }
    }

    /// Another photograph may succeed.
    pub fn photo(reason: &str) -> Self {
        Self::new(Code::InvalidArgument, reason)
    }
}

/// Code and reason of the end of a stream, whose metadata came with its beginning.
pub fn read_details(status: &Status) -> Refused {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_request_id(&details.request_info().expect("a RequestInfo").request_id);
    Refused::new(status.code(), &info.reason)
}

/// Whether it is no answer of the server: the client's library saw the end of the connection before it had sent the call.
/// Libraries of other languages send it again by themselves.
pub fn is_unsent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let text = error.to_string();
        if text.contains("connection closed")
            || text.contains("operation was canceled")
            || text == "http2 error"
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// Code and reason of a refusal; every refusal also has the domain and the request id.
pub fn read(status: &Status) -> Refused {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "likeness");
    let request = details.request_info().expect("a RequestInfo");
    assert_request_id(&request.request_id);
    let metadata = status.metadata().get("x-request-id").expect("x-request-id");
    assert_eq!(metadata.to_str().unwrap(), request.request_id);
    Refused::new(status.code(), &info.reason)
}

/// The refusal of a call that must not succeed.
pub fn of<T>(answer: Result<T, Status>) -> Refused {
    match answer {
        Ok(_) => panic!("it was not refused"),
        Err(status) => read(&status),
    }
}

/// The fields that a refusal blames.
pub fn fields<T>(answer: Result<T, Status>) -> Vec<String> {
    let Err(status) = answer else {
        panic!("it was not refused");
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    read(&status);
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone());
    violations
        .unwrap_or_default()
        .into_iter()
        .map(|v| v.field)
        .collect()
}

pub fn assert_request_id(id: &str) {
    assert!(
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
}
