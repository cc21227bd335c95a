//! How a command can fail, and the exit code that says so (after BSD's sysexits).

use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// No match, or a failed check.
pub const NO_MATCH: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// A photograph or a value was refused.
pub const DATA: u8 = 65;
const NOT_FOUND: u8 = 66;
/// The server cannot be reached or cannot work.
pub const UNAVAILABLE: u8 = 69;
const DEFECT: u8 = 70;
const EXISTS: u8 = 73;
const BUSY: u8 = 75;
const PERMISSION: u8 = 77;
/// Keys, models or data do not fit.
pub const CONFIGURATION: u8 = 78;

/// Why a command did not succeed.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "serve"),
    expect(dead_code, reason = "a client alone has no engine that fails, and no tour")
)]
pub enum Failure {
    /// The server refused the call.
    Refused(Status),
    /// The server cannot be reached.
    Unreachable(String),
    /// The engine, the server or the models of this process.
    Local {
        /// The exit code.
        code: u8,
        /// What failed.
        message: String,
    },
    /// A file of the user's.
    File {
        /// What was being done, as in "reading".
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The command line asks for something that cannot be.
    Usage(String),
    /// Data are not as expected.
    Verification(String),
    /// Not done to the end, though what was found stands.
    Interrupted {
        /// By what, and how to go on.
        why: String,
        /// What was found, for people.
        text: String,
        /// The same for scripts.
        json: Value,
    },
    /// A defect of this program's.
    Defect(String),
    /// A step of the guided tour did not show what it should.
    Demo(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::DataLoss => DATA,
                Code::NotFound => NOT_FOUND,
                Code::AlreadyExists => EXISTS,
                Code::ResourceExhausted => BUSY,
                Code::Unauthenticated | Code::PermissionDenied => PERMISSION,
                // No server says so: the connection broke, or was never one of ours.
                Code::Unknown | Code::Internal if status.source().is_some() => UNAVAILABLE,
                Code::Internal | Code::Unknown | Code::Unimplemented => DEFECT,
                _ => UNAVAILABLE,
            },
            Self::Unreachable(_) => UNAVAILABLE,
            Self::Local { code, .. } => *code,
            Self::File { .. } => NOT_FOUND,
            Self::Usage(_) => USAGE,
            Self::Verification(_) => DATA,
            Self::Interrupted { .. } => BUSY,
            Self::Defect(_) | Self::Demo(_) => DEFECT,
        }
    }

    /// What was found before it failed, for people.
    pub fn found(&self) -> &str {
        match self {
            Self::Interrupted { text, .. } => text,
            _ => "",
        }
    }

    /// The same for scripts.
    pub fn json(&self) -> Value {
        let mut error = json!({ "message": self.to_string(), "exit_code": self.code() });
        if let Self::Refused(status) = self {
            let details = status.get_error_details();
            error["grpc_code"] = json!(format!("{:?}", status.code()));
            error["reason"] = json!(details.error_info().map(|i| i.reason.clone()));
            error["request_id"] = json!(details.request_info().map(|r| r.request_id.clone()));
        }
        match self {
            Self::Interrupted { json, .. } => {
                let mut found = json.clone();
                found["error"] = error;
                found
            }
            _ => json!({ "error": error }),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => refused(f, status),
            Self::Unreachable(why) => write!(f, "the server cannot be reached: {why}"),
            Self::File { doing, path, source } => write!(f, "{doing} {}: {source}", path.display()),
            Self::Usage(what)
            | Self::Verification(what)
            | Self::Defect(what)
            | Self::Demo(what)
            | Self::Local { message: what, .. }
            | Self::Interrupted { why: what, .. } => f.write_str(what),
        }
    }
}

fn refused(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    f.write_str(status.message())?;
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        write!(f, " [{}]", info.reason)?;
    }
    let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
    // Where the message names the field already, nothing is said twice.
    for violation in violations
        .iter()
        .filter(|v| !status.message().contains(&v.description))
    {
        write!(f, "\n  {}: {}", violation.field, violation.description)?;
    }
    if let Some(request) = details.request_info() {
        write!(f, "\n  request {}", request.request_id)?;
    }
    Ok(())
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}
