//! Keeps secrets out of swap, as far as the system allows.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the system's limit on locked memory is reached: asking again for every page is no use.
static LIMIT_REACHED: AtomicBool = AtomicBool::new(false);

/// These values are not written to swap while the guard lives; `None` where the limit forbids it, which
/// the log says once. Locking goes by pages, so the first and the last of them may serve others too.
pub fn keep_out<T>(values: &[T]) -> Option<region::LockGuard> {
    if values.is_empty() || LIMIT_REACHED.load(Ordering::Relaxed) {
        return None;
    }
    match region::lock(values.as_ptr(), size_of_val(values)) {
        Ok(guard) => Some(guard),
        Err(error) => {
            if !LIMIT_REACHED.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %error,
                    "not everything secret in memory can be kept out of swap: raise the limit on locked memory \
                     (ulimit -l), or see to it that swap is off or encrypted"
                );
            }
            None
        }
    }
}

/// What the system's list of swap areas says, in plain words, if there is something to say.
///
/// `swaps` has the form of `/proc/swaps`: a headline, then an area a line.
pub fn swap_warning(swaps: &str) -> Option<String> {
    let areas: Vec<&str> = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        // Compressed memory never leaves the machine's memory.
        .filter(|area| !area.contains("zram"))
        .collect();
    (!areas.is_empty()).then(|| {
        format!(
            "swap is on ({}): clear template bits and keys could be written there; switch it off, or make sure that it is encrypted",
            areas.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_area_is_named_and_compressed_memory_is_none() {
        let headline = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(swap_warning(headline), None);
        let zram = format!("{headline}/dev/zram0 partition 4194300 0 100\n");
        assert_eq!(swap_warning(&zram), None);
        let disk = format!("{headline}/swapfile file 2097148 0 -2\n");
        assert!(swap_warning(&disk).is_some_and(|warning| warning.contains("/swapfile")));
    }

    #[test]
    fn values_within_the_limit_are_locked() {
        let page = vec![7_u8; 4096];
        let guard = keep_out(&page);
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let locked = status
            .lines()
            .find_map(|line| line.strip_prefix("VmLck:"))
            .expect("a line");
        let kib: u64 = locked
            .trim()
            .trim_end_matches(" kB")
            .trim()
            .parse()
            .expect("a number");
        assert_eq!(guard.is_some(), kib > 0);
    }
}
