//! Likeness from outside: a real server, real clients, real models, real photographs.
//!
//! One story a file. Whatever is missing fails a test and never skips one: `make assets` obtains it.
#![allow(clippy::unwrap_used, reason = "the whole program is a test")]

mod support;

mod access;
mod accounts;
mod bad_input;
mod bodies;
mod busy;
mod checks;
mod cli;
mod collections;
mod commands;
mod consent;
mod crash;
mod damage;
mod deadline;
mod delete;
mod details;
mod detection;
mod docs;
mod doors;
mod duplicates;
mod enroll;
mod erasure;
mod fairness;
mod floods;
mod format_fixture;
mod idempotency;
mod import;
mod import_graph;
mod in_process_door;
mod interfaces;
mod keys_and_formats;
mod layering;
mod lifecycle;
mod limits;
mod logs;
mod many;
mod markers;
mod match_one_to_one;
#[cfg(feature = "graph")]
mod measure;
mod memory;
mod meter;
mod metrics;
#[cfg(not(feature = "graph"))]
mod no_graph;
mod orientation;
mod overload;
mod own_models;
mod private_files;
mod public_api;
mod quality;
mod receipts;
mod replies;
mod residue;
mod resting;
mod retention;
mod scopes;
mod scores;
mod search;
mod shutdown;
mod strangers;
mod tls;
mod tools;
mod two_years;
mod update;
mod words;
