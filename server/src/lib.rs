//! Likeness, the service: gRPC and the command line around the engine.

pub mod assets;
pub mod plot;
