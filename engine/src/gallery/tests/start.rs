//! What a start costs, in seconds and in memory.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::gallery::Gallery;
use crate::gallery::collection::CollectionSettings;
use crate::gallery::tests::support::*;
use likeness_store::directory;
use likeness_store::keys::store::KeyStore;
use likeness_store::records::{Family, Scan};
use likeness_types::Inside;
use likeness_types::clock::Clock;
use likeness_types::crypto;
use likeness_types::crypto::{NONCE_BYTES, Secret};
use likeness_types::person::{NewFace, Profile};
use likeness_types::scheme::Scheme;
use likeness_types::template::{Bits, Template};

/// What opening a person takes of the cipher: the wrapped key, and contents padded to 512 bytes.
const OPENINGS: [usize; 2] = [32, 512];

/// What a start with `LIKENESS_PEOPLE` people of one face each costs (100,000). The directory
/// `LIKENESS_START_DATA` is filled the first time and measured every other time, since a process that has
/// enrolled keeps memory that one that starts never had.
#[test]
#[ignore = "takes minutes; run by `make start-cost`"]
fn what_a_start_costs() {
    let people = std::env::var("LIKENESS_PEOPLE").map_or(100_000, |n| n.parse::<u64>().expect("a number"));
    let home =
        PathBuf::from(std::env::var("LIKENESS_START_DATA").expect("LIKENESS_START_DATA names a directory"));
    let (data, keys) = (home.join("data"), KeyStore::new(home.join("keys"), None));
    if !data.exists() {
        fs::create_dir_all(&data).expect("made");
        keys.init(&data).expect("made");
        fill(&data, &keys, people);
        return;
    }
    let before = resident();
    let (began, cpu_began) = (Instant::now(), processor());
    let ring = Arc::new(keys.open(Inside).expect("it opens"));
    let files = began.elapsed();
    let (gallery, report) = Gallery::open(
        |counters| directory::open(&data, keys.directory(), ring, false, counters),
        background(Clock::System),
    )
    .expect("it opens");
    println!(
        "{people} people searchable after {:.2?}, {:.2?} of processors, {files:.2?} for opening the files",
        began.elapsed(),
        processor() - cpu_began
    );
    assert_eq!(report.persons as u64, people);
    println!("resident: {} bytes per face", (resident() - before) / people);
    floor(&gallery, people);
}

fn fill(data: &Path, keys: &KeyStore, people: u64) {
    let ring = Arc::new(keys.open(Inside).expect("it opens"));
    let (gallery, _) = Gallery::open(
        |counters| directory::open(data, keys.directory(), ring, false, counters),
        background(Clock::System),
    )
    .expect("it opens");
    let scheme = Scheme {
        bits: Bits::B1024,
        ..scheme()
    };
    let settings = CollectionSettings {
        bits: Bits::B1024,
        ..settings()
    };
    let one = gallery
        .create_collection(&account(), &name("one"), scheme.clone(), settings, REQUEST)
        .expect("created");
    let face = |n: u64| {
        let mut numbers = Numbers(n);
        let template = Template::from_words((0..Bits::B1024.words()).map(|_| numbers.next()));
        let mut new = NewFace::new(template, scheme.id(), 0.9);
        new.id = face_id(n);
        new
    };
    thread::scope(|scope| {
        for part in 0..128 {
            let (gallery, one, face) = (&gallery, &one, &face);
            scope.spawn(move || {
                for n in (part..people).step_by(128) {
                    let who = id(&format!("p{n}"));
                    gallery
                        .enroll(one, &who, Profile::default(), vec![face(n)], REQUEST)
                        .expect("enrolled");
                }
            });
        }
    });
    println!("{people} people enrolled: run again to measure a start");
}

/// What no way of starting is without: every byte read once, and every seal opened.
fn floor(gallery: &Gallery, people: u64) {
    let (began, cpu_began) = (Instant::now(), processor());
    let mut bytes = 0;
    let mut count = |key: &[u8], record: &[u8]| {
        bytes += key.len() + record.len();
        Scan::Continue
    };
    gallery
        .vault
        .scan(Family::Persons, &[], &[], &mut count)
        .expect("scanned");
    let reading = began.elapsed();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let opening = |people: u64| {
        let (key, nonce) = (Secret::random(), [0; NONCE_BYTES]);
        let sealed = OPENINGS.map(|bytes| crypto::seal(&key, &nonce, &vec![0; bytes], b""));
        for _ in 0..people {
            for sealed in &sealed {
                crypto::open(&key, &nonce, sealed, b"").expect("sealed above");
            }
        }
    };
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| opening(people / cores as u64));
        }
    });
    println!(
        "floor: {:.2?} of processors, on {cores} cores; reading {} MiB took {reading:.2?} on one, opening {:.2?} on all",
        processor() - cpu_began,
        bytes >> 20,
        began.elapsed()
    );
}

/// What the processors have worked for this process, all threads together, to a hundredth of a second.
fn processor() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    // User and system time are fields 14 and 15, in hundredths of a second; the third is the first here.
    let times = fields.split(' ').skip(11).take(2);
    let hundredths: u64 = times.map(|time| time.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * hundredths)
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .expect("a line")
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>();
    kib.expect("a number") << 10
}
