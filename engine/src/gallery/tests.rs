//! The gallery against disks that fail, crash and lie, and against a plain model of itself.

mod accounts;
mod audit;
mod blocks;
mod changes;
mod clear;
mod closing;
mod copies;
mod crash;
mod damage;
mod damaged;
mod duplicates;
mod erasure;
mod everywhere;
mod expiry;
mod formats;
#[cfg(feature = "graph")]
mod graph;
mod group;
mod lineage;
mod log;
#[cfg(feature = "graph")]
mod measure;
mod memory;
mod meter;
mod model;
mod pairs;
mod passage;
mod passes;
mod races;
mod replies;
mod rotation;
mod running;
mod signing;
mod start;
mod support;
mod tokens;
