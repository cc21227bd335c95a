//! Reasons why connections end.

/// Why a connection was closed, or not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// There are as many as may be, and none of them gives way.
    Full,
    /// It had shown no valid key, or none of its calls was under way, and gave way to another.
    Displaced,
    /// Its TLS handshake failed, or took too long.
    Handshake,
    /// It did not begin, or took no bytes.
    Stalled,
    /// It had no call for too long.
    Idle,
    /// It was as old as one may be.
    Age,
    /// Its calls were over: its buffers, which hold what was said last, go with it.
    Rested,
}

impl Closed {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::Displaced,
        Self::Handshake,
        Self::Stalled,
        Self::Idle,
        Self::Age,
        Self::Rested,
    ];

    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Displaced => "displaced",
            Self::Handshake => "handshake",
            Self::Stalled => "stalled",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Rested => "rested",
        }
    }
}
