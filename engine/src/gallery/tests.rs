//! The gallery against disks that fail, crash and lie, and against a plain model of itself.

mod blocks;
mod changes;
mod clear;
mod crash;
mod damage;
mod disk;
mod duplicates;
mod erasure;
mod everywhere;
mod expiry;
mod formats;
mod graph;
mod group;
mod log;
mod memory;
mod model;
mod pairs;
mod passage;
mod passes;
mod races;
mod replies;
mod rotation;
mod signing;
mod start;
mod support;
mod tokens;
