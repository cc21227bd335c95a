//! What lies in the memory of another process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// Bytes of a window: a copy of twice as many finds one, wherever it begins.
const WINDOW: usize = 16;
/// Bytes that a window is looked up by.
const HEAD: usize = 8;
/// Of a window that says something: bytes that differ.
const DISTINCT_MIN: usize = 8;
/// Windows of one kind; of more, those are taken that lie evenly among them.
const WINDOWS_MAX: usize = 16_384;
const FILTER_BITS: u32 = 20;
const PAGE: usize = 4096;
const CHUNK: usize = 1 << 20;
/// Windows of each kind that are planted, to be found.
pub const SAMPLES: usize = 8;
/// Places that a failure names.
const PLACES_SHOWN: usize = 4;

/// Windows to look for, each of a kind.
pub struct Windows {
    by_head: HashMap<u64, Vec<Window>>,
    /// Which heads there are, roughly.
    filter: Vec<u64>,
    /// Of each kind, so many were added, and these were the first.
    counts: BTreeMap<&'static str, usize>,
    samples: Vec<u8>,
}

struct Window {
    kind: &'static str,
    number: usize,
    tail: [u8; WINDOW - HEAD],
}

/// What was found: of each kind these windows, and where the first ones were.
#[derive(Default)]
pub struct Found(BTreeMap<&'static str, (BTreeSet<usize>, Vec<String>)>);

impl Windows {
    pub fn new() -> Self {
        Self {
            by_head: HashMap::new(),
            filter: vec![0; 1 << (FILTER_BITS - 6)],
            counts: BTreeMap::new(),
            samples: Vec::new(),
        }
    }

    /// The windows of some bytes, one after the other, but those that could be of anything.
    pub fn add(&mut self, kind: &'static str, bytes: &[u8]) {
        let says_something = |window: &&[u8]| {
            let mut seen = [0_u64; 4];
            window
                .iter()
                .for_each(|byte| seen[usize::from(byte >> 6)] |= 1 << (byte & 63));
            seen.iter().map(|seen| seen.count_ones() as usize).sum::<usize>() >= DISTINCT_MIN
        };
        let windows: Vec<_> = bytes.chunks_exact(WINDOW).filter(says_something).collect();
        assert!(!windows.is_empty(), "{kind} says nothing");
        for window in windows.iter().step_by(windows.len().div_ceil(WINDOWS_MAX)) {
            self.add_window(kind, window);
        }
    }

    fn add_window(&mut self, kind: &'static str, window: &[u8]) {
        let (head, tail) = window.split_at(HEAD);
        let head = u64::from_le_bytes(head.try_into().unwrap());
        let number = self.counts.entry(kind).or_default();
        if *number < SAMPLES {
            self.samples.extend_from_slice(window);
        }
        self.by_head.entry(head).or_default().push(Window {
            kind,
            number: *number,
            tail: tail.try_into().unwrap(),
        });
        *number += 1;
        let bit = bit(head);
        self.filter[bit >> 6] |= 1 << (bit & 63);
    }

    /// Numbers as they lie in memory, four in a window.
    pub fn add_f32(&mut self, kind: &'static str, values: &[f32]) {
        let bytes: Vec<_> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.add(kind, &bytes);
    }

    /// The same at half precision, eight in a window.
    pub fn add_f16(&mut self, kind: &'static str, values: &[f32]) {
        let bytes: Vec<_> = values
            .iter()
            .flat_map(|value| half(*value).to_le_bytes())
            .collect();
        self.add(kind, &bytes);
    }

    /// How many were added of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.counts.get(kind).copied().unwrap_or_default()
    }

    /// The first [`SAMPLES`] of each kind, one after the other.
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    fn look(&self, bytes: &[u8], begin: usize, end: usize, mut note: impl FnMut(&Window, usize)) {
        for at in begin..end.min((bytes.len() + 1).saturating_sub(WINDOW)) {
            let head = u64::from_le_bytes(bytes[at..at + HEAD].try_into().unwrap());
            let bit = bit(head);
            if self.filter[bit >> 6] & 1 << (bit & 63) != 0 {
                for window in self.by_head.get(&head).into_iter().flatten() {
                    if bytes[at + HEAD..at + WINDOW] == window.tail {
                        note(window, at);
                    }
                }
            }
        }
    }
}

fn bit(head: u64) -> usize {
    (head.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - FILTER_BITS)) as usize
}

/// A process before it was given anything, and what is looked for in it.
pub struct Watched {
    pid: u32,
    windows: Windows,
    /// Digests of its pages, by their addresses. What has not changed is looked at once.
    before: HashMap<usize, u64>,
}

impl Watched {
    /// What the process holds already is looked for no more.
    pub fn new(pid: u32, windows: Windows) -> Self {
        let mut watched = Self {
            pid,
            windows,
            before: HashMap::new(),
        };
        let mut pages = HashMap::new();
        let found = watched.search(|address, digest| {
            pages.insert(address, digest);
        });
        watched.before = pages;
        for windows in watched.windows.by_head.values_mut() {
            windows.retain(|window| !found.has(window));
        }
        watched
    }

    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// The windows that are in the writable memory of the process: its heaps, stacks, and files that it has mapped. It
    /// stands still meanwhile.
    pub fn found(&self) -> Found {
        self.search(|_, _| {})
    }

    fn search(&self, mut see: impl FnMut(usize, u64)) -> Found {
        let pid = self.pid;
        let _stopped = Stopped::of(pid);
        let mut memory = File::open(format!("/proc/{pid}/mem")).expect("a parent may read its child");
        let mut tables = File::open(format!("/proc/{pid}/pagemap")).expect("a parent may read its child");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
        let mut bytes = vec![0; CHUNK + 2 * PAGE];
        let mut found = Found::default();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(rights)) = (words.next(), words.next()) else {
                continue;
            };
            if !rights.starts_with("rw") || line.contains("[v") {
                continue;
            }
            let (from, to) = range.split_once('-').expect("from-to");
            let [from, to] = [from, to].map(|at| usize::from_str_radix(at, 16).expect("an address"));
            for start in (from..to).step_by(CHUNK) {
                // With a page before and one behind: a window may lie across.
                let (first, last) = (
                    start.saturating_sub(PAGE).max(from),
                    (start + CHUNK + PAGE).min(to),
                );
                let is_there = present(&mut tables, first, last);
                if !is_there.contains(&true) {
                    continue;
                }
                let bytes = &mut bytes[..last - first];
                // A device's memory may not be readable.
                let read = memory
                    .seek(SeekFrom::Start(first as u64))
                    .and_then(|_| memory.read_exact(bytes));
                if read.is_err() {
                    continue;
                }
                for address in (start..to.min(start + CHUNK)).step_by(PAGE) {
                    let page = address - first;
                    if !is_there[page / PAGE] {
                        continue;
                    }
                    let digest = digest(&bytes[page..page + PAGE]);
                    if self.before.get(&address) == Some(&digest) {
                        continue;
                    }
                    see(address, digest);
                    let begin = page.saturating_sub(WINDOW - 1);
                    self.windows.look(bytes, begin, page + PAGE, |window, at| {
                        found.note(window, || format!("{:x} in {line}", first + at));
                    });
                }
            }
        }
        found
    }
}

/// Which of the pages between two addresses are in memory or in swap: most of what a process may write was never written.
fn present(tables: &mut File, from: usize, to: usize) -> Vec<bool> {
    const ENTRY: usize = 8;
    let mut entries = vec![0; (to - from) / PAGE * ENTRY];
    let read = tables
        .seek(SeekFrom::Start((from / PAGE * ENTRY) as u64))
        .and_then(|_| tables.read_exact(&mut entries));
    read.expect("an entry for each page");
    let entries = entries.as_chunks::<ENTRY>().0.iter();
    entries
        .map(|entry| u64::from_le_bytes(*entry) >> 62 != 0)
        .collect()
}

/// Of a page: good enough to see that it has changed.
fn digest(page: &[u8]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    for words in page.as_chunks::<32>().0 {
        for (lane, word) in lanes.iter_mut().zip(words.as_chunks::<8>().0) {
            *lane = (lane.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }
    lanes.iter().fold(0, |all: u64, lane| all.rotate_left(17) ^ lane)
}

/// A number at half precision, rounded to the nearest, as far as it has one.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = f64::from(value.abs());
    if magnitude < 2_f64.powi(-14) {
        return sign | (magnitude * 2_f64.powi(24)).round_ties_even() as u16;
    }
    let exponent = ((bits >> 23 & 0xFF) as i32 - 127).min(15);
    let steps = (magnitude / 2_f64.powi(exponent) * 1024.0).round_ties_even() as u32;
    sign | (((exponent + 14) as u32) * 1024 + steps).min(0x7BFF) as u16
}

impl Found {
    fn note(&mut self, window: &Window, place: impl FnOnce() -> String) {
        let (numbers, places) = self.0.entry(window.kind).or_default();
        if numbers.insert(window.number) && places.len() < PLACES_SHOWN {
            places.push(place());
        }
    }

    fn has(&self, window: &Window) -> bool {
        let of_kind = self.0.get(window.kind);
        of_kind.is_some_and(|(numbers, _)| numbers.contains(&window.number))
    }

    /// What is of these kinds.
    pub fn of(mut self, kinds: &[&str]) -> Self {
        self.0.retain(|kind, _| kinds.contains(kind));
        self
    }

    /// How many windows of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.0.get(kind).map_or(0, |(numbers, _)| numbers.len())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (numbers, places)) in &self.0 {
            write!(f, "\n  {kind}: {} windows, first at", numbers.len())?;
            for place in places {
                write!(f, "\n    {place}")?;
            }
        }
        Ok(())
    }
}

/// A process that stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn of(pid: u32) -> Self {
        let stopped = Self(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap());
        kill_process(stopped.0, Signal::STOP).expect("it runs");
        let until = Instant::now() + PATIENCE;
        // After the name, which may hold anything: the state.
        let is_stopped = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
            let after = stat.rsplit(')').next().expect("a state").trim_start().to_owned();
            after.starts_with('T')
        };
        while !is_stopped() {
            assert!(Instant::now() < until, "it does not stand still");
            thread::sleep(Duration::from_millis(1));
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Where it has ended, there is nothing to go on.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn numbers_at_half_precision_are_those_of_the_standard() {
    let known = [
        (0.0, 0),
        (1.0, 0x3C00),
        (-2.0, 0xC000),
        (0.333_251_95, 0x3555),
        (1.0e-7, 2),
        (6.103_515_6e-5, 0x0400),
        (65504.0, 0x7BFF),
        (0.999_99, 0x3C00),
    ];
    for (value, bits) in known {
        assert_eq!(half(value), bits, "{value}");
    }
}
