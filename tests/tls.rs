//! TLS: encryption, certificates of the server and of clients.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::child::{Child, Home, Program, api_key};
use crate::support::{PATIENCE, directory};

/// The server cannot be reached.
const UNREACHABLE: i32 = 69;

/// Certificates of an authority of their own.
fn certificates(directory: &Path) {
    Program::run(&["tls", "dev-cert", &directory.display().to_string()]).expect(0);
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// A home whose server encrypts with these certificates.
fn encrypted(directory: &Path, more: &[&str]) -> Home {
    let (cert, key) = (path(directory, "server.pem"), path(directory, "server.key"));
    Home::new().with(&[&["--tls-cert", &cert, "--tls-key", &key], more].concat())
}

/// Asks a server whose address is told, with these options.
fn ask(server: &Child, url: &str, options: &[&str]) -> Program {
    let mut command = server.asking();
    command.env("LIKENESS_SERVER", url);
    Program::finish(command.args(["collection", "list"]).args(options), &[])
}

#[test]
fn whoever_trusts_the_authority_is_answered_and_nobody_is_in_the_clear() {
    let (own, other) = (directory(), directory());
    certificates(own.path());
    certificates(other.path());
    let home = encrypted(own.path(), &[]);
    let server = home.serve();
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let (ca, other_ca) = (path(own.path(), "ca.pem"), path(other.path(), "ca.pem"));
    ask(&server, &server.url, &["--tls-ca", &ca]).expect(0);
    let by_name = server.url.replace("127.0.0.1", "localhost");
    ask(&server, &by_name, &["--tls-ca", &ca]).expect(0);

    ask(&server, &server.url, &["--tls-ca", &other_ca]).expect(UNREACHABLE);
    let clear = server.url.replace("https", "http");
    ask(&server, &clear, &[]).expect(UNREACHABLE);
    server.stop();
}

#[test]
fn with_mutual_tls_a_client_without_a_certificate_of_the_authority_is_refused() {
    let (own, other) = (directory(), directory());
    certificates(own.path());
    certificates(other.path());
    let ca = path(own.path(), "ca.pem");
    let home = encrypted(own.path(), &["--tls-client-ca", &ca]);
    let server = home.serve();
    let with = |of: &Path| {
        let (cert, key) = (path(of, "client.pem"), path(of, "client.key"));
        let options = [
            "--tls-ca",
            &ca,
            "--tls-client-cert",
            &cert,
            "--tls-client-key",
            &key,
        ];
        ask(&server, &server.url, &options)
    };
    with(own.path()).expect(0);
    with(other.path()).expect(UNREACHABLE);
    ask(&server, &server.url, &["--tls-ca", &ca]).expect(UNREACHABLE);
    // A certificate is no API key.
    let (cert, key) = (path(own.path(), "client.pem"), path(own.path(), "client.key"));
    let arguments = [
        "--server",
        &server.url,
        "--tls-ca",
        &ca,
        "--tls-client-cert",
        &cert,
        "--tls-client-key",
        &key,
        "collection",
        "list",
    ];
    let refused = Program::run(&arguments).expect(77);
    assert!(refused.stderr.contains("KEY_REQUIRED"), "{refused:?}");
    server.stop();
}

/// Asks until the answer is this one.
fn until(server: &Child, ca: &str, code: i32) {
    let end = Instant::now() + PATIENCE;
    while ask(server, &server.url, &["--tls-ca", ca]).code != code {
        assert!(Instant::now() < end, "never {code}");
    }
}

/// Certificates that a server has, and others, of another authority, for later.
struct Renewal {
    served: TempDir,
    next: TempDir,
    /// The files of both authorities.
    old_ca: String,
    new_ca: String,
}

impl Renewal {
    fn new() -> Self {
        let (served, next) = (directory(), directory());
        certificates(served.path());
        certificates(next.path());
        Self {
            old_ca: path(served.path(), "ca.pem"),
            new_ca: path(next.path(), "ca.pem"),
            served,
            next,
        }
    }

    /// As certificate tools do: whole, or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) {
        let beside = self.served.path().join("beside");
        fs::write(&beside, bytes).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&beside, self.served.path().join(name)).unwrap();
    }

    fn renew(&self) {
        for name in ["server.key", "server.pem"] {
            self.replace(name, &fs::read(self.next.path().join(name)).unwrap());
        }
    }
}

#[test]
fn a_new_certificate_serves_without_a_restart_and_a_bad_one_never_does() {
    let renewal = Renewal::new();
    let (old_ca, new_ca) = (&renewal.old_ca, &renewal.new_ca);
    let home = encrypted(renewal.served.path(), &[]);
    let server = home.serve();
    ask(&server, &server.url, &["--tls-ca", old_ca]).expect(0);

    renewal.renew();
    server.signal(Signal::HUP);
    until(&server, new_ca, 0);
    ask(&server, &server.url, &["--tls-ca", old_ca]).expect(UNREACHABLE);

    renewal.replace("server.pem", b"no certificate");
    server.signal(Signal::HUP);
    // The signal takes a moment; whatever it does, the certificate stays.
    for _ in 0..20 {
        ask(&server, &server.url, &["--tls-ca", new_ca]).expect(0);
    }
    let log = server.stop();
    assert!(log.contains("was read again"), "{log}");
    assert!(log.contains("cannot be used; the old one serves on"), "{log}");
}

#[test]
fn files_that_change_are_read_again_without_being_asked_and_a_bad_one_is_said_so() {
    let renewal = Renewal::new();
    let (old_ca, new_ca) = (&renewal.old_ca, &renewal.new_ca);
    let home = encrypted(renewal.served.path(), &[]);
    let server = home.serve();
    let old_serves_for = |seconds| {
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            ask(&server, &server.url, &["--tls-ca", old_ca]).expect(0);
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    // It reads its files after it says where it is.
    ask(&server, &server.url, &["--tls-ca", old_ca]).expect(0);
    renewal.replace("server.pem", b"no certificate");
    // Longer than from one look at the files to the next, and to the one after it.
    old_serves_for(12);
    let key = renewal.served.path().join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    old_serves_for(22);
    renewal.renew();
    until(&server, new_ca, 0);
    ask(&server, &server.url, &["--tls-ca", old_ca]).expect(UNREACHABLE);
    let log = server.stop();
    let said = |what| log.find(what).unwrap_or_else(|| panic!("{what} is not in {log}"));
    assert!(
        said("cannot be used; the old one serves on") < said("was read again"),
        "{log}"
    );
    assert!(log.contains("expected certificates in PEM"), "{log}");
    assert_eq!(
        log.matches("cannot be read; the old one serves on").count(),
        1,
        "{log}"
    );
    assert!(log.contains("not everybody may read"), "{log}");
}

#[test]
fn a_key_is_not_sent_to_another_machine_in_the_clear_unless_somebody_says_so() {
    let home = Home::new();
    let ask = |server: &str, options: &[&str]| {
        let mut command = crate::support::child::likeness();
        command.env("LIKENESS_API_KEY", api_key(&home.keys(), &home.data()));
        let list = ["--server", server, "collection", "list"];
        Program::finish(command.args(list).args(options), &[])
    };
    // Of addresses that belong to nobody.
    let said = ask("192.0.2.1:50051", &[]).expect(64).stderr;
    assert!(
        said.contains("expected https, or a loopback address")
            && said.contains("--plaintext-key-off-loopback"),
        "{said}"
    );
    ask("192.0.2.1:50051", &["--plaintext-key-off-loopback"]).expect(UNREACHABLE);
    let nothing_to_hide = ["--server", "192.0.2.1:50051", "collection", "list"];
    Program::run(&nothing_to_hide).expect(UNREACHABLE);
}

#[test]
fn a_start_refuses_a_certificate_that_cannot_be_used() {
    let (own, other) = (directory(), directory());
    certificates(own.path());
    certificates(other.path());
    let key = own.path().join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let home = encrypted(own.path(), &[]);
    let said = home.refused_start().expect(78).stderr;
    assert!(
        said.contains("not everybody may read") && said.contains("0644"),
        "{said}"
    );
    fs::copy(other.path().join("server.key"), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(home.refused_start().expect(78).stderr.contains("certificate"));
    fs::write(&key, "no key").unwrap();
    let said = home.refused_start().expect(78).stderr;
    assert!(said.contains("expected a private key in PEM"), "{said}");
    fs::remove_file(&key).unwrap();
    assert!(home.refused_start().expect(78).stderr.contains("server.key"));
}

#[test]
fn with_a_certificate_the_server_listens_off_loopback() {
    let own = directory();
    certificates(own.path());
    let home = encrypted(own.path(), &["--listen", "0.0.0.0:0"]);
    let mut command = crate::support::child::likeness();
    command
        .args(["serve", "--keys"])
        .arg(home.keys())
        .arg("--data")
        .arg(home.data());
    let server = Child::start(command.args(&home.arguments));
    let log = server.stop();
    assert!(!log.contains("without encryption"), "{log}");
}

#[test]
fn without_encryption_the_server_leaves_loopback_only_if_told_and_says_so_at_every_start() {
    let home = Home::new();
    let off_loopback = |more: &[&str]| {
        let mut command = crate::support::child::likeness();
        command.args(["serve", "--listen", "0.0.0.0:0", "--keys"]);
        command.arg(home.keys()).arg("--data").arg(home.data());
        command.args(more);
        command
    };
    let refused = Program::finish(&mut off_loopback(&[]), &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (64, ""));
    assert!(
        refused.stderr.contains("--plaintext-off-loopback"),
        "{}",
        refused.stderr
    );
    for _ in 0..2 {
        let server = Child::start(&mut off_loopback(&["--plaintext-off-loopback"]));
        let log = server.stop();
        assert!(log.contains("serving without encryption"), "{log}");
    }
    assert!(!home.serve().stop().contains("without encryption"));
}

#[test]
fn a_connection_that_never_shakes_hands_is_cut_and_holds_nobody_up() {
    let own = directory();
    certificates(own.path());
    let home = encrypted(own.path(), &[]);
    let server = home.serve();
    let address = server.url.trim_start_matches("https://");
    let mut idle: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    let ca = path(own.path(), "ca.pem");
    ask(&server, &server.url, &["--tls-ca", &ca]).expect(0);
    let began = Instant::now();
    for stream in &mut idle {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0]).expect("closed, and in time"), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(30));
    server.stop();
}
