//! Wire messages to the engine's types, and back.

mod accounts;
mod logs;
mod replies;
mod requests;

pub use self::accounts::*;
pub use self::logs::*;
pub use self::replies::*;
pub use self::requests::*;
