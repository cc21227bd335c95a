//! Fetching against small archives and clients that the tests make; no network.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use tempfile::TempDir;

use super::*;

/// A package of two files as a gzipped tar, one of a single file as a wheel, and clients that hand them out.
struct Scene {
    directory: TempDir,
    manifest: String,
}

const MODEL: &[u8] = b"a model that the test made";
const PHOTO: &[u8] = b"a photograph that the test made";
const RUNTIME: &[u8] = b"a runtime that the test made";

impl Scene {
    fn new() -> Self {
        let model: &[(&str, &[u8])] = &[
            ("package/README.md", b"not wanted"),
            ("package/m.onnx", MODEL),
            ("package/p.jpg", PHOTO),
        ];
        Self::with(&tgz(model), &zip(&[("capi/lib.so.1", RUNTIME)]))
    }

    /// A scene whose registries hold these two archives, pinned as they are.
    fn with(tgz: &[u8], wheel: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let registry = directory.path().join("registry");
        fs::create_dir(&registry).expect("made");
        fs::write(registry.join("models-1.0.0.tgz"), tgz).expect("written");
        fs::write(registry.join("runtime-2.0-cp312-x86.whl"), wheel).expect("written");
        let pin = |bytes: &[u8]| {
            format!(
                "bytes = {}\nblake3 = '{}'\n",
                bytes.len(),
                blake3::hash(bytes).to_hex()
            )
        };
        let file = |path: &str, to: &str, bytes: &[u8]| {
            format!("[[package.file]]\npath = '{path}'\nto = '{to}'\n{}", pin(bytes))
        };
        let manifest = [
            "format = 1\n[[package]]\nclient = 'npm'\nname = 'models'\nversion = '1.0.0'\narchive = 'models-1.0.0.tgz'\nlicence = 'MIT'\n",
            &pin(tgz),
            &file("package/m.onnx", "models/m.onnx", MODEL),
            &file("package/p.jpg", "photographs/p.jpg", PHOTO),
            "[[package]]\nclient = 'pip-wheel'\nname = 'runtime'\nversion = '2.0'\narchive = 'runtime-2.0-cp312-x86.whl'\nlicence = 'MIT'\n",
            "python = '3.12'\nplatform = 'linux'\n",
            &pin(wheel),
            &file("capi/lib.so.1", "runtime/lib.so", RUNTIME),
        ];
        Self {
            directory,
            manifest: manifest.concat(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn assets(&self) -> PathBuf {
        self.path("assets")
    }

    fn manifest(&self) -> Manifest {
        Manifest::parse(&self.manifest).expect("a valid manifest")
    }

    /// A client that notes its arguments and then runs `does`, with `$registry` and, for pip, `$dest` set.
    fn client(&self, name: &str, does: &str) -> Vec<std::ffi::OsString> {
        let script = self.path(&format!("{name}.sh"));
        let text = format!(
            "registry='{}'\necho {name} \"$@\" >> '{}'\ndest=.\nwhile [ $# -gt 0 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n{does}\n",
            self.path("registry").display(),
            self.path("calls").display(),
        );
        fs::write(&script, text).expect("written");
        // Run by the shell: executing a file just written fails while another thread forks.
        vec!["sh".into(), script.into()]
    }

    fn clients(&self) -> Clients {
        Clients {
            npm: self.client("npm", "cp $registry/models-1.0.0.tgz ."),
            pip: self.client("pip", "cp $registry/runtime-2.0-cp312-x86.whl \"$dest\""),
        }
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    fn fetch_with(&self, clients: Clients) -> Result<Report, AssetsError> {
        fetch(
            &self.manifest(),
            &Source::Registries(clients),
            &self.assets(),
            &mut |_| {},
        )
    }

    /// Fetches with one client doing something else.
    fn fetch_where(&self, name: &str, does: &str) -> Result<Report, AssetsError> {
        let mut clients = self.clients();
        let client = self.client(name, does);
        match name {
            "npm" => clients.npm = client,
            _ => clients.pip = client,
        }
        self.fetch_with(clients)
    }

    fn fetch(&self) -> Result<Report, AssetsError> {
        self.fetch_with(self.clients())
    }

    fn fetch_from(&self, directory: &Path) -> Result<Report, AssetsError> {
        fetch(
            &self.manifest(),
            &Source::Directory(directory.to_owned()),
            &self.assets(),
            &mut |_| {},
        )
    }

    /// Everything under the assets directory but the lock.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        walk(&self.assets(), &self.assets(), &mut files);
        files.sort();
        files
    }
}

fn walk(root: &Path, directory: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry
            .path()
            .strip_prefix(root)
            .expect("below the root")
            .display()
            .to_string();
        if entry.path().is_dir() {
            walk(root, &entry.path(), files);
        } else if name != ".lock" {
            files.push(name);
        }
    }
}

const ALL: [&str; 3] = ["models/m.onnx", "photographs/p.jpg", "runtime/lib.so"];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

/// A tar member by hand, so that the name may be one that the tar crate would refuse to write.
fn tar_member(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    let padding = vec![0; bytes.len().next_multiple_of(512) - bytes.len()];
    [header.as_bytes().as_slice(), bytes, &padding].concat()
}

fn tgz(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar: Vec<u8> = members
        .iter()
        .flat_map(|(name, bytes)| tar_member(name, b'0', bytes))
        .collect();
    tar.extend([0; 1024]);
    gzip(&tar)
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer
            .start_file(*name, ::zip::write::SimpleFileOptions::default())
            .expect("a new file");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

#[test]
fn files_come_from_both_kinds_of_archive_and_nothing_else_stays() {
    let scene = Scene::new();
    assert_eq!(scene.fetch().expect("fetched"), Report { files: 3, placed: 3 });
    assert_eq!(scene.files(), ALL);
    assert_eq!(
        fs::read(scene.assets().join("models/m.onnx")).expect("read"),
        MODEL
    );
    assert_eq!(
        fs::read(scene.assets().join("runtime/lib.so")).expect("read"),
        RUNTIME
    );
}

#[test]
fn clients_are_told_name_version_python_and_platform_and_no_registry() {
    let scene = Scene::new();
    scene.fetch().expect("fetched");
    let calls = scene.calls();
    assert!(
        calls.contains("npm pack --ignore-scripts --loglevel=error models@1.0.0"),
        "{calls}"
    );
    for words in [
        "runtime==2.0",
        "--only-binary=:all:",
        "--python-version 3.12",
        "--platform linux",
        "--no-deps",
    ] {
        assert!(calls.contains(words), "{words}: {calls}");
    }
    assert!(
        !calls.contains("//") && !calls.contains("index") && !calls.contains("registry"),
        "{calls}"
    );
}

#[test]
fn a_second_run_does_nothing_and_starts_no_client() {
    let scene = Scene::new();
    scene.fetch().expect("fetched");
    let calls = scene.calls();
    assert_eq!(scene.fetch().expect("fetched"), Report { files: 3, placed: 0 });
    assert_eq!(scene.calls(), calls);
}

#[test]
fn a_changed_file_is_fetched_again_and_only_its_package() {
    let scene = Scene::new();
    scene.fetch().expect("fetched");
    fs::write(scene.assets().join("runtime/lib.so"), "changed").expect("written");
    assert_eq!(scene.fetch().expect("fetched"), Report { files: 3, placed: 1 });
    assert_eq!(
        fs::read(scene.assets().join("runtime/lib.so")).expect("read"),
        RUNTIME
    );
    assert_eq!(scene.calls().matches("npm ").count(), 1);
    assert_eq!(scene.calls().matches("pip ").count(), 2);
}

#[test]
fn another_archive_than_pinned_is_refused_by_name_version_and_both_digests() {
    let scene = Scene::new();
    let pinned = fs::read(scene.path("registry/models-1.0.0.tgz")).expect("read");
    let other = tgz(&[("package/m.onnx", b"tampered"), ("package/p.jpg", PHOTO)]);
    fs::write(scene.path("registry/models-1.0.0.tgz"), &other).expect("written");
    let message = scene.fetch().unwrap_err().to_string();
    for part in ["models 1.0.0", "by npm", "nothing of it was kept"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    for archive in [&pinned, &other] {
        let pin = format!(
            "{} bytes, BLAKE3 {}",
            archive.len(),
            blake3::hash(archive).to_hex()
        );
        assert!(message.contains(&pin), "{pin}: {message}");
    }
    assert!(scene.files().is_empty(), "{:?}", scene.files());
}

#[test]
fn a_truncated_archive_is_refused_and_the_next_run_mends_it() {
    let scene = Scene::new();
    let error = scene
        .fetch_where(
            "pip",
            "head -c 50 $registry/runtime-2.0-cp312-x86.whl > \"$dest/runtime-2.0-cp312-x86.whl\"",
        )
        .unwrap_err()
        .to_string();
    assert!(error.contains("received 50 bytes"), "{error}");
    assert_eq!(scene.files(), ALL[..2]);
    assert_eq!(scene.fetch().expect("fetched"), Report { files: 3, placed: 1 });
    assert_eq!(
        scene.calls().matches("npm ").count(),
        1,
        "what was placed is not fetched again"
    );
}

#[test]
fn a_member_of_another_content_or_size_than_pinned_is_refused() {
    for content in [
        b"another model of equal size".as_slice(),
        b"short",
        &[b'x'; 100_000],
    ] {
        let archive = tgz(&[("package/m.onnx", content), ("package/p.jpg", PHOTO)]);
        let scene = Scene::with(&archive, &zip(&[("capi/lib.so.1", RUNTIME)]));
        let error = scene.fetch().unwrap_err();
        assert!(matches!(error, AssetsError::Mismatch { .. }), "{error}");
        assert!(
            error.to_string().contains("package/m.onnx in models-1.0.0.tgz"),
            "{error}"
        );
        assert!(!scene.assets().join("models/m.onnx").exists());
    }
}

#[test]
fn an_archive_places_nothing_but_the_named_members() {
    let hostile = [
        tar_member("../../escape", b'0', b"x"),
        tar_member("/tmp/likeness-escape", b'0', b"x"),
        tar_member("../models/m.onnx", b'0', b"x"),
        tar_member("package/m.onnx", b'0', MODEL),
        tar_member("package/p.jpg", b'0', PHOTO),
        vec![0; 1024],
    ];
    let wheel = zip(&[("../../escape", b"x"), ("capi/lib.so.1", RUNTIME)]);
    let scene = Scene::with(&gzip(&hostile.concat()), &wheel);
    scene.fetch().expect("fetched");
    assert_eq!(scene.files(), ALL);
    assert!(!scene.path("escape").exists() && !scene.path("../escape").exists());
    assert!(!Path::new("/tmp/likeness-escape").exists());
}

#[test]
fn a_link_in_the_place_of_a_member_is_refused() {
    let link = [tar_member("package/m.onnx", b'2', b""), vec![0; 1024]].concat();
    let scene = Scene::with(&gzip(&link), &zip(&[("capi/lib.so.1", RUNTIME)]));
    let error = scene.fetch().unwrap_err().to_string();
    assert!(error.contains("expected a plain file"), "{error}");
    let wheel = {
        let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        writer
            .add_symlink(
                "capi/lib.so.1",
                "/etc/passwd",
                ::zip::write::SimpleFileOptions::default(),
            )
            .expect("a new file");
        writer.finish().expect("finished").into_inner()
    };
    let scene = Scene::with(
        &tgz(&[("package/m.onnx", MODEL), ("package/p.jpg", PHOTO)]),
        &wheel,
    );
    let error = scene.fetch().unwrap_err().to_string();
    assert!(
        error.contains("capi/lib.so.1") && error.contains("a link"),
        "{error}"
    );
}

#[test]
fn a_member_that_is_not_there_is_named() {
    let scene = Scene::with(&tgz(&[("package/p.jpg", PHOTO)]), &zip(&[]));
    let error = scene.fetch().unwrap_err().to_string();
    assert!(
        error.contains("package/m.onnx: expected a member of this name"),
        "{error}"
    );
}

#[test]
fn a_run_killed_while_fetching_goes_on_with_what_it_had() {
    let scene = Scene::new();
    let whole = fs::read(scene.path("registry/models-1.0.0.tgz")).expect("read");
    // What a run leaves that was killed between the first package's archive and the second's.
    fs::create_dir_all(scene.assets().join(".archives")).expect("made");
    fs::create_dir_all(scene.assets().join(".staging-old/fetched")).expect("made");
    fs::write(scene.assets().join(".archives/models-1.0.0.tgz"), whole).expect("written");
    fs::write(scene.assets().join(".staging-old/fetched/half"), "half").expect("written");
    assert_eq!(scene.fetch().expect("fetched"), Report { files: 3, placed: 3 });
    assert_eq!(scene.files(), ALL);
    assert!(!scene.calls().contains("npm"), "{}", scene.calls());
}

#[test]
fn a_damaged_archive_of_an_earlier_run_is_fetched_again() {
    let scene = Scene::new();
    fs::create_dir_all(scene.assets().join(".archives")).expect("made");
    fs::write(scene.assets().join(".archives/models-1.0.0.tgz"), "half").expect("written");
    scene.fetch().expect("fetched");
    assert_eq!(scene.files(), ALL);
}

#[test]
fn a_client_that_fails_is_quoted() {
    let scene = Scene::new();
    let error = scene
        .fetch_where("npm", "echo 'no route to anything' >&2; exit 7")
        .unwrap_err()
        .to_string();
    for part in ["models 1.0.0", "no route to anything", "7"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(scene.files().is_empty());
}

#[test]
fn a_client_that_leaves_another_file_is_told_so() {
    let scene = Scene::new();
    let error = scene
        .fetch_where("pip", "touch \"$dest/runtime-2.1-cp314-x86.whl\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected runtime-2.0-cp312-x86.whl, it left runtime-2.1-cp314-x86.whl"),
        "{error}"
    );
}

#[test]
fn a_client_that_fetches_without_end_is_stopped() {
    let scene = Scene::new();
    // A sparse file: it says 1 GiB and takes no room. `exec` so that nothing is left running.
    let error = scene
        .fetch_where("npm", "truncate -s 1G endless; exec sleep 60")
        .unwrap_err()
        .to_string();
    assert!(error.contains("were expected"), "{error}");
    assert!(scene.files().is_empty());
}

#[test]
fn a_missing_client_is_named_with_the_two_ways_out() {
    let scene = Scene::new();
    let npm = vec!["likeness-has-no-such-client".into()];
    let error = scene
        .fetch_with(Clients {
            npm,
            ..scene.clients()
        })
        .unwrap_err()
        .to_string();
    for part in [
        "likeness-has-no-such-client",
        "models 1.0.0",
        "make setup",
        "--from DIR",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_directory_of_archives_does_instead_of_registries() {
    let scene = Scene::new();
    assert_eq!(
        scene.fetch_from(&scene.path("registry")).expect("copied"),
        Report { files: 3, placed: 3 }
    );
    assert_eq!(scene.files(), ALL);
    assert_eq!(scene.calls(), "", "no client runs");
    assert!(
        scene.path("registry/models-1.0.0.tgz").exists(),
        "the operator's files stay"
    );
}

#[test]
fn a_directory_of_files_does_by_any_of_their_names() {
    let scene = Scene::new();
    let given = scene.path("given");
    fs::create_dir_all(given.join("models")).expect("made");
    fs::write(given.join("models/m.onnx"), MODEL).expect("written");
    fs::write(given.join("p.jpg"), PHOTO).expect("written");
    fs::write(given.join("lib.so.1"), RUNTIME).expect("written");
    assert_eq!(
        scene.fetch_from(&given).expect("copied"),
        Report { files: 3, placed: 3 }
    );
    assert_eq!(scene.files(), ALL);
}

#[test]
fn a_directory_is_trusted_no_more_than_a_registry() {
    let scene = Scene::new();
    let given = scene.path("given");
    fs::create_dir(&given).expect("made");
    fs::write(given.join("m.onnx"), "another model").expect("written");
    let error = scene.fetch_from(&given).unwrap_err();
    assert!(matches!(error, AssetsError::Mismatch { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&given.join("m.onnx").display().to_string()),
        "{error}"
    );
    fs::write(given.join("models-1.0.0.tgz"), "another archive").expect("written");
    let error = scene.fetch_from(&given).unwrap_err();
    assert!(matches!(error, AssetsError::Mismatch { .. }), "{error}");
    assert!(scene.files().is_empty());
}

#[test]
fn a_directory_that_lacks_a_file_is_told_every_name_that_would_do() {
    let scene = Scene::new();
    let given = scene.path("given");
    fs::create_dir(&given).expect("made");
    let error = scene.fetch_from(&given).unwrap_err().to_string();
    assert!(
        error.contains("models-1.0.0.tgz") && error.contains("models/m.onnx, m.onnx"),
        "{error}"
    );
}

#[test]
fn a_run_waits_for_another_and_does_not_fetch_what_that_one_placed() {
    let scene = Scene::new();
    let assets = scene.assets();
    let held = Place::hold(&assets, || panic!("nobody else is there")).expect("held");
    let (says, hears) = mpsc::channel();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let source = Source::Registries(scene.clients());
            fetch(&scene.manifest(), &source, &assets, &mut |event| {
                if matches!(event, Event::Waiting) {
                    says.send(()).expect("heard");
                }
            })
        });
        hears.recv().expect("said");
        for (name, content) in ALL.iter().zip([MODEL, PHOTO, RUNTIME]) {
            fs::create_dir_all(assets.join(name).parent().expect("below the assets")).expect("made");
            fs::write(assets.join(name), content).expect("written");
        }
        drop(held);
        assert_eq!(
            run.join().expect("no panic").expect("fetched"),
            Report { files: 3, placed: 0 }
        );
    });
    assert_eq!(scene.calls(), "");
}

#[test]
fn verifying_tells_missing_from_changed_and_touches_nothing() {
    let scene = Scene::new();
    scene.fetch().expect("fetched");
    fs::write(scene.assets().join("models/m.onnx"), "changed").expect("written");
    fs::remove_file(scene.assets().join("runtime/lib.so")).expect("removed");
    let manifest = scene.manifest();
    let files = verify(&manifest, &machine(), &scene.assets()).expect("verified");
    let states: Vec<_> = files
        .iter()
        .map(|file| (file.as_pinned(), file.found.map(|pin| pin.bytes)))
        .collect();
    assert_eq!(
        states,
        [(false, Some(7)), (true, Some(PHOTO.len() as u64)), (false, None)]
    );
    assert_eq!(scene.files(), ALL[..2]);
}
