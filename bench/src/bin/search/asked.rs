//! The people of a gallery, and the probes of a measurement.

use std::io;
use std::ops::Range;
use std::thread;

use likeness_bench::population::{DIM, Person, Population};
use likeness_engine::bench::{bytes, protector, template};
use likeness_engine::{Bits, Probe, Template};

pub const BITS: Bits = Bits::B1024;
pub const SEED: u64 = 1;
/// What rows call it.
pub const GALLERY: &str = "population, seed 1";
/// People from this number on are enrolled in no gallery.
const STRANGERS: Person = 1 << 40;
/// Photographs made between two writes.
const BLOCK: u64 = 8192;

/// Bits and features of some photographs, in order.
pub type Block = (Vec<u8>, Vec<f32>);

/// Person and photograph of a probe: in turn somebody enrolled, on another photograph, and a stranger.
pub fn asked(n: u64, size: u64, probes: u64) -> (Person, u64) {
    match n % 2 {
        0 => (n / 2 * size / probes.div_ceil(2), 1),
        _ => (STRANGERS + n, 0),
    }
}

/// The person, if enrolled.
pub fn enrolled(person: Person) -> Option<Person> {
    (person < STRANGERS).then_some(person)
}

/// The probes of a gallery, and who each shows.
pub fn probes(size: u64, probes: u64) -> (Vec<Probe>, Vec<Option<Person>>) {
    let (population, protector) = (Population::new(SEED), protector(DIM));
    let asked = (0..probes).map(|n| asked(n, size, probes));
    asked
        .map(|(person, photograph)| {
            let probe = protector.probe(population.photograph(person, photograph), BITS);
            (probe, enrolled(person))
        })
        .unzip()
}

/// Hands on the template of everyone enrolled, in order. No more than a few blocks are in memory at once, so that a
/// gallery of ten million takes no more than its index.
pub fn everyone(size: u64, mut take: impl FnMut(&Template)) {
    let (population, protector) = (Population::new(SEED), protector(DIM));
    let made = in_order(
        size,
        &|range| {
            let made =
                range.flat_map(|person| bytes(&protector.protect(population.photograph(person, 0), BITS)));
            (made.collect(), Vec::new())
        },
        |(made, _)| {
            let templates = made.chunks_exact(BITS.get() / 8);
            templates.for_each(|bytes| take(&template(bytes)));
            Ok(())
        },
    );
    made.expect("nothing is written");
}

/// Makes blocks on all cores and takes them in order.
///
/// # Errors
/// Whatever taking one fails with.
pub fn in_order(
    count: u64,
    make: &(dyn Fn(Range<u64>) -> Block + Sync),
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
