//! `likeness demo`: a guided tour over gRPC on real photographs, with fresh keys and fresh data.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use likeness_engine::receipts::chain;
use likeness_engine::{Account, CollectionName, Engine, KeyStore, PersonId};
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use likeness_proto::v1::collection_service_client::CollectionServiceClient;
use likeness_proto::v1::erasure_service_client::ErasureServiceClient;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use likeness_server::config::{LimitArgs, ModelFiles, ServeConfig, assets_dir};
use likeness_server::credential;
use likeness_server::tls::TlsFiles;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Endpoint;

use super::client::photograph;
use super::exit::Failure;
use super::matching::{score_text, similarity_text};

const COLLECTION: &str = "demo";
/// PersonID, name and the photographs that are enrolled.
const PEOPLE: [(&str, &str, &[&str]); 3] = [
    ("barack", "Barack Obama", &["obama.jpg", "obama3.jpg"]),
    ("eileen", "Eileen Collins", &["astronaut.png"]),
    ("joe", "Joe Biden", &["biden.jpg"]),
];
/// Another photograph of the first of them, which is not enrolled.
const PROBE: &str = "obama2.jpg";
/// Within this time an erased person's bytes have left the data files.
const PURGE_TIME_MAX: Duration = Duration::from_secs(5);

/// Show everything once: enrol, search, verify and erase real photographs, on a server of its own
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  likeness demo")]
pub struct DemoCommand {
    /// Directory with the sample photographs [default: `photographs` in the assets directory]
    #[arg(long, value_name = "DIR")]
    photographs: Option<PathBuf>,
    #[command(flatten)]
    models: ModelFiles,
}

struct Tour {
    photographs: PathBuf,
    collections: CollectionServiceClient<KeyedChannel>,
    persons: PersonServiceClient<KeyedChannel>,
    matching: MatchingServiceClient<KeyedChannel>,
    erasures: ErasureServiceClient<KeyedChannel>,
    engine: Arc<Engine>,
}

impl DemoCommand {
    /// Carries the tour out; everything it made is gone when it ends.
    pub async fn run(self) -> Result<(), Failure> {
        let photographs = match self.photographs {
            Some(dir) => dir,
            None => assets_dir()?.join("photographs"),
        };
        let home = tempfile::tempdir()
            .map_err(|source| file("making a directory in", &std::env::temp_dir(), source))?;
        let (keys, data) = (home.path().join("keys"), home.path().join("data"));
        self.models.resolve()?;
        println!("Likeness, a guided tour. Everything below goes over gRPC.\n");
        KeyStore::new(&keys, None).init(&data)?;
        say("made fresh keys and a fresh data directory", None);

        let config = ServeConfig {
            limits: LimitArgs::DEFAULT,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: data.clone(),
            keys,
            root_key_command: None,
            models: self.models,
            workers: None,
            queue: 128,
            call_seconds: 60,
            drain_seconds: 10,
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
        let began = Instant::now();
        let opening = config.clone();
        let (engine, _) = tokio::task::spawn_blocking(move || likeness_server::open(&opening))
            .await
            .map_err(|_| Failure::Demo("opening failed unexpectedly".to_owned()))??;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|e| Failure::Unreachable(e.to_string()))?;
        let address = listener
            .local_addr()
            .map_err(|e| Failure::Unreachable(e.to_string()))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { likeness_server::serve(&config, engine, listener, async { drop(stopped.await) }).await }
        });
        say(
            &format!("loaded the models and started a server on {address}"),
            Some(began),
        );

        let channel = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Failure::Unreachable(e.to_string()))?
            .connect()
            .await
            .map_err(|e| Failure::Unreachable(e.to_string()))?;
        let key = credential::all_scopes(&engine.administration(), "the tour")?;
        let channel = credential::of(&key).on(channel);
        say(
            "made an API key for every call; without one, nobody is answered",
            None,
        );
        let tour = Tour {
            photographs,
            collections: CollectionServiceClient::new(channel.clone()),
            persons: PersonServiceClient::new(channel.clone()),
            matching: MatchingServiceClient::new(channel.clone()),
            erasures: ErasureServiceClient::new(channel),
            engine,
        };
        tour.walk().await?;

        let _ = stop.send(());
        serving
            .await
            .map_err(|_| Failure::Demo("the server ended unexpectedly".to_owned()))??;
        drop(home);
        println!("\nThe server has stopped; keys and data of the tour are removed.");
        Ok(())
    }
}

impl Tour {
    async fn walk(mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let request = v1::CreateCollectionRequest {
            name: COLLECTION.to_owned(),
            ..Default::default()
        };
        let made = self.collections.create_collection(request).await?.into_inner();
        let collection = made.collection.unwrap_or_default();
        let what = format!(
            "made the collection '{COLLECTION}': {} bits a face, threshold {:.3}",
            collection.bits, collection.threshold
        );
        say(&what, Some(began));

        let [barack, eileen, joe] = PEOPLE;
        println!("\nEnrolling");
        self.enroll(barack).await?;
        self.enroll(eileen).await?;

        println!("\nFinding");
        let (found, text, began) = self.search(PROBE).await?;
        expect(
            found == [barack.0],
            "the search must find the person enrolled, and nobody else",
        )?;
        say(
            &format!("{PROBE}, which is not enrolled, shows {text}"),
            Some(began),
        );
        let (found, text, began) = self.search(joe.2[0]).await?;
        expect(found.is_empty(), "a stranger must not be found")?;
        say(&format!("{}, a stranger, shows {text}", joe.2[0]), Some(began));
        self.enroll(joe).await?;
        let (found, text, began) = self.search(PROBE).await?;
        expect(found == [barack.0], "one more person must confuse nobody")?;
        say(&format!("{PROBE} still shows {text}"), Some(began));

        println!("\nVerifying");
        let same = self.verify(barack.0).await?;
        expect(same, "the same person must be verified")?;
        let same = self.verify(joe.0).await?;
        expect(!same, "another person must not be verified")?;

        println!("\nKept of each person, and nothing else");
        self.show_footprint()?;

        println!("\nErasing");
        let began = Instant::now();
        let request = v1::DeletePersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: barack.0.to_owned(),
            ..Default::default()
        };
        let erased = self.persons.delete_person(request).await?.into_inner();
        let receipt = erased.receipt.unwrap_or_default();
        let what = format!(
            "erased {}: the key of the record is overwritten; receipt {} of {} bytes, signed",
            barack.0,
            receipt.sequence,
            receipt.receipt.len()
        );
        say(&what, Some(began));
        let (found, text, began) = self.search(PROBE).await?;
        expect(found.is_empty(), "an erased person must not be found")?;
        say(&format!("{PROBE} shows {text}"), Some(began));
        let request = v1::GetPersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: barack.0.to_owned(),
        };
        let gone = self.persons.get_person(request).await;
        expect(
            gone.is_err_and(|status| status.code() == tonic::Code::NotFound),
            "an erased person must be unknown",
        )?;
        say(&format!("{} is unknown to the server", barack.0), None);
        self.prove(began).await
    }

    /// Waits for the purge, and verifies the log as anybody could who has it.
    async fn prove(&mut self, began: Instant) -> Result<(), Failure> {
        let status = loop {
            let request = v1::GetErasureStatusRequest {};
            let status = self.erasures.get_erasure_status(request).await?.into_inner();
            if status.unpurged == 0 {
                break status;
            }
            expect(
                began.elapsed() < PURGE_TIME_MAX,
                "the bytes must leave the data files in time",
            )?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        say("the sealed bytes have left the data files too", Some(began));
        let request = v1::ListErasureReceiptsRequest::default();
        let log = self
            .erasures
            .list_erasure_receipts(request)
            .await?
            .into_inner()
            .receipts
            .concat();
        let summary = chain::verify(&log, Some(&status.checkpoint), None)
            .map_err(|error| Failure::Demo(format!("the tour failed: {error}")))?;
        let what = format!(
            "verified the erasure log: {} receipts, {} erasure, {} purged",
            summary.size, summary.erased, summary.purged
        );
        say(&what, None);
        Ok(())
    }

    async fn enroll(&mut self, (person_id, name, photographs): (&str, &str, &[&str])) -> Result<(), Failure> {
        let request = v1::EnrollPersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: person_id.to_owned(),
            name: name.to_owned(),
            photographs: photographs
                .iter()
                .map(|photo| photograph(&self.photographs.join(photo)))
                .collect::<Result<_, _>>()?,
            all_or_nothing: true,
            ..Default::default()
        };
        let began = Instant::now();
        let reply = self.persons.enroll_person(request).await?.into_inner();
        let steps: Vec<String> = reply
            .call
            .unwrap_or_default()
            .steps
            .iter()
            .filter(|step| step.micros >= 100)
            .map(|step| format!("{} {:.1}", step.step, step.micros as f64 / 1e3))
            .collect();
        say(
            &format!(
                "{person_id} from {} ({} ms)",
                photographs.join(", "),
                steps.join(", ")
            ),
            Some(began),
        );
        Ok(())
    }

    async fn search(&mut self, photo: &str) -> Result<(Vec<String>, String, Instant), Failure> {
        let request = v1::SearchPersonsRequest {
            collections: vec![COLLECTION.to_owned()],
            photograph: Some(photograph(&self.photographs.join(photo))?),
            ..Default::default()
        };
        let began = Instant::now();
        let reply = self.matching.search_persons(request).await?.into_inner();
        let text = match reply.results.first().and_then(|r| r.matches.first()) {
            Some(best) => format!(
                "{} (similarity {})",
                best.name,
                similarity_text(best.similarity, best.estimate.as_ref())
            ),
            None => format!("nobody of the {} faces", reply.faces_searched),
        };
        Ok((
            reply
                .results
                .into_iter()
                .flat_map(|r| r.matches)
                .map(|m| m.person_id)
                .collect(),
            text,
            began,
        ))
    }

    async fn verify(&mut self, person_id: &str) -> Result<bool, Failure> {
        let request = v1::VerifyPersonRequest {
            collection: COLLECTION.to_owned(),
            person_id: person_id.to_owned(),
            photograph: Some(photograph(&self.photographs.join(PROBE))?),
            ..Default::default()
        };
        let began = Instant::now();
        let reply = self.matching.verify_person(request).await?.into_inner();
        let is = if reply.same_person { "is" } else { "is not" };
        let similarity = reply.similarity.map_or_else(
            || "not told".to_owned(),
            |similarity| format!("{similarity:.3}, {}", score_text(reply.estimate.as_ref())),
        );
        say(
            &format!("{PROBE} {is} {person_id} (similarity {similarity})"),
            Some(began),
        );
        Ok(reply.same_person)
    }

    fn show_footprint(&self) -> Result<(), Failure> {
        let collection = self
            .engine
            .collection(&Account::default(), &CollectionName::parse(COLLECTION)?)?;
        for (person_id, _, photographs) in PEOPLE {
            let kept = self.engine.footprint(&collection, &PersonId::parse(person_id)?)?;
            let sizes = photographs.iter().map(|photo| {
                let path = self.photographs.join(photo);
                std::fs::metadata(&path)
                    .map(|m| m.len())
                    .map_err(|e| file("reading", &path, e))
            });
            let received: u64 = sizes.collect::<Result<Vec<_>, _>>()?.iter().sum();
            let what = format!(
                "{person_id}: received {received} bytes; kept a sealed record of {} and a wrapped key of {}; \
                 {} a face in memory",
                kept.record, kept.slot, kept.template
            );
            say(&what, None);
        }
        Ok(())
    }
}

fn say(what: &str, began: Option<Instant>) {
    match began {
        Some(began) => println!("  {:8.1} ms  {what}", began.elapsed().as_secs_f64() * 1e3),
        None => println!("               {what}"),
    }
}

fn expect(holds: bool, what: &str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::Demo(format!("the tour failed: {what}")))
    }
}

fn file(doing: &'static str, path: &Path, source: std::io::Error) -> Failure {
    Failure::File {
        doing,
        path: path.to_owned(),
        source,
    }
}
