//! Kinds of refusals.

/// The kind of a refusal: the canonical codes, which every protocol of calls can express.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No refusal.
    Ok,
    /// The caller gave the call up.
    Cancelled,
    /// The transport does not say.
    Unknown,
    /// A field of the request.
    InvalidArgument,
    /// The call's time is up.
    DeadlineExceeded,
    /// What the request names does not exist.
    NotFound,
    /// What the request would create exists.
    AlreadyExists,
    /// The key is not good for the call.
    PermissionDenied,
    /// A limit.
    ResourceExhausted,
    /// The state of what the request names.
    FailedPrecondition,
    /// An earlier call with the same token.
    Aborted,
    /// The length of the message.
    OutOfRange,
    /// The server does not have the call.
    Unimplemented,
    /// A defect of the server.
    Internal,
    /// The server cannot do it at present.
    Unavailable,
    /// A record is damaged.
    DataLoss,
    /// The call shows no valid key.
    Unauthenticated,
}

impl Code {
    /// As the specification of gRPC spells it, in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}
