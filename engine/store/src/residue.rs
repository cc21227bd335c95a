//! The residue audit: looks for remains of an erased person in every file of the data directory.
//!
//! After an erasure the server no longer knows what to look for. So `prepare` makes fingerprints before it: a salted
//! digest of every 16 consecutive bytes of the sealed record and of the slot, and of every 8 of the PersonID's digest,
//! because file formats share prefixes of it. A fingerprint does not reveal the bytes. [`scan`] looks for them,
//! offline, at every place of every file.
//!
//! Windows with fewer than eight bytes of the person's own are not looked for: records of one scheme, and slots under
//! one wrapping key, have the other bytes in common. The key's random id and its commitment are not looked for either,
//! because receipts state them for ever.
//!
//! ```text
//!   0  "likeness-residue-1\r\n"  20      60  filter, 128 KiB: a bit for each fingerprint's quick hash
//!  20  salt, 32                              fingerprints, 17 each, sorted: kind, digest 16
//!  52  number of fingerprints, u64
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use likeness_types::crypto;
use likeness_types::error::{OperatorError, Result};

const MAGIC: &[u8; 20] = b"likeness-residue-1\r\n";
const LONG: usize = 16;
const SHORT: usize = 8;
const FILTER_BITS: u32 = 20;
const FILTER_BYTES: usize = 1 << (FILTER_BITS - 3);
const HEAD_BYTES: usize = 60;
const ENTRY_BYTES: usize = 17;
/// Read at once; a window that begins in one part may end in the next.
const PART_BYTES: usize = 1 << 20;
/// Findings reported; the rest says nothing new.
pub(crate) const FINDINGS_MAX: usize = 1000;

/// What a finding is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResidueKind {
    /// The sealed record.
    Record,
    /// The wrapped data key.
    Slot,
    /// The digest that stands for the PersonID.
    Digest,
    /// What the keys of the person's rows in the running log begin with: the rows outlive every change of the
    /// record, and go with the person only.
    RunningLog,
}

impl ResidueKind {
    /// Found by windows of [`LONG`] bytes.
    const LONG: [Self; 3] = [Self::Record, Self::Slot, Self::RunningLog];
    /// Found by windows of [`SHORT`] bytes.
    const SHORT: [Self; 1] = [Self::Digest];

    /// The word for people and scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Slot => "slot",
            Self::Digest => "digest",
            Self::RunningLog => "running log",
        }
    }
}

/// Where something is left; never what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub file: PathBuf,
    /// At which byte.
    pub offset: u64,
    /// A part of what.
    pub kind: ResidueKind,
}

/// What a scan saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// At most `FINDINGS_MAX`.
    pub findings: Vec<Finding>,
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
}

/// What is known of a person before the erasure.
pub struct Needles<'a> {
    /// The sealed record.
    pub record: &'a [u8],
    /// The slot with its wrapped key.
    pub slot: &'a [u8],
    /// The digest of the PersonID.
    pub digest: &'a [u8; 16],
    /// None where the record does not say it.
    pub log: Option<&'a [u8; 16]>,
}

/// Salt, and the two numbers of the quick hash that it gives.
struct Salt {
    bytes: [u8; 32],
    quick: [u64; 2],
}

impl Salt {
    fn new(bytes: [u8; 32]) -> Self {
        let mixed = blake3::keyed_hash(&bytes, b"likeness residue quick hash");
        let word = |at: usize| {
            let word = mixed.as_bytes()[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(word) | 1
        };
        Self {
            bytes,
            quick: [word(0), word(8)],
        }
    }

    /// One multiplication a word: nearly every place of a file ends here.
    fn quick(&self, first: u64, second: u64) -> usize {
        let mixed =
            (first.wrapping_mul(self.quick[0])) ^ (second.wrapping_mul(self.quick[1])).rotate_left(32);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS)) as usize
    }

    fn quick_of(&self, window: &[u8]) -> usize {
        let second = window.get(8..16).map_or(0, word);
        self.quick(word(&window[..8]), second)
    }

    fn digest(&self, window: &[u8]) -> [u8; 16] {
        let digest = blake3::keyed_hash(&self.bytes, window);
        digest.as_bytes()[..16].try_into().expect("16 of 32 bytes")
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// The fingerprint file of one person.
pub fn prepare(needles: &Needles<'_>) -> Vec<u8> {
    let salt = Salt::new(crypto::random());
    let mut filter = vec![0_u8; FILTER_BYTES];
    let mut entries = BTreeSet::new();
    let mut add = |kind: ResidueKind, window: &[u8]| {
        let quick = salt.quick_of(window);
        filter[quick / 8] |= 1 << (quick % 8);
        entries.insert((kind as u8, salt.digest(window)));
    };
    let windows = |bytes: &[u8], length: usize, skip: &dyn Fn(usize) -> bool, add: &mut dyn FnMut(&[u8])| {
        let own = bytes.windows(length).enumerate().filter(|(at, _)| !skip(*at));
        own.for_each(|(_, window)| add(window));
    };
    // As the codec lays it out: the key's id from 5 to 21, generation, scheme and the log's id from
    // there to 61, of which the last stays through every change of the record.
    let shared = |at: usize| (1..=9).contains(&at) || (14..=52).contains(&at);
    windows(needles.record, LONG, &shared, &mut |w| {
        add(ResidueKind::Record, w)
    });
    // As slots are laid out: format and wrapping key up to 20, the key's id up to 36, which stays through most changes
    // of the record, its commitment from 108 to 124.
    let shared = |at: usize| at <= 24 || (104..=112).contains(&at);
    windows(needles.slot, LONG, &shared, &mut |w| add(ResidueKind::Slot, w));
    windows(needles.digest, SHORT, &|_| false, &mut |w| {
        add(ResidueKind::Digest, w)
    });

    if let Some(log) = needles.log {
        add(ResidueKind::RunningLog, log);
    }

    let mut file = Vec::with_capacity(HEAD_BYTES + FILTER_BYTES + entries.len() * ENTRY_BYTES);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&salt.bytes);
    file.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    file.extend_from_slice(&filter);
    for (kind, digest) in entries {
        file.push(kind);
        file.extend_from_slice(&digest);
    }
    file
}

struct Fingerprints<'a> {
    salt: Salt,
    filter: &'a [u8],
    entries: &'a [[u8; ENTRY_BYTES]],
}

impl<'a> Fingerprints<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        let rest = file.strip_prefix(MAGIC)?;
        let (salt, rest) = rest.split_first_chunk::<32>()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let (filter, rest) = rest.split_at_checked(FILTER_BYTES)?;
        let (entries, end) = rest.as_chunks::<ENTRY_BYTES>();
        let whole = end.is_empty() && entries.len() as u64 == u64::from_le_bytes(*count);
        (whole && entries.is_sorted()).then(|| Self {
            salt: Salt::new(*salt),
            filter,
            entries,
        })
    }

    fn passes(&self, quick: usize) -> bool {
        self.filter[quick / 8] >> (quick % 8) & 1 == 1
    }

    fn kind(&self, window: &[u8], kinds: &[ResidueKind]) -> Option<ResidueKind> {
        let digest = self.salt.digest(window);
        kinds.iter().copied().find(|kind| {
            let mut entry = [*kind as u8; ENTRY_BYTES];
            entry[1..].copy_from_slice(&digest);
            self.entries.binary_search(&entry).is_ok()
        })
    }

    /// What begins at the first byte.
    fn find(&self, bytes: &[u8]) -> Option<ResidueKind> {
        let short = bytes.get(..SHORT)?;
        let first = word(short);
        if let Some(long) = bytes.get(..LONG)
            && self.passes(self.salt.quick(first, word(&long[8..])))
            && let Some(kind) = self.kind(long, &ResidueKind::LONG)
        {
            return Some(kind);
        }
        self.passes(self.salt.quick(first, 0))
            .then(|| self.kind(short, &ResidueKind::SHORT))
            .flatten()
    }
}

/// Looks for fingerprints in every file under a directory. Nothing may be writing there, or what it writes
/// is seen or not.
///
/// # Errors
/// No fingerprint file, or a file that cannot be read.
pub fn scan(fingerprints: &[u8], data: &Path) -> Result<Scanned> {
    let prints = Fingerprints::parse(fingerprints).ok_or_else(|| OperatorError::Format {
        what: "residue audit",
        expected: "a fingerprint file of format 1".to_owned(),
        found: format!("{} bytes of another form", fingerprints.len()),
    })?;
    let mut scanned = Scanned::default();
    let mut places = vec![data.to_owned()];
    while let Some(place) = places.pop() {
        match scan_place(&prints, &place, &mut places, &mut scanned) {
            // A running store removes files of its own: what is gone holds nothing.
            Err(e) if e.kind() == ErrorKind::NotFound && place != data => {}
            outcome => outcome.map_err(|e| OperatorError::file("reading", &place, e))?,
        }
    }
    scanned
        .findings
        .sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    Ok(scanned)
}

fn scan_place(
    prints: &Fingerprints<'_>,
    place: &Path,
    places: &mut Vec<PathBuf>,
    scanned: &mut Scanned,
) -> std::io::Result<()> {
    if !std::fs::symlink_metadata(place)?.is_dir() {
        return scan_file(prints, place, scanned);
    }
    for entry in std::fs::read_dir(place)? {
        places.push(entry?.path());
    }
    Ok(())
}

fn scan_file(prints: &Fingerprints<'_>, path: &Path, scanned: &mut Scanned) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; PART_BYTES + LONG];
    let (mut held, mut start) = (0, 0);
    loop {
        let read = fill(&mut file, &mut bytes[held..])?;
        let length = held + read;
        let last = length < bytes.len();
        // Of every part but the last, what is too short for a window is seen again in the next.
        let end = if last { length } else { length - (LONG - 1) };
        for at in 0..end {
            if let Some(kind) = prints.find(&bytes[at..length])
                && scanned.findings.len() < FINDINGS_MAX
            {
                scanned.findings.push(Finding {
                    file: path.to_owned(),
                    offset: start + at as u64,
                    kind,
                });
            }
        }
        scanned.bytes += read as u64;
        if last {
            scanned.files += 1;
            return Ok(());
        }
        bytes.copy_within(end..length, 0);
        (held, start) = (length - end, start + end as u64);
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn fingerprints() -> Vec<u8> {
        let digest = noise(3, 16);
        prepare(&Needles {
            record: &noise(1, 600),
            slot: &noise(2, 128),
            digest: digest.first_chunk().expect("16 bytes"),
            log: noise(4, 16).first_chunk(),
        })
    }

    #[test]
    fn a_part_of_each_is_found_at_its_place_and_nothing_else() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join("deep")).expect("made");
        let file = home.path().join("deep/file");
        // Also across the seam of two parts, and at the very end.
        let cases = [
            (ResidueKind::Record, noise(1, 600)[300..316].to_vec(), 77),
            (ResidueKind::Slot, noise(2, 128)[50..66].to_vec(), PART_BYTES - 3),
            (ResidueKind::RunningLog, noise(4, 16), PART_BYTES + 300),
            (ResidueKind::Digest, noise(3, 16)[5..13].to_vec(), PART_BYTES + 9),
            (
                ResidueKind::Digest,
                noise(3, 16)[8..16].to_vec(),
                3 * PART_BYTES - 8,
            ),
            (
                ResidueKind::Record,
                noise(1, 600)[584..600].to_vec(),
                3 * PART_BYTES - 16,
            ),
        ];
        let prints = fingerprints();
        for (kind, needle, at) in cases {
            let mut bytes = noise(9, 3 * PART_BYTES);
            std::fs::write(&file, &bytes).expect("written");
            let clean = scan(&prints, home.path()).expect("scanned");
            assert_eq!((clean.findings.len(), clean.files), (0, 1));
            assert_eq!(clean.bytes, bytes.len() as u64);
            bytes[at..at + needle.len()].copy_from_slice(&needle);
            std::fs::write(&file, &bytes).expect("written");
            let found = scan(&prints, home.path()).expect("scanned").findings;
            let expected = Finding {
                file: file.clone(),
                offset: at as u64,
                kind,
            };
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn a_fingerprint_file_holds_none_of_what_it_looks_for() {
        let prints = fingerprints();
        // The shortest that is looked for: four bytes in a row agree by chance once in several hundred runs.
        for needle in [noise(1, 600), noise(2, 128), noise(3, 16), noise(4, 16)] {
            for window in needle.windows(SHORT) {
                assert!(!prints.windows(SHORT).any(|bytes| bytes == window));
            }
        }
        assert_ne!(prints, fingerprints(), "another salt every time");
    }

    #[test]
    fn a_damaged_fingerprint_file_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let prints = fingerprints();
        for bad in [&prints[..prints.len() - 1], &prints[1..], b""] {
            assert!(scan(bad, home.path()).is_err());
        }
    }
}
