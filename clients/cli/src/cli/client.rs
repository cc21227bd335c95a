//! Asking a server: the connection, the photographs, and words for replies.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use likeness_proto::credential::{Credential, KeyedChannel};
use likeness_proto::v1;
use serde_json::{Value, json};
use tonic::transport::{Certificate as TlsCertificate, ClientTlsConfig, Endpoint, Identity};

use super::exit::Failure;
use super::local;

/// Longest time to wait for the connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest answer with receipts that is taken: of an erasure of two million people, and as long as a message that
/// the server takes. Without a word a client takes 4 MiB, which is less than 130,000 people.
pub const RECEIPTS_BYTES_MAX: usize = 64 << 20;

/// The environment's place for a key.
const KEY_VARIABLE: &str = "LIKENESS_API_KEY";

/// Where Debian keeps the authorities that it trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Which server to ask.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Asking a server")]
pub struct Connection {
    /// Where the server listens
    #[arg(
        long,
        global = true,
        env = "LIKENESS_SERVER",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50051"
    )]
    server: String,

    /// Longest time to wait for an answer, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// File that holds only the API key; LIKENESS_API_KEY may hold the key itself. A key is never an argument,
    /// since other users of the machine can read the arguments of a process
    #[arg(long, global = true, env = "LIKENESS_API_KEY_FILE", value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Certificates in PEM of the authorities that issue the server's certificate, for https [default: the system's]
    #[arg(
        id = "ask_tls_ca",
        long = "tls-ca",
        global = true,
        env = "LIKENESS_TLS_CA",
        value_name = "FILE"
    )]
    tls_ca: Option<PathBuf>,

    /// Client certificate in PEM, for a server that requires one
    #[arg(
        id = "ask_tls_client_cert",
        long = "tls-client-cert",
        global = true,
        env = "LIKENESS_TLS_CLIENT_CERT",
        value_name = "FILE",
        requires = "ask_tls_client_key"
    )]
    tls_client_cert: Option<PathBuf>,

    /// Its private key in PEM
    #[arg(
        id = "ask_tls_client_key",
        long = "tls-client-key",
        global = true,
        env = "LIKENESS_TLS_CLIENT_KEY",
        value_name = "FILE",
        requires = "ask_tls_client_cert"
    )]
    tls_client_key: Option<PathBuf>,

    /// Send the API key to another machine without encryption: only through a tunnel that encrypts, since the key and
    /// every photograph can be read on the way
    #[arg(long, global = true, env = "LIKENESS_PLAINTEXT_KEY_OFF_LOOPBACK")]
    plaintext_key_off_loopback: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// No valid address, or no answer from it.
    pub async fn open(&self) -> Result<KeyedChannel, Failure> {
        let credential = self.credential()?;
        let endpoint = endpoint(&self.server)?;
        if !credential.is_none() && !self.plaintext_key_off_loopback && !keeps_keys(&endpoint) {
            return Err(Failure::Usage(format!(
                "--server {}: expected https, or a loopback address, since nothing else is encrypted and there is an \
                 API key to send; --plaintext-key-off-loopback sends it all the same",
                self.server
            )));
        }
        let endpoint = self.encrypted(endpoint)?;
        let deadline = Duration::from_secs(self.timeout);
        let connecting = endpoint
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(deadline)
            .connect()
            .await;
        let channel = connecting.map_err(|error| {
            // The innermost cause says the most ("connection refused").
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            Failure::Unreachable(format!(
                "{}: {cause}; `likeness serve` starts one, --server names another",
                self.server
            ))
        })?;
        Ok(credential.on(channel))
    }

    /// An https address is spoken to over TLS, with the authorities that are named.
    fn encrypted(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let ca = self
            .tls_ca
            .clone()
            .unwrap_or_else(|| PathBuf::from(SYSTEM_AUTHORITIES));
        let mut tls = ClientTlsConfig::new().ca_certificate(TlsCertificate::from_pem(pem(&ca)?));
        if let (Some(cert), Some(key)) = (&self.tls_client_cert, &self.tls_client_key) {
            tls = tls.identity(Identity::from_pem(pem(cert)?, pem(key)?));
        }
        let wrong = |error| Failure::Usage(format!("the certificates for {}: {error}", self.server));
        endpoint.tls_config(tls).map_err(wrong)
    }

    /// The key of the file, else of the environment, else none, which the server refuses.
    fn credential(&self) -> Result<Credential, Failure> {
        if let Some(path) = &self.api_key_file {
            return Credential::read(path).map_err(|source| Failure::File {
                doing: "reading the API key in",
                path: path.clone(),
                source,
            });
        }
        match std::env::var(KEY_VARIABLE) {
            Ok(text) if !text.is_empty() => Credential::parse(text.trim()).ok_or_else(|| {
                let expected = "expected an API key, `likeness_...`, as `likeness api-key create` prints it";
                Failure::Usage(format!("{KEY_VARIABLE}: {expected}"))
            }),
            _ => Ok(Credential::default()),
        }
    }
}

/// `127.0.0.1:50051`, or the same as a URL, as `likeness serve` prints it.
fn endpoint(server: &str) -> Result<Endpoint, Failure> {
    let url = if server.contains("://") {
        server.to_owned()
    } else {
        format!("http://{server}")
    };
    let refused = |expected: &str| Failure::Usage(format!("--server {server}: expected {expected}"));
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(refused("HOST:PORT, http://HOST:PORT or https://HOST:PORT"));
    }
    let endpoint = Endpoint::from_shared(url).map_err(|_| refused("HOST:PORT, as in 127.0.0.1:50051"))?;
    match endpoint.uri().port() {
        Some(_) => Ok(endpoint),
        None => Err(refused("a port, as in 127.0.0.1:50051")),
    }
}

/// Whether the connection cannot be read on its way.
fn keeps_keys(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default();
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    endpoint.uri().scheme_str() == Some("https")
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn pem(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::File {
        doing: "reading",
        path: path.to_owned(),
        source,
    })
}

/// "1 face", "2 faces".
pub fn counted(count: impl Into<u64>, one: &str, more: &str) -> String {
    match count.into() {
        1 => format!("1 {one}"),
        n => format!("{n} {more}"),
    }
}

/// What commands that wait for a network run on.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        // Where a thread has nothing to do, nothing of the calls before is left on its stack.
        .on_thread_park(local::wipe_stack)
        .enable_all()
        .build()
        .map_err(|source| Failure::File {
            doing: "starting",
            path: PathBuf::from("the runtime"),
            source,
        })
}

/// Runs a command that asks over the network.
pub fn block_on<T>(asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime()?.block_on(asking)
}

/// Which face of a photograph is meant. The arguments say what the values do in one line, instead of clap's
/// list of values, which makes every help text twice as long.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum FaceArgument {
    /// The only one; several are refused
    #[default]
    Only,
    /// The one with the largest box
    Largest,
}

impl FaceArgument {
    /// On the wire.
    pub fn wire(self) -> i32 {
        match self {
            Self::Only => v1::FaceChoice::Only.into(),
            Self::Largest => v1::FaceChoice::Largest.into(),
        }
    }
}

/// How good a face must be.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum QualityArgument {
    /// Every detected face
    None,
    /// What can be matched at all
    Low,
    /// What is matched nearly as well as a good photograph
    Medium,
    /// A good photograph of a person that looks at the camera
    High,
    /// A portrait
    Strict,
}

impl QualityArgument {
    /// On the wire; without an argument, unset.
    pub fn wire(argument: Option<Self>) -> i32 {
        match argument {
            None => v1::QualityLevel::Unspecified,
            Some(Self::None) => v1::QualityLevel::None,
            Some(Self::Low) => v1::QualityLevel::Low,
            Some(Self::Medium) => v1::QualityLevel::Medium,
            Some(Self::High) => v1::QualityLevel::High,
            Some(Self::Strict) => v1::QualityLevel::Strict,
        }
        .into()
    }
}

/// A level of the quality gate, in the word that `--quality` takes.
pub fn level_text(level: v1::QualityLevel) -> &'static str {
    match level {
        v1::QualityLevel::Unspecified => "unknown",
        v1::QualityLevel::None => "none",
        v1::QualityLevel::Low => "low",
        v1::QualityLevel::Medium => "medium",
        v1::QualityLevel::High => "high",
        v1::QualityLevel::Strict => "strict",
    }
}

/// Reads a photograph from a file, or from standard input for `-`.
///
/// # Errors
/// The file cannot be read.
pub fn photograph(path: &Path) -> Result<v1::Photograph, Failure> {
    let mut data = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut data).map(|_| ())
    } else {
        std::fs::read(path).map(|bytes| data = bytes)
    };
    read.map_err(|source| Failure::File {
        doing: "reading",
        path: path.to_owned(),
        source,
    })?;
    Ok(v1::Photograph { data })
}

/// What a reply says about its call.
pub fn call_json(call: Option<&v1::CallInfo>) -> Value {
    call.map_or(Value::Null, |call| {
        let steps: serde_json::Map<String, Value> = call
            .steps
            .iter()
            .map(|s| (s.step.clone(), json!(s.micros)))
            .collect();
        json!({ "request_id": call.request_id, "scheme": call.scheme, "step_micros": steps })
    })
}

/// A face of a photograph.
pub fn face_json(face: Option<&v1::Face>) -> Value {
    face.map_or(Value::Null, |face| {
        let area = face.r#box.unwrap_or_default();
        json!({
            "box": [area.left, area.top, area.right, area.bottom],
            "detection_score": face.detection_score,
            "points": face.points.iter().map(|p| [p.x, p.y]).collect::<Vec<_>>(),
            "rejection": face.rejection.as_ref().map(rejection_json),
            "rotated_degrees": face.rotated_degrees,
            "quality": face.quality.as_ref().map(quality_json),
        })
    })
}

fn quality_json(quality: &v1::Quality) -> Value {
    json!({
        "level": level_text(quality.level()),
        "eye_distance_px": quality.eye_distance_px,
        "sharpness": quality.sharpness,
        "brightness": quality.brightness,
        "contrast": quality.contrast,
        "yaw_degrees": quality.yaw_degrees,
        "pitch_degrees": quality.pitch_degrees,
        "roll_degrees": quality.roll_degrees,
        "landmark_confidence": quality.landmark_confidence,
        "eyes_open": quality.eyes_open,
    })
}

/// What was measured of a face, in one line.
pub fn quality_text(quality: &v1::Quality) -> String {
    format!(
        "quality {}: eyes {:.0} px apart, sharpness {:.2}, brightness {:.0}, contrast {:.0}, yaw {:.0}, pitch {:.0}, \
         roll {:.0} degrees, landmarks {:.2}, eyes open {:.2}",
        level_text(quality.level()),
        quality.eye_distance_px,
        quality.sharpness,
        quality.brightness,
        quality.contrast,
        quality.yaw_degrees,
        quality.pitch_degrees,
        quality.roll_degrees,
        quality.landmark_confidence,
        quality.eyes_open,
    )
}

/// A rejected photograph or face.
pub fn rejection_json(rejection: &v1::Rejection) -> Value {
    json!({ "reason": rejection.reason().as_str_name(), "message": rejection.message })
}

/// A time, as RFC 3339 in UTC.
pub fn time_text(time: Option<&prost_types::Timestamp>) -> String {
    time.map(ToString::to_string).unwrap_or_default()
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_bare_or_as_the_server_prints_it() {
        for server in [
            "127.0.0.1:50051",
            "http://127.0.0.1:50051",
            "localhost:50051",
            "[::1]:50051",
        ] {
            assert!(endpoint(server).is_ok(), "{server}");
        }
        for server in ["127.0.0.1", "http://localhost", "two words:1", ""] {
            assert!(matches!(endpoint(server), Err(Failure::Usage(_))), "{server}");
        }
    }

    #[test]
    fn a_key_goes_in_the_clear_to_this_machine_only() {
        let keeps_keys = |server: &str| endpoint(server).is_ok_and(|endpoint| keeps_keys(&endpoint));
        for server in [
            "127.0.0.1:50051",
            "http://127.8.8.8:1",
            "localhost:50051",
            "[::1]:50051",
            "[::ffff:127.0.0.1]:50051",
            "https://faces.example:443",
        ] {
            assert!(keeps_keys(server), "{server}");
        }
        for server in [
            "192.0.2.1:50051",
            "http://faces.example:50051",
            "localhost.example:50051",
            "127.0.0.1.example:50051",
            "[2001:db8::1]:50051",
            "0.0.0.0:50051",
        ] {
            assert!(!keeps_keys(server), "{server}");
        }
    }

    #[test]
    fn an_address_is_spoken_to_in_the_clear_only_if_it_does_not_say_https() {
        let scheme = |server: &str| {
            let endpoint = endpoint(server).ok()?;
            endpoint.uri().scheme_str().map(str::to_owned)
        };
        assert_eq!(scheme("https://127.0.0.1:50051").as_deref(), Some("https"));
        assert_eq!(scheme("127.0.0.1:50051").as_deref(), Some("http"));
        assert_eq!(scheme("ftp://127.0.0.1:50051"), None);
    }
}
