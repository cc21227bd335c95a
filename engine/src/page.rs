//! A page of a listing.

/// A page of a listing by cursor.
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Records that could not be read and are therefore missing above.
    pub damaged: usize,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}
