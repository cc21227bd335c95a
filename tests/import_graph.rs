//! No modules of a crate import each other in a circle.
//!
//! The graph is computed from the sources of every member of the workspace. A node is a file; an edge goes from a file to
//! the file that declares what it names. What counts:
//!
//! - A path that begins with `crate`, `self`, `super`, a child module or an imported name is followed to the file that
//!   declares the item, through imports and re-exports.
//! - A `use` is an edge, with three exceptions. The import of a module alone is none: the paths that begin with it are. A
//!   re-export is an edge only where the file uses the name itself. A glob is an edge to the module that it names.
//! - `mod x;` is no edge. A parent that only declares and re-exports its children does not depend on them.
//! - The root of a crate (`lib.rs`, `main.rs`) is no node: it names everything. Names re-exported there are followed.
//! - Code under `cfg(test)`, alone or first among others, does not count.

mod circles;
mod modules;
mod tokens;

use std::collections::BTreeSet;

use self::circles::circles;
use self::modules::{Graph, targets};

/// A circle that is still there.
struct Known {
    target: &'static str,
    /// How many modules it has.
    size: usize,
    /// One of them.
    with: &'static str,
}

const fn known(target: &'static str, size: usize, with: &'static str) -> Known {
    Known { target, size, with }
}

/// The list may only become shorter, and its sizes smaller.
const KNOWN: &[Known] = &[
    known("likeness-faces", 3, "calibration"),
    known("likeness-faces", 3, "pipeline::image"),
    known("likeness-faces", 2, "pipeline"),
    known("likeness-faces", 2, "evaluate"),
    known("likeness-search", 19, "index"),
    known("likeness-store", 2, "upgrade"),
    known("likeness-store", 5, "vault"),
    known("likeness-store", 3, "records"),
    known("likeness-cli (program)", 24, "cli"),
];

#[test]
fn no_modules_import_each_other_in_a_circle_but_the_known_ones() {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    let targets = targets();
    assert!(targets.len() >= 4, "{}: are these all crates?", targets.len());
    for target in targets {
        let graph = Graph::of(&target.root);
        let circles = circles(&graph.edges);
        let edges: usize = graph.edges.values().map(BTreeSet::len).sum();
        let (modules, sizes): (_, Vec<_>) = (graph.edges.len(), circles.iter().map(Vec::len).collect());
        println!(
            "{}: {modules} modules, {edges} edges, circles of {sizes:?} modules",
            target.name
        );
        for circle in circles {
            println!("  a circle of {}: {}", circle.len(), circle.join(" "));
            for edge in graph.among(&circle) {
                println!("    {edge}");
            }
            found.push((target.name.clone(), circle));
        }
    }
    let is = |known: &Known, target: &str, circle: &[String]| {
        known.target == target && circle.iter().any(|module| module == known.with)
    };
    for (target, circle) in &found {
        match KNOWN.iter().find(|known| is(known, target, circle)) {
            Some(known) if known.size == circle.len() => {}
            Some(known) => faults.push(format!(
                "{target}: the circle with `{}` has {} modules, not {}: {}",
                known.with,
                circle.len(),
                known.size,
                circle.join(" ")
            )),
            None => faults.push(format!(
                "{target}: modules import each other in a circle: {}; pass one of them what it needs, or move what several \
                 need below all of them (--nocapture prints the imports)",
                circle.join(" ")
            )),
        }
    }
    let gone = KNOWN
        .iter()
        .filter(|known| !found.iter().any(|(target, circle)| is(known, target, circle)));
    faults.extend(gone.map(|known| {
        format!(
            "{}: no circle has the module `{}`: delete it from the list",
            known.target, known.with
        )
    }));
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
