//! What may be named where: the layout is a table, and the sources are held to it.

use std::fs;
use std::path::Path;

use crate::support::checkout;

/// A name, the places it is at home in, and what to use elsewhere.
struct Rule {
    needle: &'static str,
    /// Files and directories where the rule holds.
    within: &'static str,
    /// Files and directories that the rule does not bind.
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

impl Rule {
    fn is_home(&self, file: &str) -> bool {
        let below = |home: &str| file.strip_prefix(home).is_some_and(|rest| rest.starts_with('/'));
        self.homes.iter().any(|home| file == *home || below(home))
    }
}

const NETWORK: &str = "the engine knows faces and disks, not networks: it belongs in the server";
const FACES: &str = "the server knows networks, not faces or disks: ask `Engine`";
const GALLERY: &str = "the pipeline ends in a template: who it belongs to is the gallery's";

#[rustfmt::skip] // a table
const RULES: &[Rule] = &[
    // The engine as a whole.
    rule("tonic", "engine", &[], NETWORK),
    rule("tokio", "engine", &[], NETWORK),
    rule("prost", "engine", &[], NETWORK),
    rule("clap", "engine", &[], "settings arrive as `EngineConfig`"),
    rule("net", "engine", &[], NETWORK),
    rule("println", "engine", &[], "use `tracing`, and never with a photograph, a template or a PersonID"),
    rule("eprintln", "engine", &[], "use `tracing`, and never with a photograph, a template or a PersonID"),
    // One home for each library, within the crate that depends on it.
    rule("rocksdb", "engine/store/src", &["engine/store/src/records.rs", "engine/store/src/records/beside.rs", "engine/store/src/records/opening.rs", "engine/store/src/records/quarantine.rs"], "go through `Records`"),
    rule("crc32c", "engine/store/src", &["engine/store/src/records/logs.rs"], "a checksum that finds accidents, and no forger: use `crypto`"),
    rule("ort", "engine/faces/src", &["engine/faces/src/model.rs"], "go through `Model`"),
    rule("zune_jpeg", "engine/faces/src", &["engine/faces/src/pipeline/image/jpeg.rs"], "go through `Image::decode`"),
    rule("chacha20poly1305", "engine/types/src", &["engine/types/src/crypto.rs"], "go through `crypto::seal` and `open`"),
    rule("getrandom", "engine/types/src", &["engine/types/src/crypto.rs"], "go through `crypto::random`"),
    rule("libc", "engine/types/src", &["engine/types/src/heap.rs", "engine/types/src/wipe.rs"], "use `rustix` or the standard library"),
    rule("ImageDecoder", "engine", &["engine/faces/src/pipeline/image.rs"], "go through `Image::decode`"),
    rule("postcard", "engine", &["engine/store/src/codec.rs", "engine/store/src/keys.rs", "engine/types/src/crypto.rs"], "bytes on disk are the codec's"),
    rule("unsafe", "engine", &["engine/search/src/simd.rs", "engine/search/src/simd/avx2.rs", "engine/search/src/simd/avx512.rs", "engine/search/src/simd/arm.rs", "engine/types/src/heap.rs", "engine/types/src/wipe.rs"], "find a safe way; or add the file here with its reason"),
    rule("unsafe", "server/src", &["server/src/doors/grpc/bodies/wiped.rs"], "find a safe way; or add the file here with its reason"),
    rule("thread", "engine", &["engine/src/gallery/commit.rs", "engine/store/src/retention/sweeper.rs", "engine/src/gallery/keeper.rs", "engine/src/gallery/load/ahead.rs", "engine/faces/src/evaluate.rs", "engine/types/src/busy.rs", "engine/src/access_log.rs"], "work runs on its caller's thread"),
    // The pipeline.
    rule("PersonId", "engine/faces/src/pipeline", &[], GALLERY),
    rule("fs", "engine/faces/src/pipeline", &[], "the pipeline reads no files"),
    rule("File", "engine/faces/src/pipeline", &[], "the pipeline reads no files"),
    rule("tracing", "engine/faces/src/pipeline", &[], "pixels and features have no place in a log"),
    rule("fs", "engine/faces/src/pipeline/protect.rs", &[], "nothing is written where plain features are"),
    // The gallery.
    rule("Embedding", "engine/src/gallery", &[], "plain features end in the pipeline's `protect`"),
    rule("Pipeline", "engine/src/gallery", &[], "photographs are the engine's concern"),
    rule("indexed", "engine", &["engine/src/gallery/collection.rs", "engine/types/src/person.rs"], "a stored template is compared by a `Comparing`"),
    rule("Comparing::at", "engine", &["engine/src/bench.rs", "engine/src/guard/comparison_limiter/turn.rs", "engine/src/people/admission.rs", "engine/src/gallery/measure.rs", "engine/src/people/duplicates.rs", "engine/src/search/comparisons.rs"], "a door of the meter's table is opened where its answer is counted"),
    rule("rayon", "engine", &["engine/search/src/cores.rs"], "cores are borrowed through `cores`"),
    rule("hnsw_rs", "engine", &["engine/search/src/graph.rs"], "go through `Index`"),
    // The server.
    rule("tonic", "server/src", &["server/src/doors/grpc"], "calls know no transport: a context and a message in, a reply or a `Refusal` out"),
    rule("tonic_types", "server/src", &["server/src/doors/grpc/status.rs"], "say it as a `Refusal`"),
    rule("http", "server/src/call", &[], "calls know no transport"),
    rule("http", "server/src/calls", &[], "calls know no transport"),
    rule("doors", "server/src/call", &[], "doors know the calls, and not the other way round"),
    rule("doors", "server/src/calls", &[], "doors know the calls, and not the other way round"),
    rule("Embedding", "server/src", &[], FACES),
    rule("Template", "server/src", &[], FACES),
    rule("spawn_blocking", "server/src", &["server/src/call/gate.rs", "server/src/tls.rs", "server/src/metrics/scrape.rs"], "blocking work passes the gate"),
    rule("RequestError", "server/src", &["server/src/convert/requests.rs", "server/src/convert/accounts.rs", "server/src/convert/logs.rs", "server/src/refusal.rs"], "requests are checked in `convert`, refusals chosen in `status`"),
    rule("Code", "server/src/calls", &[], "codes are chosen in `status`"),
    rule("println", "server/src", &[], "use `tracing`, and never with a photograph, a template or a PersonID"),
    rule("governor", "server/src", &["server/src/call/rates.rs"], "go through `Rates`"),
    rule("tokio_rustls", "server/src", &["server/src/tls.rs", "server/src/doors/grpc/incoming.rs", "server/src/doors/grpc/socket.rs"], "go through `tls`"),
    rule("prometheus_client", "server/src", &["server/src/fullness.rs", "server/src/metrics.rs", "server/src/metrics/scrape.rs"], "go through `Metrics`"),
    rule("hyper", "server/src", &["server/src/metrics/scrape.rs"], "clients come over gRPC"),
    rule("Command::new", "server/src", &[], "the server starts no program"),
    // The program.
    rule("unsafe", "clients/cli/src", &[], "find a safe way; or add the file here with its reason"),
    rule("Embedding", "clients/cli/src", &[], FACES),
    rule("Template", "clients/cli/src", &[], FACES),
    rule("spawn_blocking", "clients/cli/src", &["clients/cli/src/cli/serve.rs", "clients/cli/src/cli/demo.rs"], "a command blocks on its own thread"),
    rule("println", "clients/cli/src", &["clients/cli/src/cli.rs", "clients/cli/src/cli/demo.rs"], "commands answer with an `Outcome`"),
    rule("rcgen", "clients/cli/src", &["clients/cli/src/cli/tls.rs"], "certificates are the operator's; only those to try it are made"),
    rule("plotters", "clients/cli/src", &["clients/cli/src/plot.rs"], "go through `plot`"),
    rule("flate2::", "clients/cli/src", &["clients/cli/src/assets/archive.rs"], "go through `assets`"),
    rule("tar::", "clients/cli/src", &["clients/cli/src/assets/archive.rs"], "go through `assets`"),
    rule("zip::", "clients/cli/src", &["clients/cli/src/assets/archive.rs"], "go through `assets`"),
    rule("Command::new", "clients/cli/src", &["clients/cli/src/assets/clients.rs"], "the registries' clients are the only programs started"),
    // Everywhere.
    rule("unwrap()", "engine", &[], "`expect(\"why it cannot fail\")`, or an error"),
    rule("unwrap()", "server/src", &[], "`expect(\"why it cannot fail\")`, or an error"),
    rule("unwrap()", "clients/cli/src", &[], "`expect(\"why it cannot fail\")`, or an error"),
    rule("process::exit", "clients/cli/src", &[], "destructors wipe secrets: return an exit code"),
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
    if rule.within == "engine/faces/src/pipeline" {
        files.retain(|file| file != "engine/faces/src/pipeline.rs");
    }
    assert!(!files.is_empty(), "{} is empty: mend the table", rule.within);
    files.retain(|file| !is_test(file));
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| !rule.is_home(file)) {
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
            let mut files = Vec::new();
            sources(&checkout().join(home), &mut files);
            let used = files.iter().any(|file| {
                let text = fs::read_to_string(checkout().join(file)).unwrap();
                code(&text).any(|(_, line)| names(&line, rule.needle))
            });
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
