//! Strongly connected components, by Tarjan's algorithm.

use std::collections::{BTreeMap, BTreeSet};

/// What each node points to.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// The sets of at least two nodes each of which reaches every other; the largest first.
pub fn circles(edges: &Edges) -> Vec<Vec<String>> {
    let mut search = Search {
        edges,
        number: BTreeMap::new(),
        lowest: BTreeMap::new(),
        stack: Vec::new(),
        found: Vec::new(),
    };
    for node in edges.keys() {
        if !search.number.contains_key(node.as_str()) {
            search.visit(node);
        }
    }
    search.found.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    search.found
}

struct Search<'a> {
    edges: &'a Edges,
    /// In the order of the visits.
    number: BTreeMap<&'a str, usize>,
    /// The lowest number on the stack that the node reaches.
    lowest: BTreeMap<&'a str, usize>,
    stack: Vec<&'a str>,
    found: Vec<Vec<String>>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, node: &'a str) {
        let number = self.number.len();
        self.number.insert(node, number);
        self.lowest.insert(node, number);
        self.stack.push(node);
        for next in self.edges.get(node).into_iter().flatten() {
            let reached = match self.number.get(next.as_str()) {
                None => {
                    self.visit(next);
                    self.lowest[next.as_str()]
                }
                Some(number) if self.stack.contains(&next.as_str()) => *number,
                Some(_) => continue,
            };
            let lowest = self.lowest[node].min(reached);
            self.lowest.insert(node, lowest);
        }
        if self.lowest[node] == number {
            let at = self
                .stack
                .iter()
                .position(|on| *on == node)
                .expect("on the stack");
            let mut circle: Vec<_> = self.stack.drain(at..).map(str::to_owned).collect();
            circle.sort();
            if circle.len() > 1 {
                self.found.push(circle);
            }
        }
    }
}

#[test]
fn nodes_that_reach_each_other_are_a_circle_and_others_are_none() {
    let edges = [
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("c", "d"),
        ("d", "e"),
        ("e", "d"),
        ("f", "a"),
    ];
    let mut graph = Edges::new();
    for (from, to) in edges {
        graph.entry(from.to_owned()).or_default().insert(to.to_owned());
    }
    assert_eq!(
        circles(&graph),
        [vec!["a", "b", "c"], vec!["d", "e"]],
        "f is in none"
    );
    graph.remove("c");
    assert_eq!(circles(&graph), [vec!["d", "e"]]);
}
