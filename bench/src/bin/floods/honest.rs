//! An honest client: one call after the other on a connection of its own, and now and then a new connection.

use std::fmt;
use std::time::{Duration, Instant};

use likeness_bench::assets;
use likeness_proto::credential::{Credential, KeyedChannel};
use likeness_proto::v1;
use likeness_proto::v1::collection_service_client::CollectionServiceClient;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use tokio::runtime::{Builder, Runtime};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::flood;
use crate::server::Server;

/// People that are looked among.
const PEOPLE: usize = 3;
const COLLECTION: &str = "staff";
/// From one new connection to the next.
const NEWCOMER_EVERY: Duration = Duration::from_millis(500);
/// No call of it takes longer, or it has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// People that are enrolled and erased beside a flood that leaves no files.
const WRITES: usize = 5;

/// What it saw.
#[derive(Default)]
pub struct Seen {
    pub searches: Vec<Duration>,
    pub reads: Vec<Duration>,
    /// Calls that found no answer but for BUSY, which it is told to repeat.
    pub failed: usize,
    pub newcomers: usize,
    pub newcomers_failed: usize,
    pub busy: usize,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.searches.extend(other.searches);
        self.reads.extend(other.reads);
        self.failed += other.failed;
        self.newcomers += other.newcomers;
        self.newcomers_failed += other.newcomers_failed;
        self.busy += other.busy;
    }

    pub fn p50_search(&self) -> Duration {
        at(&self.searches, 50)
    }

    pub fn p99_search(&self) -> Duration {
        at(&self.searches, 99)
    }

    pub fn p99_read(&self) -> Duration {
        at(&self.reads, 99)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} searches, p50 {:?}, p99 {:?}; reads p50 {:?}, p99 {:?}; {} failed, {} busy; {} of {} newcomers failed",
            self.searches.len(),
            self.p50_search(),
            self.p99_search(),
            at(&self.reads, 50),
            self.p99_read(),
            self.failed,
            self.busy,
            self.newcomers_failed,
            self.newcomers,
        )
    }
}

fn at(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let place = (sorted.len().saturating_sub(1) * percent).div_ceil(100);
    sorted.get(place).copied().unwrap_or(PATIENCE)
}

/// The client.
pub struct Honest {
    runtime: Runtime,
    endpoint: Endpoint,
    credential: Credential,
    channel: KeyedChannel,
    photo: Vec<u8>,
}

impl Honest {
    /// Connects, and enrols a few people.
    pub fn of(server: &Server) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("threads and timers");
        let scheme = if server.ca.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", server.address)).expect("a URL");
        let mut endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
        if let Some(ca) = &server.ca {
            let ca = Certificate::from_pem(std::fs::read(ca).expect("it was made"));
            let tls = ClientTlsConfig::new().ca_certificate(ca);
            endpoint = endpoint.tls_config(tls).expect("an authority");
        }
        let channel = runtime.block_on(endpoint.connect()).expect("it listens");
        let honest = Self {
            channel: server.honest.clone().on(channel),
            credential: server.honest.clone(),
            endpoint,
            runtime,
            photo: assets::photograph(),
        };
        honest.runtime.block_on(honest.prepare());
        honest
    }

    async fn prepare(&self) {
        let request = v1::CreateCollectionRequest {
            name: COLLECTION.to_owned(),
            ..Default::default()
        };
        let mut collections = CollectionServiceClient::new(self.channel.clone());
        collections
            .create_collection(request)
            .await
            .expect("a fresh store");
        for number in 0..PEOPLE {
            self.enrol(&format!("person-{number}"))
                .await
                .expect("a fresh store");
        }
    }

    /// The longest step of a photograph of the floods of work, by itself.
    pub fn longest_step(&self) -> Duration {
        let request = v1::DetectFacesRequest {
            photograph: Some(v1::Photograph { data: flood::bomb() }),
            ..Default::default()
        };
        let mut matching = MatchingServiceClient::new(self.channel.clone());
        let steps = (0..3).filter_map(|_| {
            let reply = self
                .runtime
                .block_on(matching.detect_faces(request.clone()))
                .ok()?;
            let call = reply.into_inner().call?;
            call.steps
                .iter()
                .filter(|step| step.step != "queue")
                .map(|step| step.micros)
                .max()
        });
        Duration::from_micros(steps.max().unwrap_or(0))
    }

    /// Calls for so long; with newcomers, or without.
    pub fn watch(&self, time: Duration, newcomers: bool) -> Seen {
        self.runtime.block_on(async {
            let until = Instant::now() + time;
            let (calls, connections) = tokio::join!(self.call(until), async {
                if newcomers {
                    self.connect(until).await
                } else {
                    Seen::default()
                }
            });
            let mut seen = calls;
            seen.add(connections);
            seen
        })
    }

    async fn call(&self, until: Instant) -> Seen {
        let mut seen = Seen::default();
        while Instant::now() < until {
            let began = Instant::now();
            match self.search().await {
                Ok(()) => seen.searches.push(began.elapsed()),
                Err(Code::ResourceExhausted) => seen.busy += 1,
                Err(_) => seen.failed += 1,
            }
            let began = Instant::now();
            match self.read(self.channel.clone()).await {
                Ok(()) => seen.reads.push(began.elapsed()),
                Err(Code::ResourceExhausted) => seen.busy += 1,
                Err(_) => seen.failed += 1,
            }
        }
        seen
    }

    /// Connections of its own, one with a key, and one that asks for health.
    async fn connect(&self, until: Instant) -> Seen {
        let mut seen = Seen::default();
        while Instant::now() < until {
            seen.newcomers += 2;
            let keyed = async {
                let channel = self.endpoint.connect().await.map_err(|_| Code::Unavailable)?;
                self.read(self.credential.clone().on(channel)).await
            };
            let health = async {
                let channel = self.endpoint.connect().await.map_err(|_| Code::Unavailable)?;
                let check = HealthClient::new(channel)
                    .check(HealthCheckRequest::default())
                    .await;
                check.map(drop).map_err(|status| status.code())
            };
            let (keyed, health) = tokio::join!(
                tokio::time::timeout(PATIENCE, keyed),
                tokio::time::timeout(PATIENCE, health)
            );
            seen.newcomers_failed += usize::from(!matches!(keyed, Ok(Ok(()))));
            seen.newcomers_failed += usize::from(!matches!(health, Ok(Ok(()))));
            tokio::time::sleep(NEWCOMER_EVERY).await;
        }
        seen
    }

    async fn search(&self) -> Result<(), Code> {
        let request = v1::SearchPersonsRequest {
            collections: vec![COLLECTION.to_owned()],
            photograph: Some(v1::Photograph {
                data: self.photo.clone(),
            }),
            ..Default::default()
        };
        let mut matching = MatchingServiceClient::new(self.channel.clone());
        let found = matching.search_persons(request).await;
        found.map(drop).map_err(|status| status.code())
    }

    async fn read(&self, channel: KeyedChannel) -> Result<(), Code> {
        let request = v1::GetPersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: "person-0".to_owned(),
        };
        let read = PersonServiceClient::new(channel).get_person(request).await;
        read.map(drop).map_err(|status| status.code())
    }

    async fn enrol(&self, id: &str) -> Result<(), Code> {
        let request = v1::EnrollPersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: id.to_owned(),
            photographs: vec![v1::Photograph {
                data: self.photo.clone(),
            }],
            ..Default::default()
        };
        let enrolled = PersonServiceClient::new(self.channel.clone())
            .enroll_person(request)
            .await;
        enrolled.map(drop).map_err(|status| status.code())
    }

    /// Enrols and erases people; answers how many calls failed.
    pub fn writes(&self) -> usize {
        self.runtime.block_on(async {
            let mut failed = 0;
            for number in 0..WRITES {
                let id = format!("written-{number}");
                failed += usize::from(self.enrol(&id).await.is_err());
                let request = v1::DeletePersonRequest {
                    collection: COLLECTION.to_owned(),
                    person_id: id,
                    ..Default::default()
                };
                let mut persons = PersonServiceClient::new(self.channel.clone());
                failed += usize::from(persons.delete_person(request).await.is_err());
            }
            failed
        })
    }
}
