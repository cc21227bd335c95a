//! The wire contract of Likeness, compiled from `likeness/v1/likeness.proto` and the files it imports; the manual is
//! in their comments, and on the page `docs/api.md` that is made of them.

pub mod credential;
pub mod handed;
pub mod resend;

pub use prost::{Message, bytes};

/// Version 1.
#[allow(missing_docs, reason = "generated; the documentation is in the proto file")]
pub mod v1 {
    tonic::include_proto!("likeness.v1");

    /// The encoded descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/likeness.v1.bin"));
}
