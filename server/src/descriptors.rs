//! File descriptors: every connection takes one, and so do the files of the store, which must never find them used up.

use likeness_engine::DESCRIPTORS_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::doors::grpc::connections::LEAVING_MAX;
use crate::metrics::scrape;

/// Everything else: standard streams, listeners, logs, the runtime's own, and files that are read at a start or now
/// and then.
const OTHERS_MAX: usize = 128;

/// Why the server cannot have the descriptors that it may need.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorsError {
    /// The hard limit is too low.
    #[error(
        "--connections {connections}: expected a hard limit of at least {needed} open files, found {found}; raise it \
         (LimitNOFILE, ulimit -Hn){}",
        match fits {
            0 => String::new(),
            fits => format!(", or allow {fits} connections at most"),
        }
    )]
    HardLimit {
        /// As many as may be.
        connections: u32,
        /// Descriptors for all of it.
        needed: u64,
        /// What the system allows.
        found: u64,
        /// Connections that the found limit leaves room for.
        fits: u64,
    },
    /// The soft limit stays where it is.
    #[error("raising the limit of open files to {needed}: {source}")]
    Raise {
        /// Descriptors for all of it.
        needed: u64,
        /// Why not.
        source: rustix::io::Errno,
    },
}

/// Descriptors that a server with so many connections may need.
fn needed(connections: u32) -> u64 {
    u64::from(connections) + reserved()
}

/// Those of them that are not for connections.
fn reserved() -> u64 {
    (DESCRIPTORS_MAX + LEAVING_MAX + scrape::CONNECTIONS_MAX + OTHERS_MAX) as u64
}

/// Raises the soft limit of this process to what a server with so many connections may need.
///
/// # Errors
/// The hard limit does not allow as many.
pub fn secure(connections: u32) -> Result<(), DescriptorsError> {
    let (limit, needed) = (getrlimit(Resource::Nofile), needed(connections));
    if let Some(found) = limit.maximum.filter(|found| *found < needed) {
        return Err(DescriptorsError::HardLimit {
            connections,
            needed,
            found,
            fits: found.saturating_sub(reserved()),
        });
    }
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|source| DescriptorsError::Raise { needed, source })
}

/// Descriptors in use, and as many as may be; none where the system does not tell.
pub fn in_use() -> Option<(u64, u64)> {
    // The one that counts is counted too.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some((
        open as u64,
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
    ))
}
