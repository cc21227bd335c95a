//! A server in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use likeness_engine::{Account, ApiKey, Engine, NewApiKey, Scope};
use likeness_proto::credential::{Credential, KeyedChannel};
use likeness_server::ServeError;
use likeness_server::config::{LimitArgs, ModelFiles, ServeConfig};
use likeness_server::credential;
use likeness_server::tls::TlsFiles;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use super::{Client, PATIENCE, asset, directory};

/// What a server is started with: keys and data of its own, the default models.
pub struct Setup {
    _home: TempDir,
    pub config: ServeConfig,
    /// Of everything, once the server has been started.
    pub credential: Credential,
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
            // Most tests are about something else, and compare one person again and again.
            limits: LimitArgs::GENEROUS,
            call_seconds: 60,
            drain_seconds: 30,
            root_key_command: None,
            accept_short_erasure_log: false,
            accept_short_audit_log: false,
            plaintext_off_loopback: false,
            metrics: None,
            metrics_off_loopback: false,
            tls: TlsFiles::default(),
            region: "local".to_owned(),
            retention: likeness_server::logs::retention::Retention::default(),
            open_reflection: false,
            faces_warning: 0,
        };
        likeness_engine::KeyStore::new(&config.keys, None)
            .init(&config.data)
            .expect("fresh keys");
        Self {
            _home: home,
            config,
            credential: Credential::default(),
        }
    }

    /// Models of another directory.
    pub fn models(mut self, models: &Path) -> Self {
        self.config.models.models = Some(PathBuf::from(models));
        self
    }

    pub async fn start(mut self) -> Server {
        let opening = self.config.clone();
        let opened = tokio::task::spawn_blocking(move || likeness_server::open(&opening)).await;
        let (engine, _) = opened.unwrap().expect("the server opens");
        let keyed = Arc::clone(&engine);
        let made = tokio::task::spawn_blocking(move || {
            credential::all_scopes(&keyed.administration(), "test").expect("made")
        });
        self.credential = credential::of(&made.await.unwrap());
        let listener = TcpListener::bind(self.config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let config = self.config.clone();
        let serving = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { likeness_server::serve(&config, engine, listener, async { drop(stopped.await) }).await }
        });
        Server {
            setup: self,
            engine,
            address,
            stop,
            serving,
        }
    }
}

/// A server in this process, listening on a free port of loopback.
pub struct Server {
    setup: Setup,
    /// The engine behind it, for what no call can do.
    pub engine: Arc<Engine>,
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

    pub fn credential(&self) -> Credential {
        self.setup.credential.clone()
    }

    /// A key of an account, which is made if there is none.
    pub async fn key(&self, account: &str, new: NewApiKey) -> ApiKey {
        let (engine, account) = (Arc::clone(&self.engine), Account::parse(account).unwrap());
        let made = tokio::task::spawn_blocking(move || {
            let administration = engine.administration();
            administration.ensure_account(&account).expect("made");
            administration.create_api_key(&account, new).expect("made").0
        });
        made.await.unwrap()
    }

    /// A client with a key of these scopes.
    pub async fn client_for(&self, account: &str, scopes: &[Scope]) -> Client {
        let new = NewApiKey {
            scopes: scopes.iter().copied().collect(),
            ..NewApiKey::default()
        };
        let key = self.key(account, new).await;
        Client::connect(&self.url(), credential::of(&key)).await
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.url(), self.credential()).await
    }

    /// A connection of somebody who lets no stream send anything, and so reads no answer.
    pub async fn unread(&self) -> KeyedChannel {
        self.with_window(0).await
    }

    /// A connection of somebody who lets a stream send so many bytes before they are read.
    pub async fn with_window(&self, bytes: u32) -> KeyedChannel {
        let endpoint = Endpoint::from_shared(self.url()).unwrap();
        let channel = endpoint.initial_stream_window_size(bytes).connect().await;
        self.credential().on(channel.expect("connected"))
    }

    /// Stops, and gives back what it was started with; the data stay.
    pub async fn stop(self) -> Setup {
        drop(self.engine);
        drop(self.stop);
        tokio::time::timeout(PATIENCE, self.serving)
            .await
            .expect("it stops")
            .unwrap()
            .expect("it stops without an error");
        self.setup
    }
}
