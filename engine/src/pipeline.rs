//! From a photograph to a template: the stages in order.

pub(crate) mod protect;
