//! A server in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use likeness_server::ServeError;
use likeness_server::config::{ModelFiles, ServeConfig};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Client, PATIENCE, asset, directory};

/// What a server is started with: keys and data of its own, the default models.
pub struct Setup {
    _home: TempDir,
    pub config: ServeConfig,
}

impl Setup {
    /// Fresh keys, no data.
    pub fn new() -> Self {
        asset("models/fr_feature.onnx");
        asset("runtime/libonnxruntime.so");
        let home = directory();
        let config = ServeConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: home.path().join("data"),
            keys: home.path().join("keys"),
            models: ModelFiles {
                models: None,
                runtime: None,
            },
            workers: Some(2),
            queue: 128,
            gather_micros: 1000,
            call_seconds: 60,
            drain_seconds: 30,
            root_key_command: None,
            accept_short_erasure_log: false,
            plaintext_off_loopback: false,
        };
        likeness_engine::KeyStore::new(&config.keys, None)
            .init(&config.data)
            .expect("fresh keys");
        Self { _home: home, config }
    }

    /// Models of another directory.
    pub fn models(mut self, models: &Path) -> Self {
        self.config.models.models = Some(PathBuf::from(models));
        self
    }

    pub async fn start(self) -> Server {
        // Programs that other tests start hold this process's locks between fork and exec: so also the lock of a
        // server that has just been stopped.
        let until = Instant::now() + PATIENCE;
        let engine = loop {
            let opening = self.config.clone();
            let opened = tokio::task::spawn_blocking(move || likeness_server::open(&opening)).await;
            match opened.unwrap() {
                Ok((engine, _)) => break engine,
                Err(error) if format!("{error:?}").contains("to be alone") && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("the server opens: {error:?}"),
            }
        };
        let listener = TcpListener::bind(self.config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let config = self.config.clone();
        let serving = tokio::spawn(async move {
            likeness_server::serve(&config, engine, listener, async { drop(stopped.await) }).await
        });
        Server {
            setup: self,
            address,
            stop,
            serving,
        }
    }
}

/// A server in this process, listening on a free port of loopback.
pub struct Server {
    setup: Setup,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// With everything as usual.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.url()).await
    }

    /// Stops, and gives back what it was started with; the data stay.
    pub async fn stop(self) -> Setup {
        drop(self.stop);
        tokio::time::timeout(PATIENCE, self.serving)
            .await
            .expect("it stops")
            .unwrap()
            .expect("it stops without an error");
        self.setup
    }
}
