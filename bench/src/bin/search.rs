//! Synthetic galleries for `make bench-peers`: `bench-search export FOLDER SIZE PROBES`.
//!
//! Writes what the peers need: `templates.u8` and `gallery.f32` of everyone enrolled, `probes.u8` and
//! `probes.f32` of those looked for, half of whom nobody enrolled, and `truth.i64` with who each is (-1: nobody).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use likeness_bench::population::{DIM, Population};
use likeness_engine::bench::{bytes, protector};
use likeness_engine::{Bits, Protector};

const BITS: Bits = Bits::B1024;
const SEED: u64 = 1;
/// People from this number on are enrolled in no gallery.
const STRANGERS: u64 = 1 << 40;
/// Photographs made between two writes.
const BLOCK: u64 = 8192;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["export", folder, size, probes] => match (size.parse(), probes.parse()) {
            (Ok(size), Ok(probes)) => export(&PathBuf::from(folder), size, probes),
            _ => return usage(),
        },
        _ => return usage(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-search: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("bench-search: expected `export FOLDER SIZE PROBES`");
    ExitCode::FAILURE
}

/// Bits and features of some photographs, in order.
type Block = (Vec<u8>, Vec<f32>);

fn export(folder: &Path, size: u64, probes: u64) -> io::Result<()> {
    let (population, protector) = (Population::new(SEED), protector(DIM));
    std::fs::create_dir_all(folder)?;
    let all = |count: u64, names: [&str; 2], who: &(dyn Fn(u64) -> (u64, u64) + Sync)| {
        let mut files = [create(folder, names[0])?, create(folder, names[1])?];
        in_order(
            count,
            &|range| block(&population, &protector, range.map(who)),
            |(bits, values)| {
                files[0].write_all(&bits)?;
                values
                    .iter()
                    .try_for_each(|value| files[1].write_all(&value.to_le_bytes()))
            },
        )?;
        files.iter_mut().try_for_each(Write::flush)
    };
    all(size, ["templates.u8", "gallery.f32"], &|person| (person, 0))?;
    // In turn somebody enrolled, on another photograph, and a stranger.
    let asked = |n: u64| match n % 2 {
        0 => (n / 2 * size / probes.div_ceil(2), 1),
        _ => (STRANGERS + n, 0),
    };
    all(probes, ["probes.u8", "probes.f32"], &asked)?;
    let mut truth = create(folder, "truth.i64")?;
    for n in 0..probes {
        let (person, _) = asked(n);
        let person = i64::try_from(person)
            .ok()
            .filter(|_| person < STRANGERS)
            .unwrap_or(-1);
        truth.write_all(&person.to_le_bytes())?;
    }
    truth.flush()?;
    let meta = serde_json::json!({ "size": size, "gallery": "population, seed 1" });
    std::fs::write(folder.join("gallery.json"), meta.to_string())
}

fn create(folder: &Path, name: &str) -> io::Result<BufWriter<File>> {
    File::create(folder.join(name)).map(BufWriter::new)
}

fn block(
    population: &Population,
    protector: &Protector,
    photographs: impl Iterator<Item = (u64, u64)>,
) -> Block {
    let (mut bits, mut values) = (Vec::new(), Vec::new());
    for (person, photograph) in photographs {
        values.extend(population.unit_values(person, photograph));
        let template = protector.protect(population.photograph(person, photograph), BITS);
        bits.extend(bytes(&template));
    }
    (bits, values)
}

/// Makes blocks on all cores and takes them in order.
fn in_order(
    count: u64,
    make: &(dyn Fn(std::ops::Range<u64>) -> Block + Sync),
    mut take: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<()> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut next = 0;
    while next < count {
        let starts = (0..cores).map(|core| (next + core * BLOCK).min(count));
        let blocks: Vec<Block> = thread::scope(|scope| {
            let makers: Vec<_> = starts
                .map(|start| scope.spawn(move || make(start..(start + BLOCK).min(count))))
                .collect();
            let made = makers
                .into_iter()
                .map(|maker| maker.join().expect("making faces does not panic"));
            made.collect()
        });
        blocks.into_iter().try_for_each(&mut take)?;
        next += cores * BLOCK;
    }
    Ok(())
}
