//! The commands that ask no server: keys, models, measuring, and the guided tour.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::child::{Program, likeness};
use crate::support::pictures::{plain, png, sample};
use crate::support::{asset, directory};

#[test]
fn a_key_store_is_made_once() {
    let home = directory();
    let (keys, data) = (home.path().join("keys"), home.path().join("data"));
    let init = |json: &[&str]| {
        let mut command = likeness();
        command
            .args(json)
            .args(["key", "init", "--keys"])
            .arg(&keys)
            .arg("--data")
            .arg(&data);
        Program::finish(&mut command, &[])
    };
    let made = init(&["--json"]).expect(0).json();
    assert_eq!(made["keys"].as_str().map(Path::new), Some(keys.as_path()));
    let before = fs::read(keys.join("root.key")).unwrap();
    assert!(init(&[]).expect(78).stderr.contains("root.key"));
    assert_eq!(fs::read(keys.join("root.key")).unwrap(), before);
}

#[test]
fn models_are_listed_verified_and_taken_from_a_directory() {
    let assets = asset("");
    for command in ["list", "verify"] {
        assert!(!Program::run(&["models", command]).expect(0).stdout.is_empty());
        Program::run(&["--json", "models", command]).expect(0).json();
    }
    let there = Program::run(&["models", "fetch"]).expect(0).stdout;
    assert!(there.contains("are there and as pinned"), "{there}");

    let copy = directory();
    let fetch = || {
        let mut command = likeness();
        command
            .args(["models", "fetch", "--from"])
            .arg(&assets)
            .arg("--to")
            .arg(copy.path());
        Program::finish(&mut command, &[])
    };
    assert!(fetch().expect(0).stdout.contains("files fetched"));
    let model = copy.path().join("models/fr_detect.onnx");
    fs::write(&model, "damaged").unwrap();
    let mut verify = likeness();
    verify.args(["models", "verify", "--assets"]).arg(copy.path());
    assert!(
        Program::finish(&mut verify, &[])
            .expect(78)
            .stdout
            .contains("changed")
    );
    assert!(fetch().expect(0).stdout.contains("1 files fetched"));
    Program::finish(&mut verify, &[]).expect(0);
}

/// A labelled folder: one person with several photographs, two with one.
fn labelled() -> (tempfile::TempDir, PathBuf) {
    let home = directory();
    let faces = home.path().join("faces");
    for (person, photos) in [
        (
            "barack",
            &["obama.jpg", "obama2.jpg", "obama3.jpg", "obama_partial_face.jpg"][..],
        ),
        ("eileen", &["astronaut.png"]),
        ("joe", &["biden.jpg"]),
    ] {
        fs::create_dir_all(faces.join(person)).unwrap();
        for name in photos {
            fs::write(faces.join(person).join(name), sample(name)).unwrap();
        }
    }
    fs::write(faces.join("joe/empty.png"), png(&plain(320, 240))).unwrap();
    (home, faces)
}

#[test]
fn eval_measures_a_labelled_folder_and_draws_its_curve() {
    let (home, faces) = labelled();
    let plot = home.path().join("det");
    let mut command = likeness();
    command
        .args(["--json", "eval", "--keys", "2", "--plot"])
        .arg(&plot)
        .arg(&faces);
    let json = Program::finish(&mut command, &[]).expect(0).json();
    assert_eq!(json["photographs"], 7, "{json}");
    assert_eq!(
        (&json["people"], &json["not_detected"]),
        (&3.into(), &1.into()),
        "{json}"
    );
    assert!(
        json["accuracy"]
            .as_f64()
            .is_some_and(|a| (0.99..=1.0).contains(&a)),
        "{json}"
    );
    for curve in ["cosine", "template"] {
        for rate in ["1e-2", "1e-3", "1e-4"] {
            let tar = json[curve]["tar"][rate].as_f64().expect("a fraction");
            assert!((0.99..=1.0).contains(&tar), "{curve} {rate}: {tar}");
        }
    }
    assert_eq!(json["quality"]["none"]["rejected"], 0, "{json}");
    assert_eq!(json["quality"]["none"]["cosine_tar"], json["cosine"]["tar"]);
    assert_eq!(json["quality"]["none"]["template_tar"], json["template"]["tar"]);
    let share = |level: &str| json["quality"][level]["share_rejected"].as_f64().expect(level);
    assert!(
        share("low") <= share("strict") && share("strict") <= 1.0,
        "{json}"
    );
    let svg = fs::read_to_string(plot.with_extension("svg")).unwrap();
    assert!(svg.contains("<svg") && svg.contains("</svg>"));
    let drawn = image::load_from_memory(&fs::read(plot.with_extension("png")).unwrap()).expect("a PNG");
    assert!(drawn.width() >= 300 && drawn.height() >= 300);

    let words = Program::run(&[
        "eval",
        &faces.display().to_string(),
        "--keys",
        "1",
        "--bits",
        "256",
    ]);
    let words = words.expect(0).stdout;
    assert!(
        words.contains("7 photographs of 3 people, 1 without a face"),
        "{words}"
    );
    assert!(words.contains("256 bits"), "{words}");
    assert!(words.contains("\n  strict "), "{words}");
}

#[test]
fn eval_refuses_what_it_cannot_measure() {
    let home = directory();
    let nothing = home.path().join("nothing").display().to_string();
    assert_ne!(Program::run(&["eval", &nothing]).code, 0);
    let (_home, faces) = labelled();
    Program::run(&["eval", &faces.display().to_string(), "--bits", "300"]).expect(65);
}

#[test]
fn the_demo_walks_the_whole_way_and_ends_by_itself() {
    let program = Program::run(&["demo"]).expect(0);
    for told in [
        "Enrolling",
        "Finding",
        "Verifying",
        "Erasing",
        " ms ",
        "The server has stopped",
    ] {
        assert!(program.stdout.contains(told), "{told}: {program:?}");
    }
}
