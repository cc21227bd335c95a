//! One flipped bit in any file of the data directory: everybody else is served, or the start is refused with the
//! name of the file; and no answer is ever wrong.

mod parts;
mod prepared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::gallery::Gallery;
use crate::gallery::load::LoadReport;
use crate::gallery::tests::damaged::parts::{Part, flip, parts};
use crate::gallery::tests::damaged::prepared::{Answers, Copy, Prepared, is_hidden};
use crate::gallery::tests::support::*;
use likeness_types::error::{Error, OperatorError, RequestError};

/// What a start on a damaged directory comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Everybody is served as before.
    Harmless,
    /// All but so many people are served.
    Served { hidden: usize },
    /// With these words.
    Refused(String),
    /// An answer that says something else than what is kept.
    Wrong(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Served { .. } => "served",
            Self::Refused(_) => "refused",
            Self::Wrong(_) => "WRONG",
        }
    }
}

/// One for all tests: each damages a copy.
fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(Prepared::new)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A copy with one bit flipped.
fn damaged(prepared: &Prepared, file: &Path, byte: u64, bit: u8) -> Copy {
    let copy = prepared.copy();
    flip(&copy.data().join(file), byte, bit);
    copy
}

/// What a start makes of the directory with one bit flipped.
fn start_with(prepared: &Prepared, file: &Path, byte: u64, bit: u8) -> Outcome {
    let start = || match damaged(prepared, file, byte, bit).open() {
        Ok((gallery, _)) => match prepared.answers(&gallery) {
            Answers { hidden: 0 } => Outcome::Harmless,
            Answers { hidden } => Outcome::Served { hidden },
        },
        Err(error) => Outcome::Refused(error.to_string()),
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(start)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        Outcome::Wrong(words.unwrap_or_else(|| "a panic".to_owned()))
    })
}

/// Every part of every file, with the family and level of a data file.
fn places(prepared: &Prepared) -> Vec<(String, Part)> {
    let mut places = Vec::new();
    for file in prepared.files() {
        let path = prepared.data().join(&file);
        let family = prepared.family_of(&path);
        let parts = parts(&path, &file);
        places.extend(parts.into_iter().map(|part| (family.clone(), part)));
    }
    places
}

/// Whether the words say which file it is.
fn names(words: &str, file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).expect("text");
    match name {
        "slots" => words.contains("slot file"),
        "FORMAT" => words.contains("format file"),
        name => words.contains(name),
    }
}

#[test]
fn a_flipped_bit_in_any_part_of_any_file_leaves_a_start_that_serves_or_names_the_file() {
    let prepared = prepared();
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut nameless, mut wrong) = (Vec::new(), Vec::new());
    println!("| file | part | a start |\n|---|---|---|");
    for (family, Part { file, name, bytes }) in places(prepared) {
        let what = format!("{} {family}, {name}", file.display());
        let byte = bytes.start + (bytes.end - bytes.start) / 2;
        let outcome = start_with(prepared, &file, byte, 3);
        let text = match &outcome {
            Outcome::Harmless => String::new(),
            Outcome::Served { hidden } => format!(": {hidden} of {} people hidden", prepared.people()),
            Outcome::Refused(words) | Outcome::Wrong(words) => format!(": {words}"),
        };
        println!(
            "| {} {family} | {name} | {}{text} |",
            file.display(),
            outcome.word()
        );
        *counted.entry(outcome.word()).or_default() += 1;
        match outcome {
            Outcome::Refused(words) if !names(&words, &file) => nameless.push(format!("{what}: {words}")),
            Outcome::Wrong(words) => wrong.push(format!("{what}: {words}")),
            _ => {}
        }
    }
    println!("{counted:?} of {} places", counted.values().sum::<usize>());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(nameless.is_empty(), "{nameless:#?}");
}

#[test]
fn a_flipped_bit_anywhere_is_never_a_wrong_answer() {
    let (prepared, seed) = (prepared(), number("DAMAGE_SEED", 20_260_101));
    let (mut numbers, mut counted) = (Numbers(seed), BTreeMap::<&str, usize>::new());
    let (files, places) = (prepared.files(), places(prepared));
    for round in 0..number("DAMAGE_ROUNDS", 60) {
        // Half of them anywhere, half of them in the small parts, which the first half hardly meets.
        let (file, byte) = if round % 2 == 0 {
            let file = files[numbers.below(files.len() as u64) as usize].clone();
            let bytes = std::fs::metadata(prepared.data().join(&file))
                .expect("a file")
                .len();
            (file, numbers.below(bytes.max(1)))
        } else {
            let (_, part) = &places[numbers.below(places.len() as u64) as usize];
            let within = numbers.below(part.bytes.end - part.bytes.start);
            (part.file.clone(), part.bytes.start + within)
        };
        if std::fs::metadata(prepared.data().join(&file))
            .expect("a file")
            .len()
            == 0
        {
            continue;
        }
        let bit = u8::try_from(numbers.below(8)).expect("a bit");
        let what = format!(
            "seed {seed}, round {round}: bit {bit} of byte {byte} of {}",
            file.display()
        );
        let outcome = start_with(prepared, &file, byte, bit);
        *counted.entry(outcome.word()).or_default() += 1;
        match outcome {
            Outcome::Refused(words) => assert!(names(&words, &file), "{what}: {words}"),
            Outcome::Wrong(words) => panic!("{what}: {words}"),
            Outcome::Harmless | Outcome::Served { .. } => {}
        }
    }
    println!("{counted:?}");
}

/// Where the records of a log begin.
fn records_of(log: &[u8]) -> Vec<u64> {
    const BLOCK: usize = 32 << 10;
    let (mut at, mut begins) = (0, Vec::new());
    while at + 7 <= log.len() {
        if BLOCK - at % BLOCK < 7 {
            at += BLOCK - at % BLOCK;
            continue;
        }
        begins.push(at as u64);
        at += 7 + usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
    }
    begins
}

#[test]
fn a_flipped_length_or_kind_of_the_last_record_is_no_end_of_the_write_ahead_log() {
    let prepared = prepared();
    let is_log = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "log");
    let length = |file: &PathBuf| {
        std::fs::metadata(prepared.data().join(file))
            .expect("a file")
            .len()
    };
    let files = prepared.files();
    let log = files
        .iter()
        .filter(is_log)
        .max_by_key(|file| length(file))
        .expect("a log");
    let records = records_of(&std::fs::read(prepared.data().join(log)).expect("read"));
    let last = *records.last().expect("the last run is in it");
    // Length and kind; the rest is under the checksum.
    for (byte, bit) in [(4, 7), (5, 0), (5, 3), (5, 6), (6, 2)] {
        match start_with(prepared, log, last + byte, bit) {
            Outcome::Refused(words) => assert!(names(&words, log), "{words}"),
            other => panic!("bit {bit} of byte {byte} of the header: {other:?}"),
        }
    }
}

/// A data file of people below the topmost level, with the part of that name.
fn bottom_part(prepared: &Prepared, part: &str) -> Part {
    let of_people = places(prepared)
        .into_iter()
        .filter(|(family, _)| family.starts_with("persons L") && family != "persons L0");
    of_people
        .map(|(_, part)| part)
        .find(|found| found.name == part)
        .expect("there are two such files")
}

fn is_damaged_place<T>(outcome: crate::Result<T>) -> bool {
    matches!(outcome, Err(Error::Operator(OperatorError::DamagedPlace)))
}

/// Who of the crowd is readable, and who is hidden.
fn split(gallery: &Gallery) -> (Vec<String>, Vec<String>) {
    let (two, mut readable, mut hidden) = (collection(gallery, "two"), Vec::new(), Vec::new());
    for who in prepared::crowd_ids() {
        match gallery.person(&two, &id(&who)) {
            Ok(_) => readable.push(who),
            Err(Error::Request(RequestError::NoPerson)) => {}
            other => {
                assert!(is_damaged_place(other));
                hidden.push(who);
            }
        }
    }
    (readable, hidden)
}

#[test]
fn who_lies_in_a_file_that_cannot_be_opened_is_hidden_and_everybody_else_lives_on() {
    let prepared = prepared();
    let Part { file, bytes, .. } = bottom_part(prepared, "rocksdb.index");
    let copy = damaged(prepared, &file, bytes.start + 9, 1);
    let path = copy.data().join(&file);
    let before = std::fs::read(&path).expect("read");
    for start in 0..2 {
        let (gallery, report) = copy.open().expect("the others are served");
        assert_eq!(
            (report.erasures_finished, report.keys_overwritten),
            (0, 0),
            "start {start}"
        );
        assert_eq!((report.gaps, gallery.quarantined_files()), (1, 1));
        let (readable, hidden) = split(&gallery);
        // People of the other collection may lie in the same file.
        let hidden_in_one = prepared.hidden_in_one(&gallery);
        assert_eq!(
            report.hidden,
            hidden.len() + hidden_in_one,
            "their keys say how many they are"
        );
        assert!(
            readable.len() > 100 && hidden.len() > 100,
            "{} hidden",
            hidden.len()
        );
        let two = collection(&gallery, "two");

        // Nobody is enrolled in the place of somebody hidden, and nobody hidden is erased.
        let whom = id(&hidden[start]);
        assert!(is_damaged_place(gallery.person(&two, &whom)));
        assert!(is_damaged_place(enroll(&gallery, &two, &hidden[start], &[7])));
        assert!(is_damaged_place(gallery.add_faces(
            &two,
            &whom,
            vec![face(7)],
            REQUEST
        )));
        assert!(is_damaged_place(gallery.delete(&two, &whom, REQUEST)));
        let from = (&two, &id(&readable[0]));
        assert!(is_damaged_place(gallery.copy(from, (&two, &whom), REQUEST)));
        assert!(is_damaged_place(gallery.rename(&two, from.1, &whom, REQUEST)));
        assert!(is_damaged_place(gallery.erase_everywhere(
            &account(),
            &whom,
            REQUEST
        )));

        // Of whoever was never enrolled that is said where it is known, and the place is refused where it is not.
        for n in 0..50 {
            match gallery.person(&two, &id(&format!("nobody-{n}"))) {
                Err(Error::Request(RequestError::NoPerson)) => {}
                other => assert!(is_damaged_place(other)),
            }
        }

        // Everybody else lives on, and nothing is purged.
        let one = collection(&gallery, "one");
        let newcomer = (0..)
            .map(|n| format!("newcomer-{start}-{n}"))
            .find(|who| !is_damaged_place(gallery.person(&one, &id(who))))
            .expect("somebody's place is whole");
        enroll(&gallery, &one, &newcomer, &[90_000 + start as u64]).expect("enrolled");
        assert_eq!(found(&gallery, &one, 90_000 + start as u64), [newcomer.as_str()]);
        gallery.delete(&one, &id(&newcomer), REQUEST).expect("erased");
        gallery
            .delete(&two, &id(&readable[start]), REQUEST)
            .expect("erased");
        assert!(gallery.person(&two, &id(&readable[start])).is_err());
        assert!(gallery.purge_now().is_err());
        assert!(gallery.backlog().erasures >= 2);
        drop(gallery);
        assert_eq!(
            std::fs::read(&path).expect("it is still there"),
            before,
            "start {start}"
        );
    }
    // Mended, everybody is back who was not erased, and the bytes of who was go.
    flip(&path, bytes.start + 9, 1);
    let (gallery, _) = copy.open().expect("nothing is wrong any more");
    assert_eq!(gallery.quarantined_files(), 0);
    let (readable, hidden) = split(&gallery);
    assert_eq!(
        (readable.len() + 2, hidden.len()),
        (prepared::crowd_ids().count(), 0)
    );
    gallery.purge_now().expect("purged");
    assert_eq!(gallery.backlog().erasures, 0);
}

#[test]
fn a_scan_for_residues_reads_a_file_in_quarantine() {
    let prepared = prepared();
    let Part { file, bytes, .. } = bottom_part(prepared, "data, middle");
    let copy = damaged(prepared, &file, bytes.start + 99, 1);
    let (gallery, LoadReport { gaps, .. }) = copy.open().expect("the others are served");
    assert_eq!((gaps, gallery.quarantined_files()), (1, 1));
    let (readable, hidden) = split(&gallery);
    assert!(
        (1..20).contains(&hidden.len()),
        "{} people in one block",
        hidden.len()
    );
    let two = collection(&gallery, "two");
    let mut in_file = 0;
    for who in &readable[..20] {
        let prints = gallery.fingerprints(&two, &id(who)).expect("prepared");
        gallery.delete(&two, &id(who), REQUEST).expect("erased");
        let scanned = likeness_store::residue::scan(&prints, &copy.data()).expect("scanned");
        let kinds = |finding: &likeness_store::residue::Finding| finding.file.ends_with(&file);
        in_file += usize::from(scanned.findings.iter().any(kinds));
    }
    assert!(
        in_file > 0,
        "some of them lie in the damaged file, and are found there"
    );
    assert!(
        gallery.purge_now().is_err(),
        "and so nothing is said to be purged"
    );
}

/// A block of the topmost level holds few rows that lie far apart.
#[test]
fn a_damaged_block_hides_nobody_whose_record_lies_between_its_rows() {
    let prepared = prepared();
    let of_people = places(prepared)
        .into_iter()
        .filter(|(family, _)| family == "persons L0");
    let data: Vec<_> = of_people
        .filter(|(_, part)| part.name.starts_with("data"))
        .collect();
    assert!(!data.is_empty());
    for (_, Part { file, bytes, .. }) in data {
        match start_with(prepared, &file, bytes.start + 40, 2) {
            Outcome::Served { hidden } => assert!(hidden < 100, "{hidden} people"),
            other => panic!("{}: {other:?}", file.display()),
        }
    }
    // Nothing is left of the look for them.
    assert!(
        !prepared
            .files()
            .iter()
            .any(|file| file.to_string_lossy().contains("beside"))
    );
}

#[test]
fn keys_tokens_and_counters_that_cannot_be_read_are_refused_by_name() {
    let prepared = prepared();
    for family in ["accounts", "tokens", "meter", "audit"] {
        let of_family = places(prepared)
            .into_iter()
            .filter(|(found, part)| found.starts_with(family) && part.name.starts_with("data"));
        let mut met = 0;
        for (_, Part { file, bytes, .. }) in of_family {
            match start_with(prepared, &file, bytes.start, 5) {
                Outcome::Refused(words) => {
                    assert!(names(&words, &file) && words.contains(family), "{words}");
                }
                other => panic!("{family}: {other:?}"),
            }
            met += 1;
        }
        assert!(met > 0, "{family} has data files");
    }
    assert!(is_hidden(&OperatorError::DamagedPlace.into()));
}
