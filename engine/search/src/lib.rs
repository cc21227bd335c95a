//! Templates compared with each other: the exact index, the graph, kernels, and batches of searches. No disk, no photograph.

pub mod arena;
pub mod batcher;
pub mod bound;
pub mod cascade;
pub mod cores;
pub mod flat;
#[cfg(feature = "graph")]
pub mod graph;
pub mod index;
pub mod kernels;
pub mod lookup;
pub mod multi_face;
pub mod nearness;
#[cfg(not(feature = "graph"))]
pub mod no_graph;
pub mod pages;
pub mod person_table;
pub mod rows;
mod simd;
pub mod tags;
pub mod top;
pub mod weights;

#[cfg(not(feature = "graph"))]
pub use no_graph as graph;
