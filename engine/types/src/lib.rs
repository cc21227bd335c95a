//! Foundation of the engine: errors, names, secrets, templates, people. It knows no model, no index and no disk.

#![warn(unreachable_pub)]

pub mod act;
pub mod busy;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod digest;
pub mod doors;
pub mod error;
pub mod fused;
mod heap;
mod inside;
pub mod memory;
pub mod names;
pub mod person;
pub mod scheme;
pub mod span;
pub mod swap;
pub mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wipe;

pub use inside::Inside;
