//! Exact search among synthetic templates of 1024 bits, by the index that the server uses.

use std::hint::black_box;

use criterion::{BenchmarkId, Throughput};
use likeness_bench::figures::Figures;
use likeness_bench::{criterion, measures_all};
use likeness_engine::Bits;
use likeness_engine::bench::RandomFaces;

/// Faces in the index.
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
/// People a search answers.
const TOP_K: usize = 10;

fn main() {
    let mut criterion = criterion();
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
