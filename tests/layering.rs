//! What may be named where: the layout is a table, and the sources are held to it.

use std::fs;
use std::path::Path;

use crate::support::checkout;

/// A name, the places it is at home in, and what to use elsewhere.
struct Rule {
    needle: &'static str,
    /// Files and directories where the rule holds.
    within: &'static str,
    homes: &'static [&'static str],
    advice: &'static str,
}

const fn rule(
    needle: &'static str,
    within: &'static str,
    homes: &'static [&'static str],
    advice: &'static str,
) -> Rule {
    Rule {
        needle,
        within,
        homes,
        advice,
    }
}

const NETWORK: &str = "the engine knows faces and disks, not networks: it belongs in the server";
const FACES: &str = "the server knows networks, not faces or disks: ask `Engine`";
const GALLERY: &str = "the pipeline ends in a template: who it belongs to is the gallery's";

#[rustfmt::skip] // a table
const RULES: &[Rule] = &[
    // The engine as a whole.
    rule("tonic", "engine/src", &[], NETWORK),
    rule("tokio", "engine/src", &[], NETWORK),
    rule("prost", "engine/src", &[], NETWORK),
    rule("clap", "engine/src", &[], "settings arrive as `EngineConfig`"),
    rule("net", "engine/src", &[], NETWORK),
    rule("println", "engine/src", &[], "use `tracing`, and never with a photograph, a template or a PersonID"),
    rule("eprintln", "engine/src", &[], "use `tracing`, and never with a photograph, a template or a PersonID"),
    // One home for each library.
    rule("rocksdb", "engine/src", &["engine/src/gallery/records.rs", "engine/src/gallery/records/beside.rs", "engine/src/gallery/records/opening.rs", "engine/src/gallery/records/quarantine.rs"], "go through `Records`"),
    rule("crc32c", "engine/src", &["engine/src/gallery/records/logs.rs"], "a checksum that finds accidents, and no forger: use `crypto`"),
    rule("ort", "engine/src", &["engine/src/model.rs"], "go through `Model`"),
    rule("zune_jpeg", "engine/src", &["engine/src/pipeline/image/jpeg.rs"], "go through `Image::decode`"),
    rule("ImageDecoder", "engine/src", &["engine/src/pipeline/image.rs"], "go through `Image::decode`"),
    rule("chacha20poly1305", "engine/src", &["engine/src/crypto.rs"], "go through `crypto::seal` and `open`"),
    rule("getrandom", "engine/src", &["engine/src/crypto.rs"], "go through `crypto::random`"),
    rule("postcard", "engine/src", &["engine/src/gallery/codec.rs", "engine/src/keys.rs", "engine/src/crypto.rs"], "bytes on disk are the codec's"),
    rule("libc", "engine/src", &["engine/src/heap.rs", "engine/src/wipe.rs"], "use `rustix` or the standard library"),
    rule("unsafe", "engine/src", &["engine/src/gallery/simd.rs", "engine/src/gallery/simd/avx2.rs", "engine/src/gallery/simd/avx512.rs", "engine/src/gallery/simd/arm.rs", "engine/src/heap.rs", "engine/src/wipe.rs"], "find a safe way; or add the file here with its reason"),
    rule("unsafe", "server/src", &["server/src/bodies/wiped.rs"], "find a safe way; or add the file here with its reason"),
    rule("thread", "engine/src", &["engine/src/gallery/writer.rs", "engine/src/gallery/purge.rs", "engine/src/gallery/expiry.rs", "engine/src/gallery/keeper.rs", "engine/src/gallery/load/ahead.rs", "engine/src/evaluate.rs", "engine/src/cores.rs", "engine/src/gallery/running.rs"], "work runs on its caller's thread"),
    // The pipeline.
    rule("gallery", "engine/src/pipeline", &[], GALLERY),
    rule("PersonId", "engine/src/pipeline", &[], GALLERY),
    rule("keys", "engine/src/pipeline", &[], "the key arrives as an argument"),
    rule("fs", "engine/src/pipeline", &[], "the pipeline reads no files"),
    rule("File", "engine/src/pipeline", &[], "the pipeline reads no files"),
    rule("tracing", "engine/src/pipeline", &[], "pixels and features have no place in a log"),
    rule("fs", "engine/src/pipeline/protect.rs", &[], "nothing is written where plain features are"),
    // The gallery.
    rule("Embedding", "engine/src/gallery", &[], "plain features end in the pipeline's `protect`"),
    rule("Pipeline", "engine/src/gallery", &[], "photographs are the engine's concern"),
    rule("index", "engine/src/gallery/records.rs", &[], "the store is the truth and knows no projection of it"),
    rule("index", "engine/src/gallery/codec.rs", &[], "the store is the truth and knows no projection of it"),
    rule("vault", "engine/src/gallery/index.rs", &[], "an index knows templates and rows, not the disk"),
    rule("vault", "engine/src/gallery/flat.rs", &[], "an index knows templates and rows, not the disk"),
    rule("vault", "engine/src/gallery/graph.rs", &[], "an index knows templates and rows, not the disk"),
    rule("indexed", "engine/src", &["engine/src/gallery/collection.rs", "engine/src/person.rs"], "a stored template is compared by a `Comparing`"),
    rule("Comparing::at", "engine/src", &["engine/src/bench.rs", "engine/src/gallery/meter/turn.rs", "engine/src/gallery/duplicates.rs", "engine/src/gallery/measure.rs", "engine/src/gallery/pairs.rs", "engine/src/gallery/search.rs"], "a door of the meter's table is opened where its answer is counted"),
    rule("rayon", "engine/src", &["engine/src/cores.rs"], "cores are borrowed through `cores`"),
    rule("hnsw_rs", "engine/src", &["engine/src/gallery/graph.rs"], "go through `Index`"),
    rule("Records", "engine/src/gallery/index.rs", &[], "an index knows templates and rows, not the disk"),
    rule("Records", "engine/src/gallery/flat.rs", &[], "an index knows templates and rows, not the disk"),
    rule("Records", "engine/src/gallery/cascade.rs", &[], "an index knows templates and rows, not the disk"),
    // The server.
    rule("rocksdb", "server/src", &[], FACES),
    rule("ort", "server/src", &[], FACES),
    rule("Embedding", "server/src", &[], FACES),
    rule("Template", "server/src", &[], FACES),
    rule("chacha20poly1305", "server/src", &[], FACES),
    rule("spawn_blocking", "server/src", &["server/src/gate.rs", "server/src/cli/serve.rs", "server/src/cli/demo.rs", "server/src/tls.rs", "server/src/metrics/scrape.rs"], "blocking work passes the gate"),
    rule("RequestError", "server/src", &["server/src/convert.rs", "server/src/convert/accounts.rs", "server/src/convert/logs.rs", "server/src/status.rs"], "requests are checked in `convert`, refusals chosen in `status`"),
    rule("Code", "server/src/service", &[], "codes are chosen in `status`"),
    rule("println", "server/src", &["server/src/cli.rs", "server/src/cli/demo.rs"], "commands answer with an `Outcome`"),
    rule("governor", "server/src", &["server/src/rates.rs"], "go through `Rates`"),
    rule("tokio_rustls", "server/src", &["server/src/tls.rs", "server/src/incoming.rs"], "go through `tls`"),
    rule("prometheus_client", "server/src", &["server/src/metrics.rs", "server/src/metrics/scrape.rs"], "go through `Metrics`"),
    rule("hyper", "server/src", &["server/src/metrics/scrape.rs"], "clients come over gRPC"),
    rule("rcgen", "server/src", &["server/src/cli/tls.rs"], "certificates are the operator's; only those to try it are made"),
    rule("plotters", "server/src", &["server/src/plot.rs"], "go through `plot`"),
    rule("flate2::", "server/src", &["server/src/assets/archive.rs"], "go through `assets`"),
    rule("tar::", "server/src", &["server/src/assets/archive.rs"], "go through `assets`"),
    rule("zip::", "server/src", &["server/src/assets/archive.rs"], "go through `assets`"),
    rule("Command::new", "server/src", &["server/src/assets/clients.rs"], "the registries' clients are the only programs started"),
    // Everywhere.
    rule("unwrap()", "engine/src", &[], "`expect(\"why it cannot fail\")`, or an error"),
    rule("unwrap()", "server/src", &[], "`expect(\"why it cannot fail\")`, or an error"),
    rule("process::exit", "server/src", &[], "destructors wipe secrets: return an exit code"),
];

/// Files that only tests compile.
fn is_test(path: &str) -> bool {
    [
        "tests.rs",
        "/tests/",
        "testing.rs",
        "testing/",
        "golden.rs",
        "residue.rs",
    ]
    .iter()
    .any(|part| path.contains(part))
}

/// Every Rust file under a directory, relative to the checkout.
fn sources(directory: &Path, found: &mut Vec<String>) {
    if directory.is_file() {
        found.push(relative(directory));
        return;
    }
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            sources(&path, found);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(checkout()).unwrap().display().to_string()
}

/// The lines that are code and no test: numbered, without comments and texts.
fn code(source: &str) -> impl Iterator<Item = (usize, String)> {
    let production = source
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(source);
    production.lines().enumerate().map(|(number, line)| {
        let line = line.split("//").next().unwrap_or(line);
        // What stands between quotation marks is a text; a quotation mark in a character is rare enough.
        let code: Vec<_> = line.split('"').step_by(2).collect();
        (number + 1, code.join("\"\""))
    })
}

/// Whether a line names the needle as a word of its own.
fn names(line: &str, needle: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        let ends_open = needle.ends_with(word);
        !(before.is_some_and(word) || ends_open && after.is_some_and(word))
    })
}

/// Every breach of a rule, each with its advice.
fn breaches(rule: &Rule) -> Vec<String> {
    let mut files = Vec::new();
    sources(&checkout().join(rule.within), &mut files);
    if rule.within == "engine/src/pipeline" {
        files.retain(|file| file != "engine/src/pipeline.rs");
    }
    assert!(!files.is_empty(), "{} is empty: mend the table", rule.within);
    files.retain(|file| !is_test(file));
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| !rule.homes.contains(&file.as_str())) {
        let text = fs::read_to_string(checkout().join(file)).unwrap();
        for (number, line) in code(&text) {
            if names(&line, rule.needle) {
                breaches.push(format!(
                    "{file}:{number} names `{}`: {}",
                    rule.needle, rule.advice
                ));
            }
        }
    }
    breaches
}

#[test]
fn every_name_stays_where_it_is_at_home() {
    let breaches: Vec<_> = RULES.iter().flat_map(breaches).collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn every_home_of_the_table_needs_its_entry() {
    for rule in RULES {
        for home in rule.homes {
            let path = checkout().join(home);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{home}: {error}"));
            let used = code(&text).any(|(_, line)| names(&line, rule.needle));
            assert!(
                used,
                "{home} does not name `{}` any more: mend the table",
                rule.needle
            );
        }
    }
}

#[test]
fn a_breach_is_seen_and_comments_texts_and_tests_are_not() {
    let source =
        "use rocksdb::DB; // ort\nlet a = \"tokio\"; x.unwrap();\n#[cfg(test)]\nmod tests {\n use tonic;\n}";
    let seen = |needle| code(source).any(|(_, line)| names(&line, needle));
    assert!(seen("rocksdb") && seen("unwrap()"));
    assert!(!seen("ort") && !seen("tokio") && !seen("tonic") && !seen("rocks"));
}
