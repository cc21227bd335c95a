//! The flooded server: the program itself, with people in it, and keys for the honest client and for the floods.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use likeness_bench::{assets, target_dir};
use likeness_engine::{Account, KeyStore, NewApiKey, Offline, Scope};
use likeness_proto::credential::Credential;
use likeness_server::credential;
use tempfile::TempDir;

use crate::Address;

/// Names of the environment in which floods have their keys.
pub const LOWEST_KEY: &str = "LIKENESS_FLOOD_LOWEST_KEY";
pub const WORKING_KEY: &str = "LIKENESS_FLOOD_WORKING_KEY";
/// Files that the soft limit allows at first, as most systems do.
const OPEN_FILES: u32 = 1024;

/// A server with data of its own.
pub struct Server {
    process: Child,
    /// Read to its end, or the server would wait for its reader.
    log: Option<JoinHandle<()>>,
    pub address: Address,
    pub honest: Credential,
    /// The authority of its certificate.
    pub ca: Option<PathBuf>,
    lowest: String,
    working: String,
    _home: TempDir,
}

impl Server {
    /// Starts it, encrypted or not.
    pub fn start(encrypted: bool) -> Self {
        let home = tempfile::Builder::new()
            .prefix("likeness-floods-")
            .tempdir_in(target_dir())
            .expect("Cargo could write here");
        let (keys, data) = (home.path().join("keys"), home.path().join("data"));
        KeyStore::new(&keys, None).init(&data).expect("a fresh folder");
        let (honest, lowest, working) = {
            let offline = Offline::open(&KeyStore::new(&keys, None), &data).expect("fresh keys");
            let administration = offline.administration();
            let honest = credential::all_scopes(&administration, "honest").expect("a fresh store");
            let flooding = Account::parse("flood").expect("a name");
            administration.ensure_account(&flooding).expect("a fresh store");
            let key = |scopes: &[Scope]| {
                let new = NewApiKey {
                    scopes: scopes.iter().copied().collect(),
                    ..NewApiKey::default()
                };
                let (key, _) = administration
                    .create_api_key(&flooding, new)
                    .expect("a fresh store");
                key.text().to_string()
            };
            (
                credential::of(&honest),
                key(&[Scope::Read]),
                key(&[Scope::Search, Scope::Enrol, Scope::Admin]),
            )
        };
        let program = target_dir().join("release/likeness");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -Sn {OPEN_FILES} && exec \"$0\" \"$@\"")]);
        command
            .arg(&program)
            .args(["serve", "--listen", "127.0.0.1:0", "--keys"]);
        command.arg(&keys).arg("--data").arg(&data);
        // The honest client calls one call after the other; it shall not meet its own limits.
        command.args(["--searches-per-day", "1000000"]);
        command.env("LIKENESS_ASSETS", assets::asset("."));
        let ca = encrypted.then(|| {
            let made = Command::new(&program)
                .args(["tls", "dev-cert"])
                .arg(home.path())
                .stdout(Stdio::null())
                .status();
            assert!(made.expect("it runs").success());
            command.arg("--tls-cert").arg(home.path().join("server.pem"));
            command.arg("--tls-key").arg(home.path().join("server.key"));
            home.path().join("ca.pem")
        });
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `make build`", program.display()));
        let mut stderr = process.stderr.take().expect("piped");
        let log = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let (mut block, mut last) = ([0; 1 << 16], Vec::new());
            while let Ok(read @ 1..) = stderr.read(&mut block) {
                last = block[..read].to_vec();
            }
            drop(last);
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("text");
        let url = line
            .trim()
            .strip_prefix("serving on ")
            .expect("the server starts");
        let address = url
            .split_once("://")
            .and_then(|(_, address)| address.parse().ok());
        Self {
            process,
            log: log.ok(),
            address: address.expect("an address"),
            honest,
            ca,
            lowest,
            working,
            _home: home,
        }
    }

    /// The environment of a flood.
    pub fn keys_of_floods(&self) -> [(&'static str, &str); 2] {
        [(LOWEST_KEY, &self.lowest), (WORKING_KEY, &self.working)]
    }

    /// From now on the peak of its memory is a new one, where the system can do that.
    pub fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5");
    }

    /// The most memory that it had resident since.
    pub fn peak_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("the system tells") / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}
