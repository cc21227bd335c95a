//! The table of retention: in the program, in the documentation, and over the ledger of what is kept of a person.

use std::collections::BTreeSet;
use std::fs;

use likeness_engine::retention::{DataClass, Periods};
use likeness_server::logs::retention::Retention;
use likeness_server::policy::{self, Language};

use crate::support::checkout;

fn classes() -> BTreeSet<&'static str> {
    let table = DataClass::table(&Periods::default());
    table.iter().map(|class| class.name).collect()
}

/// The rows of the first table after a heading, cell by cell; lines may begin as comments do.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(|line| line.trim_start_matches("//!").trim());
    let lines = lines.skip_while(|line| !line.starts_with(heading));
    let table = lines.skip_while(|line| !line.starts_with("|--")).skip(1);
    let rows = table.take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_page_on_retention_has_the_table_of_the_program() {
    let path = checkout().join("docs/retention.md");
    let before = fs::read_to_string(&path).expect("a page");
    let (begin, end) = ("<!-- table -->\n", "<!-- end of the table -->");
    let (head, rest) = before.split_once(begin).expect("the begin of the table");
    let (_, tail) = rest.split_once(end).expect("the end of the table");
    let policy = policy::reply("local", &Retention::default(), Language::En);
    let after = format!("{head}{begin}{}{end}{tail}", policy::page(&policy));
    if std::env::var_os("LIKENESS_WRITE").is_some() {
        fs::write(&path, after).expect("written");
    } else {
        assert!(
            before == after,
            "docs/retention.md differs from the program: run this test with LIKENESS_WRITE=1"
        );
    }
}

#[test]
fn every_row_of_the_ledger_of_persons_names_its_classes() {
    let source = fs::read_to_string(checkout().join("engine/src/gallery.rs")).expect("a source");
    let rows = rows(&source, "# All that is kept of a person");
    assert!(rows.len() > 10, "{rows:?}");
    let classes = classes();
    for row in rows {
        let named = names(row.last().expect("cells"));
        assert!(!named.is_empty(), "{row:?} names no class");
        for name in named {
            assert!(
                classes.contains(name),
                "{row:?} names a class that is not in the table"
            );
        }
    }
}

#[test]
fn every_log_of_the_page_on_logs_is_a_class() {
    let page = fs::read_to_string(checkout().join("docs/logs.md")).expect("a page");
    let rows = rows(&page, "# Logs and retention");
    assert!(rows.len() >= 5);
    let classes = classes();
    for row in rows {
        let name = row[0].replace(' ', "_");
        assert!(classes.contains(name.as_str()), "{name}");
    }
}

#[test]
fn every_class_that_a_file_of_the_program_sweeps_is_in_the_table() {
    let classes = classes();
    let mut swept = BTreeSet::new();
    for file in [
        "engine/store/src/purge.rs",
        "engine/src/gallery/sweeps.rs",
        "server/src/logs.rs",
    ] {
        let source = fs::read_to_string(checkout().join(file)).expect("a source");
        let texts = source.split('"').skip(1).step_by(2);
        swept.extend(texts.filter_map(|text| classes.get(text).copied()));
    }
    assert_eq!(
        swept,
        BTreeSet::from([
            "deleted_records",
            "expired_persons",
            "idempotency_tokens",
            "monitoring_data",
            "operation_log",
        ])
    );
}
