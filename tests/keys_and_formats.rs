//! Keys and data that do not belong together: the server says what it expected and what it found, and
//! does not start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::child::{Home, Program, likeness};
use crate::support::pictures::tiny;

/// The exit code for keys, models or data that do not fit.
const CONFIGURATION: i32 = 78;

fn assert_refused(home: &Home, expected: &str, found: &str) {
    let program = home.refused_start().expect(CONFIGURATION);
    let said = &program.stderr;
    assert!(
        said.contains(&format!("expected {expected}")),
        "{expected}: {said}"
    );
    assert!(said.contains("found ") && said.contains(found), "{found}: {said}");
    assert_eq!(program.stdout, "", "it never listened");
}

/// A home whose data hold one person.
async fn lived_in() -> Home {
    let home = Home::new();
    let server = home.serve();
    let client = server.client().await;
    client.create("staff").await;
    client
        .enroll("staff", "barack", &[&tiny()])
        .await
        .expect("enrolled");
    drop(client);
    server.stop();
    home
}

/// The person is still there, once everything is as it was.
async fn assert_unharmed(home: &Home) {
    let server = home.serve();
    let client = server.client().await;
    assert_eq!(client.found("staff", &tiny()).await, ["barack"]);
    drop(client);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_world_readable_short_or_wrong_root_key_is_refused() {
    let home = lived_in().await;
    let root = home.keys().join("root.key");
    let right = fs::read(&root).unwrap();
    let private = || fs::set_permissions(&root, fs::Permissions::from_mode(0o600)).unwrap();

    fs::remove_file(&root).unwrap();
    assert_refused(&home, "a root key file", "likeness key init");
    assert!(!root.exists(), "none is ever made beside data");

    fs::write(&root, &right).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
        assert_refused(
            &home,
            "a file that only its owner may read",
            &format!("{mode:04o}"),
        );
    }
    private();
    fs::write(&root, &right[..40]).unwrap();
    assert_refused(&home, "the line `likeness-root-key-1:`", "40 bytes");
    fs::write(&root, b"").unwrap();
    assert_refused(&home, "the line `likeness-root-key-1:`", "0 bytes");

    let other = Home::new();
    fs::copy(other.keys().join("root.key"), &root).unwrap();
    assert_refused(
        &home,
        "the root key this keyring was sealed with",
        "another root key",
    );

    fs::write(&root, &right).unwrap();
    private();
    let mode = fs::metadata(&root).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_unharmed(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_damaged_keyring_is_refused() {
    let home = lived_in().await;
    let path = home.keys().join("keyring");
    let right = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let program = home.refused_start().expect(CONFIGURATION);
    assert!(program.stderr.contains("keyring"), "{program:?}");
    fs::write(&path, &right[..30]).unwrap();
    assert_refused(&home, "a keyring of format 1", "a short file");
    let mut damaged = right.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_refused(
        &home,
        "the root key this keyring was sealed with",
        "damaged keyring",
    );
    fs::write(&path, &right).unwrap();
    assert_unharmed(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_key_store_of_another_deployment_is_refused() {
    let home = lived_in().await;
    let other = Home::new();
    let kept = home.path().join("kept");
    fs::rename(home.keys(), &kept).unwrap();
    fs::rename(other.keys(), home.keys()).unwrap();
    assert_refused(&home, "deployment ", "deployment ");
    fs::remove_dir_all(home.keys()).unwrap();
    fs::rename(&kept, home.keys()).unwrap();
    assert_unharmed(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_format_are_refused_and_left_as_they_are() {
    let home = lived_in().await;
    let path = home.data().join("FORMAT");
    let right = fs::read_to_string(&path).unwrap();
    let newer = right.replace("format 3", "format 4");
    assert_ne!(newer, right);
    fs::write(&path, &newer).unwrap();
    assert_refused(&home, "format 3", "format 4, which needs a later version");
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    fs::write(&path, format!("{newer}program 0.4.0\n")).unwrap();
    assert_refused(&home, "format 3", "format 4, which needs likeness 0.4.0 or later");
    fs::write(&path, right.replace("format 3", "format 2")).unwrap();
    assert_refused(&home, "format 3", "format 2, which is too old");
    fs::write(&path, b"\xff\xfe something else").unwrap();
    assert_refused(&home, "a format file of format 3", "another form");
    fs::write(&path, &right).unwrap();

    let slots = home.data().join("slots");
    let right = fs::read(&slots).unwrap();
    fs::write(&slots, b"").unwrap();
    assert_refused(&home, "the slot file that belongs to the records", "none");
    let mut newer = right.clone();
    newer[14] = 2;
    fs::write(&slots, &newer).unwrap();
    assert_refused(&home, "a slot file", "damaged header");
    fs::write(&slots, &right).unwrap();

    let records = home.data().join("records");
    let kept = home.path().join("kept");
    fs::rename(&records, &kept).unwrap();
    assert_refused(&home, "the records that belong to the slot file", "none");
    let _ = fs::remove_dir_all(&records);
    fs::rename(&kept, &records).unwrap();
    assert_unharmed(&home).await;
}

#[test]
fn a_directory_of_something_else_is_no_data_directory() {
    let home = Home::bare();
    fs::create_dir_all(home.data()).unwrap();
    fs::write(home.data().join("thesis.txt"), "mine").unwrap();
    assert_refused(&home, "a data directory, or an empty one", "thesis.txt");
    assert_eq!(fs::read_dir(home.data()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_never_made_beside_data_or_over_keys() {
    let home = lived_in().await;
    let init = |keys: &std::path::Path| {
        let mut command = likeness();
        command
            .args(["key", "init", "--keys"])
            .arg(keys)
            .arg("--data")
            .arg(home.data());
        Program::finish(&mut command, &[]).expect(CONFIGURATION)
    };
    let elsewhere = home.path().join("elsewhere");
    let program = init(&elsewhere);
    assert!(
        program
            .stderr
            .contains("expected an empty or absent data directory"),
        "{program:?}"
    );
    assert!(!elsewhere.join("root.key").exists());
    assert_unharmed(&home).await;

    let root = home.keys().join("root.key");
    let before = fs::read(&root).unwrap();
    let kept = home.path().join("kept");
    fs::rename(home.data(), &kept).unwrap();
    let program = init(&home.keys());
    assert!(
        program
            .stderr
            .contains("expected a directory without a key store"),
        "{program:?}"
    );
    assert_eq!(fs::read(&root).unwrap(), before);
    fs::rename(&kept, home.data()).unwrap();
    assert_unharmed(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let home = lived_in().await;
    let first = home.serve();
    assert_refused(&home, "to be alone with it", "a process that uses");
    let client = first.client().await;
    client
        .enroll("staff", "second", &[&tiny()])
        .await
        .expect("the first goes on");
    assert_eq!(client.people("staff").await, ["barack", "second"]);
    drop(client);
    first.stop();
    assert_unharmed_by_two(&home).await;
}

async fn assert_unharmed_by_two(home: &Home) {
    let server = home.serve();
    assert_eq!(server.client().await.people("staff").await, ["barack", "second"]);
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_the_command_lines_mistake() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = likeness();
    command.args([
        "serve",
        "--listen",
        &taken.local_addr().unwrap().to_string(),
        "--keys",
    ]);
    command.arg(home.keys()).arg("--data").arg(home.data());
    let program = Program::finish(&mut command, &[]).expect(64);
    assert!(program.stderr.contains("in use"), "{program:?}");
}

#[test]
fn a_key_store_is_private_from_the_start() {
    let home = Home::new();
    for file in ["root.key", "keyring"] {
        let mode = fs::metadata(home.keys().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mode = fs::metadata(home.keys()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
