//! Acts of administrators, and their entries in the audit log.

use crate::names::{Account, RandomId};
use crate::person::Timestamp;

macro_rules! acts {
    ($($(#[$about:meta])* $act:ident = $number:literal, $name:literal;)*) => {
        /// What administrators do, and is written down.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Act {
            $($(#[$about])* $act,)*
        }

        impl Act {
            /// Every act.
            pub const ALL: &[Self] = &[$(Self::$act),*];

            /// Its name, as the log says it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$act => $name,)*
                }
            }

            /// As rows have it: a number is never used for another act.
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$act => $number,)*
                }
            }

            /// The act with this number in a row; none where no act has it.
            pub const fn numbered(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$act),)*
                    _ => None,
                }
            }
        }
    };
}

acts! {
    /// An account was made.
    CreateAccount = 1, "create-account";
    /// Region or quotas of an account were changed.
    UpdateAccount = 2, "update-account";
    /// An account was closed.
    CloseAccount = 3, "close-account";
    /// An API key was made; the object is its id.
    CreateApiKey = 4, "create-api-key";
    /// An API key was revoked.
    RevokeApiKey = 5, "revoke-api-key";
    /// A collection was made.
    CreateCollection = 6, "create-collection";
    /// A collection's settings were changed.
    UpdateCollection = 7, "update-collection";
    /// A collection was erased.
    DeleteCollection = 8, "delete-collection";
    /// The wrapping key was rotated.
    RotateWrappingKey = 9, "rotate-wrapping-key";
    /// The signing key was rotated.
    RotateSigningKey = 10, "rotate-signing-key";
    /// A key group was destroyed.
    DestroyKeyGroup = 11, "destroy-key-group";
    /// A residue audit was prepared in a collection.
    PrepareResidueAudit = 12, "prepare-residue-audit";
    /// The deployment was closed.
    CloseDeployment = 13, "close-deployment";
    /// A start was told to take an audit log that does not reach its anchor.
    AcceptAuditLog = 14, "accept-audit-log";
    /// A check for people who are enrolled twice named somebody by features; the object is the collection.
    NameFeatures = 15, "name-features";
}

/// Who did what to what. It names nobody who is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The account of the key that asked; of an act without a server, the operator's.
    pub account: Account,
    /// The key that asked; none without a server.
    pub key: Option<RandomId>,
    /// The call.
    pub request: RandomId,
    /// What was done.
    pub act: Act,
    /// The account that it was done to.
    pub of: Account,
    /// What it was done to: a collection's name, a key's id; empty where the account says it all.
    pub object: String,
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// Its number, from 0.
    pub sequence: u64,
    /// The hash of the entry before it; zeros in the first.
    pub previous: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
    /// When.
    pub time: Timestamp,
    /// The act of an entry before this one was not carried out.
    pub failed: bool,
    /// What it says.
    pub entry: AuditEntry,
}
