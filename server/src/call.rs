//! What a call is, whatever door it comes through: who makes it, what it may take, and what is written down of it.

pub mod budgets;
pub mod caller;
pub mod context;
pub mod deadline;
pub mod front;
pub mod gate;
pub mod kinds;
pub mod message_memory;
pub mod messages;
pub mod outputs;
pub mod places;
pub mod rates;
pub mod record;
pub mod resources;
pub mod rpcs;
pub mod shapes;
pub mod slices;
pub mod streams;
pub mod work;
