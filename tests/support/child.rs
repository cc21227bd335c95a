//! The program as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use likeness_engine::{KeyStore, Offline};
use likeness_proto::credential::Credential;
use likeness_server::credential;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{Client, PATIENCE, asset, directory};

/// The program itself.
pub fn likeness() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_likeness"));
    // What the developer has set must not reach the tests; where the assets are must.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("LIKENESS_") && name != "LIKENESS_ASSETS" && name != "LIKENESS_CACHE" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// The environment's place for an API key.
pub const KEY: &str = "LIKENESS_API_KEY";

/// Makes an API key that may do everything, while no server runs.
pub fn api_key(keys: &Path, data: &Path) -> String {
    let until = Instant::now() + PATIENCE;
    let offline = loop {
        match Offline::open(&KeyStore::new(keys, None), data) {
            Ok(offline) => break offline,
            // A program that another test starts holds this process's locks between fork and exec.
            Err(error) if error.to_string().contains("alone") && Instant::now() < until => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("opened: {error}"),
        }
    };
    let key = credential::all_scopes(&offline.administration(), "test").expect("made");
    key.text().to_string()
}

/// A program that has ended.
#[derive(Debug)]
pub struct Program {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Runs to its end.
    pub fn run(arguments: &[&str]) -> Self {
        Self::finish(likeness().args(arguments), &[])
    }

    /// Runs to its end, with this on its standard input.
    pub fn finish(command: &mut Command, input: &[u8]) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        thread::scope(|scope| {
            // A program that does not read its input ends all the same.
            scope.spawn(move || drop(stdin.write_all(input)));
            let errors = scope.spawn(move || read(&mut stderr));
            let stdout = scope.spawn(move || read(&mut stdout));
            let status = wait(&mut child, PATIENCE);
            Self {
                code: status.code().expect("an exit code"),
                stdout: stdout.join().unwrap(),
                stderr: errors.join().unwrap(),
            }
        })
    }

    /// Its output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Itself, if it ended with this code.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

fn read(from: &mut impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("text");
    text
}

/// Waits for an end, and makes one when the time is up.
fn wait(child: &mut std::process::Child, patience: Duration) -> ExitStatus {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end by itself");
        }
        // The standard library has no wait with a deadline.
        thread::sleep(Duration::from_millis(2));
    }
}

/// Keys and data for servers that are child processes.
pub struct Home {
    pub directory: TempDir,
    pub arguments: Vec<String>,
    /// An API key that may do everything.
    key: String,
}

impl Home {
    /// Fresh keys, and no data but an API key.
    pub fn new() -> Self {
        let mut home = Self::bare();
        home.key = api_key(&home.keys(), &home.data());
        home
    }

    /// Fresh keys, no data at all.
    pub fn bare() -> Self {
        asset("models/fr_feature.onnx");
        asset("runtime/libonnxruntime.so");
        let directory = directory();
        let home = Self {
            directory,
            arguments: Vec::new(),
            key: String::new(),
        };
        likeness_engine::KeyStore::new(home.keys(), None)
            .init(&home.data())
            .expect("fresh keys");
        home
    }

    /// No keys and no data yet, shown with this API key.
    pub fn keyed(key: &str) -> Self {
        let directory = directory();
        let (arguments, key) = (Vec::new(), key.to_owned());
        Self {
            directory,
            arguments,
            key,
        }
    }

    pub fn keys(&self) -> PathBuf {
        self.path().join("keys")
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Further arguments of `likeness serve`.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        self
    }

    pub fn command(&self) -> Command {
        let mut command = likeness();
        command.args(["serve", "--listen", "127.0.0.1:0", "--keys"]);
        command.arg(self.keys()).arg("--data").arg(self.data());
        // Whoever waits is not refused, however slow the machine of the tests is.
        command.args(["--queue-millis", "60000"]);
        command.args(&self.arguments);
        // The server ignores it: for whoever asks it.
        command.env(KEY, &self.key);
        command
    }

    /// A start that must fail.
    pub fn refused_start(&self) -> Program {
        Program::finish(&mut self.command(), &[])
    }

    pub fn serve(&self) -> Child {
        Child::start(&mut self.command())
    }
}

/// A server that is a child process; it is killed with its handle.
pub struct Child {
    process: std::process::Child,
    pub url: String,
    pub key: String,
    /// Where its metrics are, if it shows any.
    pub metrics: String,
    log: Option<thread::JoinHandle<String>>,
}

impl Child {
    /// Starts a server and waits until it listens.
    pub fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let shown = command.get_envs().find(|(name, _)| *name == KEY);
        let key = shown
            .and_then(|(_, key)| key)
            .map(|key| key.to_string_lossy().into_owned());
        let mut stderr = process.stderr.take().unwrap();
        let log = thread::Builder::new().spawn(move || read(&mut stderr)).unwrap();
        let lines = 1 + command
            .get_args()
            .filter(|argument| *argument == "--metrics")
            .count();
        let (said, says) = mpsc::channel();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let listening = thread::Builder::new().spawn(move || {
            for _ in 0..lines {
                let mut line = String::new();
                let read = stdout.read_line(&mut line).map(|_| line);
                // Nobody listens if the test has failed already.
                let _ = said.send(read.expect("text"));
            }
        });
        let line = says.recv_timeout(PATIENCE);
        let mut child = Self {
            process,
            url: String::new(),
            key: key.unwrap_or_default(),
            metrics: String::new(),
            log: Some(log),
        };
        match line.as_deref().map(|line| line.strip_prefix("serving on ")) {
            Ok(Some(url)) => url.trim_end().clone_into(&mut child.url),
            said => panic!("{said:?}: {}", child.kill()),
        }
        listening.unwrap().join().unwrap();
        if let Ok(line) = says.try_recv() {
            let url = line.strip_prefix("metrics on ").expect("where metrics are");
            url.trim_end().clone_into(&mut child.metrics);
        }
        child
    }

    pub async fn client(&self) -> Client {
        let credential = Credential::parse(&self.key).expect("a key");
        Client::connect(&self.url, credential).await
    }

    /// The metrics as a scrape finds them.
    pub fn scraped(&self) -> String {
        let (head, text) = self.scrape("GET /metrics");
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("version=0.0.4"),
            "{head}"
        );
        text
    }

    /// Asks where the metrics are; answers head and body.
    pub fn scrape(&self, line: &str) -> (String, String) {
        let address = self.metrics.strip_prefix("http://").expect("shows metrics");
        let address = address.strip_suffix("/metrics").expect("at this path");
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        write!(stream, "{line} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it reads");
        let answer = read(&mut stream);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        (head.to_owned(), body.to_owned())
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A client command against this server.
    pub fn ask(&self, arguments: &[&str]) -> Program {
        Program::finish(self.asking().args(arguments), &[])
    }

    /// The program, told of this server and its key.
    pub fn asking(&self) -> Command {
        let mut command = likeness();
        command.env("LIKENESS_SERVER", &self.url).env(KEY, &self.key);
        command
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).expect("it runs");
    }

    /// SIGKILL: whatever was not on disk is gone. Answers the log.
    pub fn kill(&mut self) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.log.take().unwrap().join().unwrap()
    }

    /// Waits for its end. Answers exit code and log.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let status = wait(&mut self.process, PATIENCE);
        (status.code(), self.log.take().unwrap().join().unwrap())
    }

    /// SIGTERM: what is in flight is finished. Answers the log.
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (code, log) = self.ended();
        assert_eq!(code, Some(0), "{log}");
        log
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A test that failed leaves nothing running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
