//! The public API of the engine: its names, and the crates that may depend on the parts of the engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::checkout;

/// Every name that `engine/src/lib.rs` exports, sorted.
const NAMES: &[&str] = &[
    "ACCOUNTS_MAX",
    "API_KEYS_MAX",
    "Account",
    "AccountInfo",
    "AccountSettings",
    "Act",
    "Administration",
    "Admission",
    "ApiKey",
    "ApiKeyInfo",
    "AuditEntry",
    "Audited",
    "Backlog",
    "Bits",
    "Bounds",
    "CALIBRATION_FILE",
    "CALLS",
    "COLLECTIONS_MAX",
    "Calibration",
    "CalibrationReport",
    "Calibrator",
    "Call",
    "CallOrigin",
    "Caller",
    "Cancel",
    "Charge",
    "Checks",
    "Choose",
    "ClosedAccount",
    "ClosedDeployment",
    "CollectionChange",
    "CollectionErasure",
    "CollectionInfo",
    "CollectionName",
    "CollectionRef",
    "CollectionSettings",
    "Comparison",
    "Consent",
    "Counted",
    "Curve",
    "DEFAULT_CALIBRATION",
    "DEFAULT_MANIFEST",
    "DESCRIPTORS_MAX",
    "DetPoint",
    "Detection",
    "Door",
    "DuplicateCursor",
    "DuplicatePair",
    "Duplicates",
    "EF_DEFAULT",
    "EF_RANGE",
    "EF_TRIED",
    "EMBEDDING_DIM_MAX",
    "EXPIRY_YEARS_MAX",
    "Embedding",
    "Engine",
    "EngineConfig",
    "ErasureIn",
    "ErasureReceipt",
    "ErasureStatus",
    "Error",
    "Estimate",
    "Evaluation",
    "Evaluator",
    "EveryFace",
    "FACES_PER_PERSON_MAX",
    "FACES_WARNING",
    "FILTER_IDS_MAX",
    "Face",
    "FaceId",
    "Filter",
    "Footprint",
    "Grant",
    "HeldOut",
    "Holding",
    "IndexKind",
    "Interval",
    "Issued",
    "KEY_COLLECTIONS_MAX",
    "KeyStore",
    "LABEL_BYTES_MAX",
    "Lease",
    "LevelFigures",
    "Limit",
    "Limits",
    "LoadReport",
    "LogCursor",
    "LogPart",
    "LogRow",
    "Looks",
    "MANIFEST_FILE",
    "Match",
    "Matches",
    "Measured",
    "MeasuredSlice",
    "Measurement",
    "Measuring",
    "MemoryBudget",
    "NAME_BYTES_MAX",
    "Names",
    "NewApiKey",
    "NewCollection",
    "NewFace",
    "NoMemory",
    "Offline",
    "Once",
    "OperatorError",
    "OwnChecks",
    "PAGE_ITEMS_MAX",
    "Page",
    "Part",
    "Person",
    "PersonCurve",
    "PersonCurves",
    "PersonErasure",
    "PersonExport",
    "PersonId",
    "Pipeline",
    "Population",
    "Probe",
    "Profile",
    "ProfileChange",
    "Protector",
    "QUERY_FACES_MAX",
    "Quality",
    "QualityLevel",
    "Query",
    "Quotas",
    "RECALL_MIN",
    "RandomId",
    "RateReport",
    "Reads",
    "ReceiptReader",
    "Rejection",
    "RequestError",
    "Result",
    "Rotation",
    "RunningLogSize",
    "Scheme",
    "SchemeId",
    "SchemeParts",
    "Scope",
    "Scopes",
    "ScoreLimits",
    "Scoring",
    "ScoringReport",
    "Searching",
    "SeveralFaces",
    "StatedRates",
    "Step",
    "Stopped",
    "StoredFace",
    "TOP_K_MAX",
    "Template",
    "TemplateCurve",
    "Timestamp",
    "Token",
    "Usage",
    "Wanted",
    "Withheld",
    "bench",
    "day_of",
    "doors",
    "receipts",
    "recommended",
    "residue",
    "retention",
    "swap_warning",
    "wipe_stack",
];

/// Crates of the engine that only other crates of the engine may depend on, each with those of them that it may use.
const PARTS: &[(&str, &[&str])] = &[
    ("likeness-types", &[]),
    ("likeness-faces", &["likeness-types"]),
    ("likeness-search", &["likeness-types"]),
    ("likeness-store", &["likeness-types"]),
];

/// The tests of the search make templates with the protector of faces.
const DEV_ONLY: (&str, &str) = ("likeness-search", "likeness-faces");

/// The names that the `pub use` and `pub mod` lines of a source export.
fn exported(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or(line));
    let code = lines.collect::<Vec<_>>().join(" ");
    for statement in code.split(';') {
        if let Some((_, path)) = statement.split_once("pub use ") {
            leaves(path.trim(), "", &mut names);
        }
        let module = statement.split_once("pub mod ").map(|(_, rest)| rest);
        let name = module.and_then(|rest| rest.split([' ', '{']).next());
        names.extend(name.map(str::to_owned));
    }
    names.sort();
    names
}

/// The names at the ends of a path of `use`, with or without braces, after a module of this name.
fn leaves(path: &str, module: &str, names: &mut Vec<String>) {
    if let Some((before, list)) = path.split_once('{') {
        let list = list.rsplit_once('}').expect("a closing brace").0;
        assert!(
            !list.contains('{'),
            "a list within a list: write one `pub use` for each"
        );
        let module = before
            .trim_end_matches("::")
            .rsplit("::")
            .next()
            .unwrap_or_default();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            leaves(name, module, names);
        }
        return;
    }
    let last = path.rsplit("::").next().unwrap_or(path).trim();
    let name = last.split_once(" as ").map_or(last, |(_, name)| name);
    assert_ne!(name, "*", "the engine exports names one by one");
    names.push(if name == "self" {
        module.to_owned()
    } else {
        name.to_owned()
    });
}

#[test]
fn the_names_of_the_engine_are_those_of_this_list() {
    let source = fs::read_to_string(checkout().join("engine/src/lib.rs")).expect("the root of the engine");
    let exported = exported(&source);
    let found: BTreeSet<&str> = exported.iter().map(String::as_str).collect();
    let listed: BTreeSet<&str> = NAMES.iter().copied().collect();
    let new: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(
        new.is_empty(),
        "a new name of the engine's public API: add it to NAMES if a server needs it, or keep it inside: {new:?}"
    );
    assert!(
        gone.is_empty(),
        "no longer exported, so remove from NAMES: {gone:?}"
    );
    assert!(NAMES.is_sorted(), "NAMES is sorted");
}

#[test]
fn nothing_that_opens_templates_or_keys_is_exported() {
    let source = fs::read_to_string(checkout().join("engine/src/lib.rs")).expect("the root of the engine");
    let exported = exported(&source);
    for secret in [
        "Inside",
        "Comparing",
        "KeptTemplate",
        "LogKey",
        "Secret",
        "KeyRing",
        "RingKey",
        "RootSource",
    ] {
        assert!(
            !exported.iter().any(|name| name == secret),
            "{secret} stays inside the engine"
        );
    }
}

#[test]
fn names_are_read_from_lists_modules_and_renamed_uses() {
    let source = "mod a;\npub use a::{B, c::D, // no name\n self};\npub use e::F as G;\npub mod h { pub use i::J; }\nuse k::L;";
    assert_eq!(exported(source), ["B", "D", "G", "J", "a", "h"]);
}

/// The dependencies that a manifest names, and those for its tests.
struct Dependencies {
    name: String,
    normal: BTreeSet<String>,
    dev: BTreeSet<String>,
}

fn dependencies(manifest: &Path) -> Dependencies {
    let text = fs::read_to_string(manifest).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("TOML");
    let names = |table: &str| {
        let table = manifest.get(table).and_then(toml::Value::as_table);
        table
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let name = manifest["package"]["name"]
        .as_str()
        .expect("a package has a name");
    let normal: BTreeSet<_> = names("dependencies");
    Dependencies {
        name: name.to_owned(),
        normal: &normal | &names("build-dependencies"),
        dev: names("dev-dependencies"),
    }
}

fn members() -> Vec<Dependencies> {
    let root = fs::read_to_string(checkout().join("Cargo.toml")).expect("the workspace");
    let root: toml::Table = root.parse().expect("TOML");
    let members = root["workspace"]["members"]
        .as_array()
        .expect("a list of members");
    let members = members.iter().map(|member| member.as_str().expect("a path"));
    members
        .map(|member| dependencies(&checkout().join(member).join("Cargo.toml")))
        .collect()
}

fn parts_among(names: &BTreeSet<String>) -> BTreeSet<&str> {
    let parts = PARTS.iter().map(|(part, _)| *part);
    parts.filter(|part| names.contains(*part)).collect()
}

#[test]
fn no_crate_outside_the_engine_depends_on_a_part_of_it() {
    let members = members();
    assert!(members.len() > PARTS.len() + 1, "every member is read");
    for member in members {
        if member.name == "likeness-engine" || PARTS.iter().any(|(part, _)| *part == member.name) {
            continue;
        }
        let used = parts_among(&(&member.normal | &member.dev)).len();
        assert_eq!(
            used, 0,
            "{}: what it needs of a part the engine exports",
            member.name
        );
    }
}

#[test]
fn parts_of_the_engine_depend_on_types_and_types_on_none() {
    let members = members();
    for (part, allowed) in PARTS {
        let member = members.iter().find(|member| member.name == *part);
        let member = member.unwrap_or_else(|| panic!("{part} is a member of the workspace"));
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert_eq!(parts_among(&member.normal), allowed, "{part}");
        let dev = parts_among(&member.dev).into_iter();
        let more: Vec<_> = dev
            .filter(|name| !allowed.contains(name) && (*part, *name) != DEV_ONLY)
            .collect();
        assert!(more.is_empty(), "{part} depends on {more:?} for its tests");
        assert!(!member.normal.contains("likeness-engine") && !member.dev.contains("likeness-engine"));
    }
}
