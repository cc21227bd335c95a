//! Templates compared with each other: the exact index, the graph, kernels, and batches of searches. No disk, no photograph.

#![warn(unreachable_pub)]

mod arena;
pub mod batcher;
mod bound;
mod cascade;
pub mod cores;
mod flat;
#[cfg(feature = "graph")]
pub mod graph;
pub mod index;
pub mod kernels;
mod lookup;
pub mod multi_face;
mod nearness;
#[cfg(not(feature = "graph"))]
pub mod no_graph;
mod pages;
pub mod person_table;
pub mod rows;
mod simd;
pub mod tags;
mod top;
mod weights;

#[cfg(not(feature = "graph"))]
pub use no_graph as graph;
