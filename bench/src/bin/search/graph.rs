//! The graph beside the stages, in one run: what it takes to find as many people, and what erasing costs in either.

use std::time::{Duration, Instant};

use likeness_bench::status_bytes;
use likeness_engine::bench::{Place, RandomFaces};
use serde_json::json;

use crate::asked::{BITS, SEED, everyone};
use crate::measured::{Built, How, Questions};

/// Candidates that a search keeps, from few to many.
const EFS: [u32; 7] = [32, 64, 128, 256, 512, 1024, 2048];
/// Faces linked between two looks at the clock, as the keeper does.
const ROWS: usize = 1000;
/// Every so many people can be erased: more than the tenth from which on a graph is built anew.
const ERASABLE: u64 = 9;

/// Prints the rows of the graph, and of the stages beside it. A graph that is not whole after `longest` is no row.
pub fn graph(size: u64, asked: u64, longest: Duration) {
    let began = Instant::now();
    let questions = Questions::new(size, asked);
    let flat = questions.flat();
    let everyone = questions.answers(&flat.faces, -1.0, true);
    let similarity_min = questions.threshold(&everyone);
    let how = How {
        kind: "cascade, beside the graph",
        similarity_min,
        exact: false,
        threads: 1,
        batch: 1,
    };
    questions.row(&flat, &everyone, how);
    let Some((mut graph, places)) = built(&questions, size, longest) else {
        return;
    };
    for ef in EFS {
        graph.faces.set_ef(ef);
        let kind = &format!("graph ef={ef}");
        questions.row(&graph, &everyone, How { kind, ..how });
    }
    erase(size, graph, places, longest.saturating_sub(began.elapsed()));
}

/// The graph, and where those are who can be erased.
fn built(questions: &Questions, size: u64, longest: Duration) -> Option<(Built, Vec<Place>)> {
    let before = status_bytes("RssAnon:");
    let (mut faces, mut places, mut person) = (RandomFaces::graph(BITS, SEED), Vec::new(), 0);
    everyone(size, |template| {
        let place = faces.insert(template);
        places.extend((person % ERASABLE == 0).then_some(place));
        person += 1;
    });
    let (began, mut linked) = (Instant::now(), 0);
    while faces.link(ROWS) {
        linked += ROWS as u64;
        if linked < size && began.elapsed() > longest {
            let note = format!(
                "A graph of {size} was given {} minutes, and had {linked} faces by then.",
                longest.as_secs() / 60
            );
            println!("{}", json!({ "note": note, "size": size, "linked": linked }));
            return None;
        }
    }
    let built = Built {
        faces,
        seconds: began.elapsed().as_secs_f64(),
        bytes_per_face: questions.grown(before),
    };
    Some((built, places))
}

/// Erases until a graph must be built anew, and builds it if there is time.
fn erase(size: u64, graph: Built, places: Vec<Place>, left: Duration) {
    let Built {
        mut faces, seconds, ..
    } = graph;
    let (count, began) = (places.len(), Instant::now());
    places.into_iter().for_each(|place| faces.erase(place));
    let each_us = began.elapsed().as_secs_f64() / count as f64 * 1e6;
    let mut note =
        format!("Overwriting a face in a graph of {size} took {each_us:.1} us, each of {count} in turn");
    let mut figures = json!({ "size": size, "graph_erase_us": each_us });
    if left.as_secs_f64() > seconds {
        let began = Instant::now();
        faces.link(ROWS);
        let anew = began.elapsed().as_secs_f64();
        note += &format!("; the graph anew without them took {anew:.1} s, while the old one serves");
        figures["graph_anew_s"] = json!(anew);
    }
    figures["note"] = json!(note + ".");
    println!("{figures}");
}
