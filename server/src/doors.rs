//! The doors that calls come through: each turns what it receives into a context and a message.

pub mod grpc;
pub mod in_process;
