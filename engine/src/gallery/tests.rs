//! The gallery against disks that fail, crash and lie, and against a plain model of itself.

mod blocks;
mod changes;
mod clear;
mod crash;
mod damage;
mod disk;
mod erasure;
mod everywhere;
mod formats;
mod group;
mod log;
mod memory;
mod model;
mod pairs;
mod races;
mod replies;
mod rotation;
mod signing;
mod support;
