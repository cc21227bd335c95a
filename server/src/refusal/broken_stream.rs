//! Streams of requests that broke off.

use std::error::Error;
use std::fmt;

use super::code::Code;

/// What the logs and the metrics say of such a call.
pub const REASON: &str = "BROKEN_STREAM";

/// How the transport ended a stream of requests.
#[derive(Debug)]
pub struct BrokenStream {
    /// The kind of its error.
    pub code: Code,
    error: Box<dyn Error + Send + Sync>,
}

impl BrokenStream {
    /// By this error of the transport.
    pub fn new(code: Code, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        Self { code, error }
    }

    /// The error of the transport, for the door that made it.
    pub fn into_error(self) -> Box<dyn Error + Send + Sync> {
        self.error
    }
}

impl fmt::Display for BrokenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for BrokenStream {}
