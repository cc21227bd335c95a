//! People: enrolled, read, changed, erased, copied, exported, and found twice. One story in each file, from the
//! service's request to the edit that the writer makes durable (`gallery/commit.rs`).

pub(crate) mod admission;
pub(crate) mod change;
pub(crate) mod duplicates;
pub(crate) mod enroll;
pub(crate) mod erase;
pub(crate) mod erase_everywhere;
pub(crate) mod expire;
pub(crate) mod export;
pub(crate) mod photographs;
pub(crate) mod protectors;
pub(crate) mod read;
pub(crate) mod rules;
pub(crate) mod transfer;
