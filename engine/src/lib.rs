//! Likeness, the engine: photographs in, irreversible templates kept, people found and erased.

mod call;
mod config;
mod embedding;
mod error;
mod gallery;
mod pipeline;
mod template;

pub use call::{Call, Cancel, Step};
pub use config::Limits;
pub use embedding::{EMBEDDING_DIM_MAX, Embedding};
pub use error::{Error, OperatorError, Rejection, RequestError, Result, Stopped};
pub use pipeline::protect::Protector;
pub use template::{Bits, Probe, Template};
