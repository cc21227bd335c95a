//! Exact search among synthetic templates of 1024 bits, by the index that the server uses.

use std::hint::black_box;

use criterion::{BenchmarkId, Throughput};
use likeness_bench::figures::Figures;
use likeness_bench::population::{DIM, Population};
use likeness_bench::{criterion, measures_all};
use likeness_engine::bench::{Kernels, RandomFaces, Reading, one_core};
use likeness_engine::{Bits, Protector};

/// Faces in the index.
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
/// People a search answers.
const TOP_K: usize = 10;

/// What a search in stages saves depends on look-alikes and on the threshold: this is the one that one of a
/// hundred strangers reaches among a million (the best of 64 strangers came to .518).
const SIMILARITY_MIN: f32 = 0.53;
/// Searches that come together.
const BATCH: usize = 32;

/// A million synthetic people asked for strangers: in stages, with nobody missed, and many at once; and in the
/// same run the time of reading what the first stage reads, and of reading all.
fn in_stages(criterion: &mut criterion::Criterion) {
    const FACES: u64 = 1_000_000;
    let (population, protector) = (Population::new(1), Protector::new(&[1; 32], DIM));
    let mut faces = RandomFaces::new(Bits::B1024, 1);
    for person in 0..FACES {
        faces.insert(&protector.protect(population.photograph(person, 0), Bits::B1024));
    }
    let strangers = FACES..FACES + BATCH as u64;
    let probes = strangers.map(|person| protector.probe(population.photograph(person, 1), Bits::B1024));
    let probes: Vec<_> = probes.collect();
    let mut group = criterion.benchmark_group("stages");
    for (name, exact) in [("alone", false), ("exact", true)] {
        group.bench_function(name, |bencher| {
            let mut probes = probes.iter().cycle();
            bencher.iter(|| {
                let probe = probes.next().expect("endless");
                black_box(faces.search_all(&[probe], TOP_K, SIMILARITY_MIN, exact))
            });
        });
    }
    let all: Vec<_> = probes.iter().collect();
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("together", |bencher| {
        bencher.iter(|| black_box(faces.search_all(&all, TOP_K, SIMILARITY_MIN, false)));
    });
    for mib in [32, 128] {
        let memory = Reading::new(mib << 15, 0);
        group.throughput(Throughput::Bytes((mib << 20) as u64));
        group.bench_function(format!("read {mib} MiB"), |bencher| {
            bencher.iter(|| memory.read(0, 0))
        });
    }
    group.finish();
}

/// Each kernel on templates that lie in the cache, by every instruction set of this processor: bytes of templates.
fn kernels(criterion: &mut criterion::Criterion) {
    let (population, protector) = (Population::new(1), Protector::new(&[1; 32], DIM));
    let templates = (0..).map(|person| protector.protect(population.photograph(person, 0), Bits::B1024));
    let probe = protector.probe(population.photograph(7, 1), Bits::B1024);
    let kernels = Kernels::new(templates, &probe);
    let mut group = criterion.benchmark_group("kernels");
    kernels.each(|name, bytes, run| {
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(name, |bencher| bencher.iter(run));
    });
    group.finish();
}

fn main() {
    // What one core takes: what all of them do is measured beside the peers.
    let _alone = one_core();
    let mut criterion = criterion();
    kernels(&mut criterion);
    let bits = Bits::B1024;
    let template_bytes = bits.get() as u64 / 8;
    let mut faces = RandomFaces::new(bits, 1);
    let probes: Vec<_> = (0..16).map(|_| faces.probe()).collect();

    let mut group = criterion.benchmark_group("search");
    for size in SIZES {
        faces.grow_to(size);
        assert_eq!(faces.search(&probes[0], TOP_K), TOP_K);
        group.throughput(Throughput::Bytes(u64::from(size) * template_bytes));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            // Another probe each time, so that no answer can be remembered.
            let mut probes = probes.iter().cycle();
            bencher.iter(|| black_box(faces.search(probes.next().expect("endless"), TOP_K)));
        });
    }
    group.finish();
    in_stages(&mut criterion);
    criterion.final_summary();

    if measures_all() {
        let mut figures = Figures::new(
            "search",
            "Exact search, 1024 bits, best 10 of synthetic templates, one core",
        );
        for size in SIZES {
            let ms = figures.add_median(&format!("{size} templates"), &format!("search/{size}"));
            let bytes = f64::from(size) * template_bytes as f64;
            figures.add(
                format!("{size} templates: templates read"),
                bytes / ms / 1e6,
                "GB/s",
            );
        }
        figures.finish();
    }
}
