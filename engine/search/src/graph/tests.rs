//! The graph beside a plain comparison with everyone.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::flat::Flat;
use crate::index::Hit;
use crate::multi_face::Several;
use likeness_types::fused::Agreement;
use likeness_types::testing::{probe_values, score_by_definition, template};

const BITS: Bits = Bits::B256;

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Faces with structure, as real ones have: a few directions, and a little of their own.
    fn words(&mut self, family: u64) -> Vec<u64> {
        let mut common = Numbers(family % 40);
        (0..4)
            .map(|_| common.next() ^ (self.next() & self.next() & self.next()))
            .collect()
    }
}

fn face(words: &[u64]) -> Template {
    Template::from_words(words.iter().copied())
}

/// A probe that resembles these words.
fn probe_of(words: &[u64], numbers: &mut Numbers) -> Probe {
    let values: Vec<i8> = (0..256)
        .map(|i| {
            let strength = i8::try_from(20 + numbers.next() % 100).expect("below 120");
            if words[i / 64] >> (i % 64) & 1 == 1 {
                strength
            } else {
                -strength
            }
        })
        .collect();
    Probe::from_values(&values)
}

fn keep(graph: &mut Graph) {
    while let Some(mut work) = graph.work(1000) {
        work.run(&AtomicBool::new(false));
        drop(graph.adopt(work));
    }
}

/// What one probe finds, by the walk or by comparing with everyone.
fn found(graph: &Graph, probe: &Probe, k: usize, similarity_min: f32, exact: bool) -> Vec<Hit> {
    let ask = Ask {
        probes: &[probe],
        k,
        similarity_min,
        among: None,
        by: ComparedFaces::BestFace,
        exact,
    };
    let found = graph.top(&ask, graph.ef());
    assert_eq!(found.compared, graph.len());
    found.hits.into_iter().next().expect("one answer for each probe")
}

fn walked(graph: &Graph, probe: &Probe, k: usize, similarity_min: f32) -> Vec<Hit> {
    found(graph, probe, k, similarity_min, false)
}

/// So many faces, all in the graph, with their words.
fn filled(faces: u32) -> (Graph, Vec<(Row, Vec<u64>)>) {
    let (mut graph, mut numbers) = (Graph::new(BITS, 128), Numbers(1));
    let rows = (0..faces)
        .map(|person| {
            let words = numbers.words(u64::from(person));
            (graph.insert(person, &face(&words)), words)
        })
        .collect();
    keep(&mut graph);
    assert!(graph.outside.is_empty());
    (graph, rows)
}

fn persons(hits: &[Hit]) -> Vec<PersonNo> {
    hits.iter().map(|hit| hit.person).collect()
}

proptest! {
    #[test]
    fn the_score_is_that_of_the_definition(values in probe_values(BITS), template in template(BITS)) {
        let mut graph = Graph::new(BITS, 128);
        let row = graph.insert(1, &template);
        let probe = Probe::from_values(&values);
        prop_assert_eq!(graph.score(&probe, row), score_by_definition(&values, &template));
        let near = Nearness::new(&graph.arena, BITS).eval(&asked(&probe), &[0]);
        let similarity = probe.similarity(score_by_definition(&values, &template));
        prop_assert!((near - (1.0 - similarity)).abs() < 1e-5);
    }
}

#[test]
fn whoever_is_enrolled_is_found_before_and_after_the_keeper_came() {
    let (mut graph, _) = filled(3000);
    let mut numbers = Numbers(2);
    let words = numbers.words(7);
    let probe = probe_of(&words, &mut numbers);
    graph.insert(5000, &face(&words));
    assert_eq!(persons(&walked(&graph, &probe, 1, 0.9)), [5000]);
    keep(&mut graph);
    assert_eq!(persons(&walked(&graph, &probe, 1, 0.9)), [5000]);
}

#[test]
fn a_walk_finds_nearly_everyone_and_scores_them_in_integers() {
    let (graph, rows) = filled(4000);
    let mut numbers = Numbers(3);
    let mut agreed = 0;
    for (row, words) in rows.iter().step_by(40) {
        let probe = probe_of(words, &mut numbers);
        let (walked, all) = (
            walked(&graph, &probe, 1, 0.0),
            found(&graph, &probe, 1, 0.0, true),
        );
        assert_eq!(Row(all[0].person), *row, "the first rows are given out in order");
        agreed += usize::from(walked == all);
    }
    assert!(agreed >= 98, "{agreed} of 100");
}

#[test]
fn an_erased_face_is_overwritten_at_once_and_never_found() {
    let (mut graph, rows) = filled(3000);
    let mut numbers = Numbers(4);
    let (row, words) = &rows[1234];
    graph.remove(*row);
    assert!(
        graph
            .arena
            .row(row.0)
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == 0)
    );
    let probe = probe_of(words, &mut numbers);
    assert!(walked(&graph, &probe, 100, 0.9).is_empty());
    assert_eq!(graph.len(), 2999);
}

#[test]
fn when_a_tenth_is_dead_a_new_graph_is_built_and_the_rows_are_used_again() {
    let (mut graph, rows) = filled(3000);
    for (row, _) in rows.iter().take(400) {
        graph.remove(*row);
    }
    assert_eq!((graph.dead, graph.free.len()), (400, 0));
    keep(&mut graph);
    assert_eq!(
        (graph.dead, graph.free.len(), graph.links.get_nb_point()),
        (0, 400, 2600)
    );
    let mut numbers = Numbers(5);
    let (row, words) = &rows[2000];
    let found = walked(&graph, &probe_of(words, &mut numbers), 1, 0.9);
    assert_eq!(found[0].person, row.0);
    let used = graph.insert(9000, &face(words));
    assert!(rows[..400].iter().any(|(row, _)| *row == used));
}

#[test]
fn what_changes_while_a_graph_is_built_is_neither_lost_nor_revived() {
    let (mut graph, rows) = filled(3000);
    for (row, _) in rows.iter().take(400) {
        graph.remove(*row);
    }
    let mut work = graph.work(1000).expect("a tenth is dead");
    assert!(work.anew && graph.work(1000).is_none(), "one keeper at a time");
    // Before, while and after it is built: one enrolled, one who is being linked erased, one new one erased.
    let mut numbers = Numbers(6);
    let new = numbers.words(3);
    graph.insert(7000, &face(&new));
    let short = graph.insert(7001, &face(&numbers.words(4)));
    graph.remove(short);
    work.run(&AtomicBool::new(false));
    graph.remove(rows[2500].0);
    drop(graph.adopt(work));
    assert_eq!(graph.dead, 1);
    assert_eq!(
        persons(&walked(&graph, &probe_of(&new, &mut numbers), 1, 0.9)),
        [7000]
    );
    assert!(walked(&graph, &probe_of(&rows[2500].1, &mut numbers), 9, 0.9).is_empty());
    let all: Vec<_> = (0..graph.owners.len())
        .filter(|row| graph.owners[*row] != NO_PERSON)
        .collect();
    assert_eq!(all.len(), graph.len());
    let free: std::collections::HashSet<_> = graph.free.iter().collect();
    assert_eq!(free.len(), graph.free.len(), "no row is free twice");
    assert!(
        graph
            .free
            .iter()
            .all(|row| graph.owners[row.0 as usize] == NO_PERSON)
    );
}

#[test]
fn a_stopped_keeper_leaves_what_it_did_not_do_outside() {
    let (mut graph, _) = filled(3000);
    let mut numbers = Numbers(8);
    let words = numbers.words(9);
    graph.insert(8000, &face(&words));
    let mut work = graph.work(1000).expect("one is outside");
    work.run(&AtomicBool::new(true));
    drop(graph.adopt(work));
    assert_eq!(graph.outside.len(), 1);
    assert_eq!(
        persons(&walked(&graph, &probe_of(&words, &mut numbers), 1, 0.9)),
        [8000]
    );
}

#[test]
fn who_is_erased_on_the_way_into_a_graph_is_dead_in_it_and_who_is_erased_before_it_is_not() {
    let (mut graph, _) = filled(100);
    let mut numbers = Numbers(10);
    let mut enrol = |graph: &mut Graph, person| graph.insert(person, &face(&numbers.words(1)));
    let linked = enrol(&mut graph, 200);
    let erased = enrol(&mut graph, 201);
    let waiting = enrol(&mut graph, 202);
    let mut work = graph.work(2).expect("three are outside");
    let late = enrol(&mut graph, 203);
    graph.remove(erased);
    graph.remove(waiting);
    work.run(&AtomicBool::new(false));
    drop(graph.adopt(work));
    assert_eq!(graph.places[linked.0 as usize], Place::Inside);
    assert_eq!((graph.dead, &graph.free[..]), (1, &[waiting][..]));
    assert_eq!(graph.outside, [late]);
}

#[test]
fn what_is_to_be_linked_and_never_anew_is_no_graph_of_all() {
    let (mut graph, rows) = filled(100);
    for (row, _) in rows.iter().take(40) {
        graph.remove(*row);
    }
    assert!(graph.more(1000).is_none(), "nobody is outside");
    graph.insert(200, &face(&rows[0].1));
    let mut work = graph.more(1000).expect("one is outside");
    assert!(work.rows.len() == 1 && !work.anew, "none was asked for");
    work.run(&AtomicBool::new(false));
    drop(graph.adopt(work));
    assert_eq!((graph.dead, graph.outside.len()), (40, 0));
    assert!(graph.has_work(), "for whoever may build it anew");
}

#[test]
fn a_graph_of_which_few_live_is_let_go_and_one_of_many_is_built_again() {
    let (mut graph, rows) = filled(100);
    for (row, _) in rows.iter().skip(10) {
        graph.remove(*row);
    }
    assert!(graph.has_work(), "nearly all are dead");
    keep(&mut graph);
    assert_eq!((graph.dead, graph.free.len(), graph.outside.len()), (0, 90, 10));
    assert_eq!(graph.links.get_nb_point(), 0);
    let mut numbers = Numbers(11);
    let found_again = |graph: &Graph, numbers: &mut Numbers| {
        let (row, words) = &rows[3];
        let found = walked(graph, &probe_of(words, numbers), 1, 0.9);
        assert_eq!(persons(&found), [row.0]);
    };
    found_again(&graph, &mut numbers);
    for person in 200..250 {
        graph.insert(person, &face(&numbers.words(u64::from(person))));
    }
    assert_eq!(graph.owners.len(), 100, "rows are used again");
    keep(&mut graph);
    assert_eq!((graph.links.get_nb_point(), graph.outside.len()), (60, 0));
    found_again(&graph, &mut numbers);
}

#[test]
fn a_graph_whose_keeper_failed_stays_as_it_is_and_uses_rows_again() {
    let (mut graph, rows) = filled(100);
    let mut numbers = Numbers(12);
    let words = numbers.words(5);
    let erased = graph.insert(200, &face(&numbers.words(6)));
    graph.insert(201, &face(&words));
    let work = graph.work(1000).expect("two are outside");
    graph.remove(erased);
    graph.give_up(&work);
    assert!(!graph.has_work() && graph.more(1000).is_none());
    assert_eq!((graph.outside.len(), graph.free.len()), (1, 1));
    let used = graph.insert(202, &face(&numbers.words(7)));
    assert_eq!(used, erased);
    graph.remove(used);
    assert_eq!((graph.outside.len(), graph.free.len()), (1, 1));
    for (words, person) in [(&rows[3].1, 3), (&words, 201)] {
        let found = walked(&graph, &probe_of(words, &mut numbers), 1, 0.9);
        assert_eq!(persons(&found), [person]);
    }
}

#[test]
fn what_compares_with_everyone_answers_as_the_flat_index_does() {
    let (mut graph, rows) = filled(1000);
    let (mut flat, mut several, mut numbers) = (Flat::new(BITS), Several::default(), Numbers(9));
    for (row, words) in &rows {
        flat.insert(row.0, &face(words));
    }
    // A second face for some, like the first; and others go.
    for (row, words) in rows.iter().step_by(10) {
        let second: Vec<_> = words.iter().map(|word| word ^ (1 << (row.0 % 64))).collect();
        let both = [face(words), face(&second)];
        flat.insert(row.0, &both[1]);
        graph.insert(row.0, &both[1]);
        several.set(row.0, Agreement::of(&both.each_ref()));
    }
    for (row, _) in rows.iter().skip(1).step_by(10) {
        flat.remove(*row);
        graph.remove(*row);
    }
    let mut among = Rows::default();
    rows.iter()
        .skip(2)
        .step_by(5)
        .for_each(|(row, _)| among.insert(*row));
    let probes: Vec<_> = (0..20).map(|n| probe_of(&rows[n * 30].1, &mut numbers)).collect();
    for among in [None, Some(&among)] {
        for by in [ComparedFaces::BestFace, ComparedFaces::AllFaces(&several)] {
            let ask = Ask {
                probes: &probes.iter().collect::<Vec<_>>(),
                k: 7,
                similarity_min: 0.2,
                among,
                by,
                exact: true,
            };
            let (found, expected) = (graph.top(&ask, graph.ef()), flat.top(&ask));
            assert_eq!(found.hits, expected.hits);
            assert_eq!(found.compared, expected.compared);
            assert!(expected.hits.iter().any(|hits| hits.len() > 1));
        }
    }
    let asking: Vec<_> = rows.iter().step_by(50).map(|(_, words)| face(words)).collect();
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    graph.near(&asking, 60, &mut |near| found.push(near));
    flat.near(&asking, 60, &mut |near| expected.push(near));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(found.len() > asking.len());
}
