//! TLS: the operator's certificate, read again when it changes.
//!
//! A certificate that cannot be used never takes the place of one that can: it is logged, and the old one serves on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(10);
/// No certificate is near it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where the certificate is.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsFiles {
    /// Certificate chain in PEM, the server's own first; read again when it changes, and at SIGHUP
    #[arg(long, env = "LIKENESS_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key in PEM, readable by its owner only
    #[arg(long, env = "LIKENESS_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Certificates in PEM of the authorities that issue clients' certificates: a client without one is refused. API
    /// keys are required all the same
    #[arg(
        long,
        env = "LIKENESS_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_client_ca: Option<PathBuf>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("reading {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is in a file.
    #[error("{path}: expected {expected}, found {found}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
    /// The files do not belong together, or are of a kind that is not taken.
    #[error("the TLS certificate and its key: {0}")]
    Unusable(#[from] tokio_rustls::rustls::Error),
    /// The authorities of clients.
    #[error("the authorities of clients' certificates: {0}")]
    Authorities(#[from] tokio_rustls::rustls::server::VerifierBuilderError),
}

/// The certificate that serves at the moment.
pub struct Certificate {
    files: TlsFiles,
    serving: watch::Sender<Arc<ServerConfig>>,
}

impl Certificate {
    /// The certificate, if one is named.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(read) = Read::all(files)? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            serving: watch::Sender::new(read.config()?),
            files: files.clone(),
        })))
    }

    /// For the next handshake.
    pub fn serving(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.serving.borrow())
    }

    /// Reads the files again when they change or a SIGHUP asks for it, for as long as it is awaited.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut seen = self.look().await.ok().flatten();
        let mut asked = signal(SignalKind::hangup()).ok();
        let mut failed_in_a_row = 0u32;
        loop {
            let hangup = async {
                match &mut asked {
                    Some(asked) => drop(asked.recv().await),
                    None => std::future::pending().await,
                }
            };
            let by_signal = tokio::select! {
                () = hangup => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = match self.look().await {
                Ok(now) => now,
                Err(error) => {
                    failed_in_a_row = failed_in_a_row.saturating_add(1);
                    // A file that is being replaced is not there for a moment: said at the second look, and to
                    // whoever asks.
                    if by_signal || failed_in_a_row == 2 {
                        tracing::error!(%error, "the TLS certificate cannot be read; the old one serves on");
                    }
                    continue;
                }
            };
            failed_in_a_row = 0;
            if now.as_ref().map(Read::digest) == seen.as_ref().map(Read::digest) {
                continue;
            }
            if let Some(read) = &now {
                match read.config() {
                    Ok(config) => {
                        self.serving.send_replace(config);
                        tracing::info!("the TLS certificate was read again");
                    }
                    Err(error) => {
                        tracing::error!(%error, "the new TLS certificate cannot be used; the old one serves on");
                    }
                }
            }
            seen = now;
        }
    }

    async fn look(&self) -> Result<Option<Read>, TlsError> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || Read::all(&files)).await;
        read.unwrap_or(Ok(None))
    }
}

/// The files, as they are at the moment.
struct Read {
    cert: (PathBuf, Vec<u8>),
    key: (PathBuf, Zeroizing<Vec<u8>>),
    client_ca: Option<(PathBuf, Vec<u8>)>,
}

impl Read {
    fn all(files: &TlsFiles) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key)) = (&files.tls_cert, &files.tls_key) else {
            return Ok(None);
        };
        let mode = file(key, fs::metadata(key))?.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(TlsError::Content {
                path: key.clone(),
                expected: "a private key that not everybody may read",
                found: format!("mode {mode:04o}"),
            });
        }
        let client_ca = files.tls_client_ca.as_ref();
        Ok(Some(Self {
            cert: (cert.clone(), read(cert)?),
            key: (key.clone(), Zeroizing::new(read(key)?)),
            client_ca: client_ca
                .map(|path| Ok::<_, TlsError>((path.clone(), read(path)?)))
                .transpose()?,
        }))
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let client_ca = self.client_ca.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        for bytes in [&self.cert.1[..], &self.key.1, client_ca] {
            hasher.update(blake3::hash(bytes).as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some((path, bytes)) => builder.with_client_cert_verifier(verifier(path, bytes, provider)?),
        };
        let (path, bytes) = &self.key;
        let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|error| TlsError::Content {
            path: path.clone(),
            expected: "a private key in PEM",
            found: error.to_string(),
        })?;
        let mut config = builder.with_single_cert(certificates(&self.cert.0, &self.cert.1)?, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn verifier(
    path: &Path,
    bytes: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |found: String| TlsError::Content {
        path: path.to_owned(),
        expected: "certificates in PEM",
        found,
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let read = read.map_err(|error| content(error.to_string()))?;
    if read.is_empty() {
        return Err(content("none".to_owned()));
    }
    Ok(read)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = file(path, fs::metadata(path))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(TlsError::Content {
            path: path.to_owned(),
            expected: "a file of at most 1 MiB",
            found: format!("{bytes} bytes"),
        });
    }
    file(path, fs::read(path))
}

fn file<T>(path: &Path, done: std::io::Result<T>) -> Result<T, TlsError> {
    done.map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}
