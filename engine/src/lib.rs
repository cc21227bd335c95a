//! Likeness, the engine: photographs in, irreversible templates kept, people found and erased.

mod call;
mod config;
mod crypto;
mod embedding;
mod error;
mod gallery;
mod keys;
mod names;
mod person;
mod pipeline;
mod scheme;
mod slots;
mod template;

pub use call::{Call, Cancel, Step};
pub use config::Limits;
pub use embedding::{EMBEDDING_DIM_MAX, Embedding};
pub use error::{Error, OperatorError, Rejection, RequestError, Result, Stopped};
pub use names::{Account, CollectionName, FaceId, PersonId};
