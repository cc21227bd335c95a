//! The right of the engine's crates to read template bits, probe values, plain features and keys.

/// Asked for by every function that reveals bits of a template, values of a probe or of an embedding, or a key.
///
/// Only crates of the engine can name it: the engine does not export it, and no other crate depends on the crates that do.
#[derive(Debug, Clone, Copy)]
pub struct Inside;
