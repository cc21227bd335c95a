//! The gRPC door: connections, the layers that every request passes, and the services of the contract.

pub mod adapter;
pub mod auth;
pub mod bodies;
pub mod connections;
pub mod credential;
pub mod deadline;
pub mod incoming;
pub mod limit;
pub mod scrub;
pub mod server;
pub mod services;
pub mod socket;
pub mod status;
