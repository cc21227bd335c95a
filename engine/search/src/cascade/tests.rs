//! The cascade against a plain sort, every instruction set against the portable one, and what is missed
//! against what may be.

use std::cmp::Reverse;

use ndarray::Array1;
use proptest::prelude::*;
use proptest::strategy::Union;

use super::*;
use crate::arena::{BLOCK, COLUMNS, Columns, LINE, LINE_WORDS, Line};
use crate::lookup::Table;
use crate::simd::{ROWS, Simd, Task};
use crate::top::{Candidate, Top};
use likeness_faces::embedding::Embedding;
use likeness_faces::pipeline::protect::Protector;
use likeness_types::Inside;
use likeness_types::template::{Bits, Template};
use likeness_types::testing::{score_by_definition, template};

/// The best faces of a search, and whose.
struct Best(Vec<(PersonNo, Row, i32)>, Top, usize);

impl Best {
    fn new(k: usize, bar: i32) -> Self {
        Self(Vec::new(), Top::new(k, bar), k)
    }

    fn finish(self) -> Vec<(PersonNo, Row, i32)> {
        let Self(mut offered, top, _) = self;
        offered.sort_by_key(|(person, row, score)| (Reverse(*score), *person, *row));
        let hits = top.finish().into_iter();
        let best = hits.map(|hit| {
            *offered
                .iter()
                .find(|(person, ..)| *person == hit.person)
                .expect("offered")
        });
        best.collect()
    }
}

impl Sink for Best {
    fn bar(&self) -> i32 {
        self.1.bar()
    }

    fn offer(&mut self, score: i32, person: PersonNo, row: Row) {
        self.0.push((person, row, score));
        self.1.offer(Candidate { score, person });
    }

    fn fork(&self) -> Self {
        Self::new(self.2, self.1.bar())
    }

    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
        self.1.merge(other.1);
    }
}

/// SplitMix64, and normal values from it.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Box and Muller.
    fn normal(&mut self) -> f32 {
        let mut uniform = || ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let (a, b) = (uniform(), uniform());
        ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
    }

    fn template(&mut self, bits: Bits) -> Template {
        Template::from_words((0..bits.words()).map(|_| self.next()))
    }
}

fn fill(arena: &mut Arena, templates: &[Template]) {
    for (i, template) in templates.iter().enumerate() {
        arena.insert((i / 2) as PersonNo, template);
    }
}

/// Probes that go through the stages one by one.
const FEW: usize = 3;

/// What every kernel finds, which must be the same; and where all go the same way, they look at the same rows.
fn found(
    arena: &Arena,
    probes: &[Probe],
    k: usize,
    similarity: f32,
    miss: f64,
) -> Vec<Vec<(PersonNo, Row, i32)>> {
    let answers = Kernel::all().iter().map(|kernel| {
        let seek = |probe| {
            Seek::new(
                arena,
                probe,
                Best::new(k, Probe::score_at(probe, similarity)),
                miss,
            )
        };
        let mut seeks: Vec<_> = probes.iter().map(seek).collect();
        scan_with(*kernel, &Busy::taken(0), arena, &mut seeks, |_| u64::MAX);
        let (tops, tallies): (Vec<_>, Vec<_>) = seeks.into_iter().map(Seek::finish).unzip();
        let hits: Vec<_> = tops.into_iter().map(Best::finish).collect();
        (*kernel, hits, tallies)
    });
    let answers: Vec<_> = answers.collect();
    let (_, first, seen_first) = &answers[0];
    for (kernel, hits, seen) in &answers {
        assert_eq!(hits, first, "all instruction sets find the same");
        // A full scan of several probes may look middles up by columns, and some kernels look up six bits at a time where nobody
        // may be missed: they round otherwise, and look at other rows again.
        let by_columns = probes.len() > 1 && seen_first.iter().any(|tally| tally.full > 0);
        let compared = |tallies: &[Tally]| -> Vec<_> {
            let again = |tally: &Tally| match miss == 0.0 && (by_columns || looks_up_sixes(*kernel)) {
                true => Tally {
                    third: 0,
                    whole: 0,
                    ..*tally
                },
                false => *tally,
            };
            tallies.iter().map(again).collect()
        };
        // By what it has found a search in stages goes on: what it looks at once it is a full one differs then too.
        if probes.len() <= FEW && !(by_columns && miss > 0.0) {
            assert_eq!(compared(seen), compared(seen_first), "and look at the same");
        }
    }
    first.clone()
}

fn looks_up_sixes(kernel: Kernel) -> bool {
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => true,
        _ => false,
    }
}

/// What must be found, by the definition of the score.
fn plain(templates: &[Template], values: &[i8], k: usize, similarity: f32) -> Vec<(PersonNo, Row, i32)> {
    let probe = Probe::from_values(values);
    let all = templates.iter().enumerate();
    let all = all.map(|(i, template)| {
        (
            (i / 2) as PersonNo,
            Row(i as u32),
            score_by_definition(values, template),
        )
    });
    let mut all: Vec<_> = all
        .filter(|(_, _, score)| probe.similarity(*score) >= similarity)
        .collect();
    all.sort_by_key(|(person, row, score)| (Reverse(*score), *person, *row));
    let mut seen = std::collections::HashSet::new();
    all.retain(|(person, ..)| seen.insert(*person));
    all.truncate(k);
    all
}

/// Probes of every kind, the worst included.
fn values(bits: Bits) -> impl Strategy<Value = Vec<i8>> {
    let n = bits.get();
    prop_oneof![
        4 => prop::collection::vec(-127..=127i8, n),
        1 => prop::sample::select(vec![0i8, 1, -1, 7, 8, 127, -127]).prop_map(move |q| vec![q; n]),
        1 => (0..n, any::<bool>()).prop_map(move |(at, up)| {
            let mut one = vec![0; n];
            one[at] = if up { 127 } else { -127 };
            one
        }),
        1 => prop::collection::vec(prop::sample::select(vec![-127i8, -120, -9, -8, 0, 7, 8, 119, 120, 127]), n),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_full_scan_equals_a_plain_sort(
        (templates, probes) in prop::sample::select(Bits::ALL.to_vec()).prop_flat_map(|bits| {
            let probes = [1..2usize, 2..13].map(|count| prop::collection::vec(values(bits), count));
            (prop::collection::vec(template(bits), 1..400), Union::new(probes))
        }),
        k in 1..12usize,
        similarity in prop_oneof![Just(-1.0f32), -0.2f32..0.2],
    ) {
        let mut arena = Arena::new(templates[0].bits());
        fill(&mut arena, &templates);
        let asking: Vec<_> = probes.iter().map(|values| Probe::from_values(values)).collect();
        let found = found(&arena, &asking, k, similarity, 0.0);
        for (found, values) in found.iter().zip(&probes) {
            prop_assert_eq!(found, &plain(&templates, values, k, similarity));
        }
    }

    #[test]
    fn every_kernel_computes_what_the_portable_one_does(
        columns in prop::collection::vec(any::<u8>(), 2 * LINE * COLUMNS),
        words in prop::collection::vec(any::<u64>(), LINE_WORDS * 3 * ROWS),
        values in prop::sample::select(Bits::ALL.to_vec()).prop_flat_map(values),
        numbers in prop::collection::vec(-300..300i32, BLOCK),
        (step, limit) in (1..40u32, any::<u8>()),
    ) {
        struct Operations<'a>(&'a [Columns; 2], &'a [Line], &'a Weights, &'a [i32; BLOCK], u8, &'a mut Vec<i64>);
        impl Task for Operations<'_> {
            #[inline(always)]
            fn run<S: Simd>(self) {
                let Self(columns, lines, weights, numbers, limit, out) = self;
                let [[a, b], [c, d]] = S::columns(columns, [weights.front(); 2]);
                let [[e]] = S::columns(std::array::from_ref(&columns[0]), [weights.front()]);
                for bytes in [a, b, c, d, e, S::add(a, c), S::load(&columns[0].0[0]), S::zero()] {
                    out.extend(S::store(bytes).map(i64::from));
                    out.push(S::at_most(bytes, limit).cast_signed());
                }
                let mut penalties = [0; LINE];
                out.push(S::front(&columns[0], weights.front(), limit, &mut penalties).cast_signed());
                out.extend(penalties.map(i64::from));
                // Sixteen at once are the same as each by itself.
                let middle = weights.middle();
                if !middle.is_empty() {
                    let lines = &lines[..middle.len() * ROWS];
                    let sums = S::middles(lines, middle);
                    for (lines, sum) in lines.chunks(middle.len()).zip(sums) {
                        assert_eq!(S::middle(lines, middle), sum);
                    }
                    out.extend(sums.map(i64::from));
                }
                if let Some(tail) = weights.tail() {
                    let lines = &lines.as_chunks().0[0];
                    let sums = S::tails(lines, tail);
                    for (i, sum) in sums.iter().enumerate() {
                        assert_eq!(S::tail(&lines[i / 2], i % 2, tail), *sum);
                    }
                    out.extend(sums.map(i64::from));
                }
                out.push(S::all_at_most(numbers, i32::from(limit)).cast_signed());
            }
        }
        let lanes = columns.as_chunks().0;
        let columns = std::array::from_fn(|b| Columns(std::array::from_fn(|j| lanes[b * COLUMNS + j])));
        let lines: Vec<_> = words.as_chunks().0.iter().map(|words| Line(*words)).collect();
        let weights = Weights::new(&values, step);
        let numbers = std::array::from_fn(|i| numbers[i]);
        let results = Kernel::all().iter().map(|kernel| {
            let mut out = Vec::new();
            kernel.run(Operations(&columns, &lines, &weights, &numbers, limit, &mut out));
            out
        });
        let results: Vec<_> = results.collect();
        prop_assert!(results.iter().all(|result| result == &results[0]));
    }

    #[test]
    fn a_penalty_is_the_sum_of_what_each_differing_bit_costs_and_less_by_what_lookups_round(
        bytes in prop::collection::vec(any::<u8>(), COLUMNS),
        costs in prop::collection::vec((any::<bool>(), 0..128u32), COLUMNS * 8),
        step in 1..100u32,
    ) {
        struct One<'a>(&'a Columns, &'a Table, &'a mut Vec<u8>);
        impl Task for One<'_> {
            #[inline(always)]
            fn run<S: Simd>(self) {
                let [[penalties]] = S::columns(std::array::from_ref(self.0), [self.1]);
                self.2.extend(S::store(penalties));
            }
        }
        let bit = |i: usize| bytes[i / 8] >> (i % 8) & 1 == 1;
        let differing = costs.iter().enumerate().filter(|(i, (expected, _))| bit(*i) != *expected);
        let sum: u32 = differing.clone().map(|(_, (_, cost))| cost).sum();
        let columns = Columns(std::array::from_fn(|j| [bytes[j]; LINE]));
        for kernel in Kernel::all() {
            let mut out = Vec::new();
            kernel.run(One(&columns, &Table::new(costs.clone().into(), step), &mut out));
            // Four bits at a time at least: sixty-four lookups, each of which loses less than a step.
            let least = (sum.saturating_sub(COLUMNS as u32 * 2 * (step - 1)) / step).min(255);
            let most = (sum / step).min(255);
            prop_assert!(out.iter().all(|penalty| (least..=most).contains(&u32::from(*penalty))));
            let mut out = Vec::new();
            let each = costs.iter().map(|(expected, cost)| (*expected, cost / step));
            kernel.run(One(&columns, &Table::new(each.collect::<Vec<_>>().into(), 1), &mut out));
            let sum: u32 = differing.clone().map(|(_, (_, cost))| cost / step).sum();
            prop_assert!(out.iter().all(|penalty| u32::from(*penalty) == sum.min(255)));
        }
    }
}

/// Two faces of `dim` features: the second has this cosine to the first, and they lie in `rank` dimensions.
fn pair(draw: &mut Draw, cosine: f32, dim: usize, rank: usize) -> [Embedding; 2] {
    let mut random = || -> Vec<f32> {
        (0..dim)
            .map(|i| if i < rank { draw.normal() } else { 0.0 })
            .collect()
    };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let (mut a, mut b) = (random(), random());
    let length = dot(&a, &a).sqrt();
    a.iter_mut().for_each(|a| *a /= length);
    let along = dot(&a, &b);
    b.iter_mut().zip(&a).for_each(|(b, a)| *b -= along * a);
    let length = dot(&b, &b).sqrt();
    let sine = (1.0 - cosine * cosine).sqrt();
    let other = a
        .iter()
        .zip(&b)
        .map(|(a, b)| cosine * a + sine * b / length)
        .collect::<Vec<_>>();
    [a, other].map(|values| Embedding::from_raw(Array1::from(values), "test").expect("it has a length"))
}

/// Of mated pairs whose score is just the bar, the part that the stages drop, and the pairs.
fn missed(bits: Bits, miss: f64, keys: u8, [dim, rank]: [usize; 2]) -> (f64, f64) {
    const PAIRS: usize = 1000;
    let mut draw = Draw(u64::from(keys) + rank as u64);
    let (mut missed, mut all) = (0.0, 0.0);
    for key in 0..keys {
        let protector = Protector::new(&[key; 32], dim);
        for n in 0..PAIRS {
            let cosine = 0.35 + 0.3 * n as f32 / PAIRS as f32;
            let [asking, stored] = pair(&mut draw, cosine, dim, rank);
            let probe = protector.probe(asking, bits);
            let stored = protector.protect(stored, bits);
            let bar = probe.score(&stored);
            let bound = Bound::new(&probe.values(Inside), probe.block(), bar, miss);
            let bound = bound.expect("a projected face is even enough");
            let weights = Weights::new(&probe.values(Inside), bound.step());
            let staged = Staged::new(bound, bar);
            let mut arena = Arena::new(bits);
            arena.insert(1, &stored);
            let mut seek = Seek::new(&arena, &probe, Best::new(1, bar), 0.0);
            (seek.staged, seek.narrow, seek.weights) = (Some(staged), true, Arc::new(weights));
            let mut seeks = [seek];
            scan(&arena, &mut seeks, |_| 1);
            let [seek] = seeks;
            missed += f64::from(u8::from(seek.finish().0.finish().is_empty()));
            all += 1.0;
        }
    }
    (missed / all, all)
}

#[test]
fn no_more_is_missed_than_may_be_and_the_bound_is_not_idle() {
    // Real faces lie in about a hundred dimensions; a projection of other lengths has other whole blocks.
    let cases = [
        (Bits::B1024, [512, 512], &[(1e-2, 2), (1e-3, 8), (1e-4, 16)][..]),
        (Bits::B1024, [512, 100], &[(1e-2, 2), (1e-3, 8), (1e-4, 16)]),
        (Bits::B256, [512, 100], &[(1e-2, 2)]),
        (Bits::B512, [512, 100], &[(1e-2, 2), (1e-3, 6)]),
        (Bits::B2048, [512, 100], &[(1e-2, 2), (1e-3, 6)]),
        (Bits::B1024, [128, 128], &[(1e-2, 2)]),
        (Bits::B1024, [1024, 100], &[(1e-2, 2)]),
        (Bits::B1024, [2048, 100], &[(1e-2, 2)]),
    ];
    for (bits, [dim, rank], misses) in cases {
        for (miss, keys) in misses {
            let (rate, pairs) = missed(bits, *miss, *keys, [dim, rank]);
            let case = format!("{bits} bits of {rank} in {dim}: of {miss:e} allowed, {rate:.2e} of {pairs}");
            println!("{case}");
            assert!(rate <= miss + 3.0 * (miss / pairs).sqrt(), "{case}");
            assert!(rate >= miss / 20.0 || miss * pairs < 10.0, "{case}");
        }
    }
}

/// A gallery large enough for stages, with mated faces of every similarity, and look-alikes.
#[test]
fn a_staged_search_finds_what_a_full_one_does_and_looks_at_less() {
    for bits in Bits::ALL {
        let protector = Protector::new(&[9; 32], 512);
        let (mut draw, mut arena) = (Draw(4), Arena::new(bits));
        let mut probes = Vec::new();
        for person in 0..20 {
            let [asking, stored] = pair(&mut draw, 0.4 + 0.03 * person as f32, 512, 512);
            probes.push(protector.probe(asking, bits));
            arena.insert(person, &protector.protect(stored, bits));
        }
        let removed: Vec<_> = (0..6000)
            .map(|n| arena.insert(100 + n, &draw.template(bits)))
            .collect();
        removed.iter().step_by(7).for_each(|row| arena.remove(*row));
        for similarity in [0.3, 0.5, 0.7] {
            for k in [1, 30] {
                let full = found(&arena, &probes, k, similarity, 0.0);
                assert_eq!(
                    found(&arena, &probes, k, similarity, MISS_PROBABILITY),
                    full,
                    "{bits} bits, {similarity}"
                );
                assert!(full.iter().any(|hits| !hits.is_empty()));
            }
        }
        let mut seeks = [Seek::new(
            &arena,
            &probes[0],
            Best::new(1, probes[0].score_at(0.6)),
            MISS_PROBABILITY,
        )];
        scan(&arena, &mut seeks, |_| u64::MAX);
        let [seek] = seeks;
        let (_, tally) = seek.finish();
        assert_eq!(tally.full, 0);
        assert!(
            tally.second < tally.first / 20 && tally.whole < tally.first / 100,
            "{bits}: {tally:?}"
        );
    }
}

/// Three tasks and a part of one, in chunks of many sizes.
#[test]
fn however_many_look_together_they_find_what_one_does() {
    let bits = Bits::B256;
    let protector = Protector::new(&[11; 32], 512);
    let (mut draw, mut arena) = (Draw(12), Arena::new(bits));
    let mut probes = Vec::new();
    for n in 0..52_000 {
        if n % 2_500 == 0 {
            let [asking, stored] = pair(&mut draw, 0.5 + 0.01 * (n / 2_500) as f32, 512, 512);
            probes.push(protector.probe(asking, bits));
            arena.insert(n, &protector.protect(stored, bits));
        } else {
            arena.insert(n, &draw.template(bits));
        }
    }
    assert!(tasks(&arena).count() > 4);
    for (k, similarity, miss) in [
        (1, 0.3, MISS_PROBABILITY),
        (7, 0.1, MISS_PROBABILITY),
        (7, -1.0, 0.0),
        (200, 0.15, 0.0),
    ] {
        let found = |helpers| {
            let best = |probe: &Probe| Best::new(k, probe.score_at(similarity));
            let seeks = probes
                .iter()
                .map(|probe| Seek::new(&arena, probe, best(probe), miss));
            let mut seeks: Vec<_> = seeks.collect();
            scan_with(Kernel::best(), &Busy::taken(helpers), &arena, &mut seeks, |_| {
                u64::MAX
            });
            let (found, tallies): (Vec<_>, Vec<_>) = seeks
                .into_iter()
                .map(Seek::finish)
                .map(|(best, tally)| (best.finish(), tally.first + tally.full))
                .unzip();
            assert!(
                tallies.iter().all(|rows| *rows >= 52_000),
                "every row is looked at"
            );
            found
        };
        let alone = found(0);
        assert!(alone.iter().any(|hits| !hits.is_empty()));
        for helpers in [1, 2, 5] {
            assert_eq!(
                found(helpers),
                alone,
                "{helpers} helpers, best {k} from {similarity}"
            );
        }
    }
}

#[test]
fn rows_that_do_not_count_are_not_found() {
    let (mut draw, mut arena) = (Draw(8), Arena::new(Bits::B512));
    let templates: Vec<_> = (0..5000).map(|_| draw.template(Bits::B512)).collect();
    fill(&mut arena, &templates);
    let probe = Probe::from_values(&(0..512).map(|i| (i * 71 % 201 - 100) as i8).collect::<Vec<_>>());
    let all = plain(&templates, &probe.values(Inside), usize::MAX, 0.05);
    let even: Vec<_> = all
        .iter()
        .filter(|(_, row, _)| row.0 % 2 == 0)
        .map(|(_, row, _)| *row)
        .collect();
    for miss in [0.0, MISS_PROBABILITY] {
        let mut seeks = [Seek::new(
            &arena,
            &probe,
            Best::new(usize::MAX, probe.score_at(0.05)),
            miss,
        )];
        scan(&arena, &mut seeks, |_| 0x5555_5555_5555_5555);
        let [seek] = seeks;
        let found: Vec<_> = seek
            .finish()
            .0
            .finish()
            .into_iter()
            .map(|(_, row, _)| row)
            .collect();
        assert!(even.iter().all(|row| found.contains(row)));
        assert!(found.iter().all(|row| row.0 % 2 == 0));
    }
}
