//! An operator's own models: a manifest, and no code; and what becomes of templates of other models.

#[path = "../engine/faces/src/testing/onnx.rs"]
mod onnx;

use std::fs;

use likeness_engine::{DEFAULT_MANIFEST, MANIFEST_FILE};
use tempfile::TempDir;
use tonic::Code;

use crate::support::child::{Home, Program, likeness};
use crate::support::pictures::sample;
use crate::support::server::Setup;
use crate::support::{Refused, asset, directory, refusal};

/// The default detector and landmarks, and an embedder of the operator's own: other names, another shape,
/// other colours, another normalisation.
fn own_models() -> TempDir {
    let dir = directory();
    // Eight features: the three mean colours, and five zeros.
    let mut matrix = [0.0; 24];
    (matrix[0], matrix[8 + 1], matrix[16 + 2]) = (1.0, 1.0, 1.0);
    let own = onnx::mean_colour_model(96, 80, &matrix);
    fs::write(dir.path().join("own.onnx"), &own).unwrap();
    for file in ["fr_detect.onnx", "fr_landmark.onnx"] {
        fs::copy(asset("models").join(file), dir.path().join(file)).unwrap();
    }
    let (others, _) = DEFAULT_MANIFEST
        .split_once("[[model]]\nrole = \"embedder\"")
        .expect("the last entry");
    let manifest = format!(
        r#"{others}
[[model]]
role = "embedder"
file = "own.onnx"
blake3 = "{}"
licence = "mine"
input = {{ name = "face", shape = [1, 3, 96, 80], colour = "rgb", mean = 0.0, scale = 255.0 }}
output = {{ kind = "embedding", values = {{ name = "features", shape = [1, 8] }} }}
align = [[26.0, 40.0], [54.0, 40.0], [40.0, 56.0], [29.0, 72.0], [51.0, 72.0]]
calibration = {{ far_1e-3 = 0.9, far_1e-4 = 0.95 }}
"#,
        blake3::hash(&own)
    );
    fs::write(dir.path().join(MANIFEST_FILE), manifest).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn another_embedder_serves_by_its_manifest_alone() {
    let models = own_models();
    let server = Setup::new().models(models.path()).start().await;
    let client = server.client().await;
    let collection = client.create("own").await;
    assert_eq!(collection.threshold, 0.95, "the manifest's calibration");
    let photo = sample("astronaut.png");
    let enrolled = client.enroll("own", "eileen", &[&photo]).await.expect("enrolled");
    let scheme = enrolled.call.expect("a call").scheme;
    assert!(scheme.contains("own"), "{scheme}");
    assert_eq!(client.found("own", &photo).await, ["eileen"]);
    assert!(client.compare(&photo, &photo).await.expect("compared").similarity > 0.999);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_other_models_are_never_compared_but_can_be_listed_and_erased() {
    let server = Setup::new().start().await;
    let client = server.client().await;
    client.create("staff").await;
    let photo = sample("astronaut.png");
    for person_id in ["eileen", "again"] {
        client
            .enroll("staff", person_id, &[&photo])
            .await
            .expect("enrolled");
    }
    drop(client);

    let models = own_models();
    let server = server.stop().await.models(models.path()).start().await;
    let client = server.client().await;
    let mismatch = Refused::new(Code::FailedPrecondition, "SCHEME_MISMATCH");
    assert_eq!(
        refusal::of(client.enroll("staff", "new", &[&photo]).await),
        mismatch
    );
    assert_eq!(
        refusal::of(client.add_faces("staff", "eileen", &[&photo]).await),
        mismatch
    );
    assert_eq!(refusal::of(client.search("staff", &photo).await), mismatch);
    assert_eq!(
        refusal::of(client.verify("staff", "eileen", &photo).await),
        mismatch
    );

    assert_eq!(client.people("staff").await, ["again", "eileen"]);
    assert_eq!(
        client.person("staff", "eileen").await.expect("kept").faces.len(),
        1
    );
    assert_eq!(client.delete("staff", "again").await.expect("erased"), 1);
    client.create("own").await;
    client
        .enroll("own", "eileen", &[&photo])
        .await
        .expect("in a collection of its own scheme");
    assert_eq!(client.found("own", &photo).await, ["eileen"]);
    drop(client);

    // Back to the models that made them: nothing was lost but what was erased.
    let mut setup = server.stop().await;
    setup.config.models.models = None;
    let server = setup.start().await;
    let client = server.client().await;
    assert_eq!(client.found("staff", &photo).await, ["eileen"]);
    assert_eq!(refusal::of(client.search("own", &photo).await), mismatch);
    assert_eq!(client.delete_collection("own").await.expect("erased"), 1);
}

#[test]
fn a_model_that_is_not_the_one_of_the_manifest_is_refused() {
    let home = Home::new();
    let models = own_models();
    let serve = || {
        let mut command = home.command();
        command.arg("--models").arg(models.path());
        Program::finish(&mut command, &[]).expect(78)
    };
    let own = models.path().join("own.onnx");
    let right = fs::read(&own).unwrap();
    let changed = [&right[..], b"more"].concat();
    fs::write(&own, &changed).unwrap();
    let said = serve().stderr;
    assert!(
        said.contains("own.onnx") && said.contains("BLAKE3 digest"),
        "{said}"
    );
    let (expected, found) = (blake3::hash(&right), blake3::hash(&changed));
    assert!(
        said.contains(&format!("expected {expected}, found {found}")),
        "{said}"
    );

    let mut verify = likeness();
    verify.args(["models", "verify", "--models"]).arg(models.path());
    let verified = Program::finish(&mut verify, &[]).expect(78);
    assert!(verified.stdout.contains("changed"), "{verified:?}");

    fs::remove_file(&own).unwrap();
    assert!(serve().stderr.contains("own.onnx"));
    fs::write(&own, &right).unwrap();
    let mut verify = likeness();
    verify
        .args(["models", "verify", "--json", "--models"])
        .arg(models.path());
    Program::finish(&mut verify, &[]).expect(0).json();

    let manifest = models.path().join(MANIFEST_FILE);
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("shape = [1, 8]", "shape = [1, 9]")).unwrap();
    let said = serve().stderr;
    assert!(said.contains("[1, 9]") && said.contains("[1, 8]"), "{said}");
}
