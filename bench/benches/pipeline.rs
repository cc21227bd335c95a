//! What each stage costs on a JPEG of 640x480 with one face, the models by themselves, and what
//! enrolling costs beyond decoding and models.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;

use criterion::{BatchSize, Criterion};
use likeness_bench::figures::Figures;
use likeness_bench::turns::Turns;
use likeness_bench::{assets, criterion, measures_all};
use likeness_engine::bench::{RawModel, Stages};
use likeness_engine::{
    Bits, Call, Checks, Choose, CollectionRef, Engine, PersonId, Profile, Protector, QualityLevel,
};
use tempfile::TempDir;

/// A photograph may take so many times what decoding and the models by themselves take.
const RATIO_MAX: f64 = 1.15;
/// Rounds in which whole and parts are timed in turn.
const ROUNDS: usize = 300;

/// Why nothing here can fail after the first time.
const FINE: &str = "the photograph shows one face";

/// Everything that is measured, ready.
struct Bench {
    photo: Vec<u8>,
    stages: Stages,
    protector: Protector,
    /// The same, lying on its side and not saying so.
    lying: Vec<u8>,
    /// As the main path asks them: detector, landmarks twice, embedder.
    models: Vec<RawModel>,
    /// How often they are asked for this photograph beyond that.
    beyond: usize,
}

fn main() {
    let mut criterion = criterion();
    let bench = Bench::new();
    bench.stages(&mut criterion);
    bench.models(&mut criterion);
    criterion.final_summary();
    if measures_all() {
        bench.figures();
    }
}

impl Bench {
    fn new() -> Self {
        let (dir, library) = (assets::asset("models"), assets::runtime());
        let photo = assets::photograph();
        let stages = Stages::load(&dir, &library).expect("the models load");
        let (models, beyond) = RawModel::load(&dir, &library, &photo).expect(FINE);
        Self {
            protector: Protector::new(&[7; 32], stages.dim()),
            models,
            beyond,
            photo,
            lying: assets::lying(),
            stages,
        }
    }

    /// A photograph to what is kept of it: what enrolling does before the store.
    fn template(&self, photo: &[u8]) {
        let embedding = self.stages.embedding(photo).expect(FINE);
        black_box(self.protector.protect(embedding, Bits::default()));
    }

    fn stages(&self, criterion: &mut Criterion) {
        let Self {
            photo,
            stages,
            protector,
            ..
        } = self;
        let image = stages.decode(photo).expect(FINE);
        let bounds = stages.detect(&image).expect(FINE);
        let points = stages.landmarks(&image, &bounds).expect(FINE);
        let aligned = || stages.align(&image, &points).expect(FINE);
        let embedding = || stages.embed(aligned()).expect(FINE);
        println!("a face of {:.0} px", bounds.width());

        let mut group = criterion.benchmark_group("stage");
        group.bench_function("decode", |b| b.iter(|| stages.decode(photo).expect(FINE)));
        group.bench_function("detect", |b| b.iter(|| stages.detect(&image).expect(FINE)));
        group.bench_function("landmarks", |b| {
            b.iter(|| stages.landmarks(&image, &bounds).expect(FINE));
        });
        group.bench_function("align", |b| b.iter(aligned));
        group.bench_function("embed", |b| {
            b.iter_batched(
                aligned,
                |face| stages.embed(face).expect(FINE),
                BatchSize::SmallInput,
            );
        });
        // Embeddings cannot be copied, so every one is made; ten milliseconds for a few microseconds.
        group.sample_size(10);
        group.bench_function("protect", |b| {
            let protect = |embedding| protector.protect(embedding, Bits::default());
            b.iter_batched(embedding, protect, BatchSize::NumIterations(32));
        });
        group.bench_function("probe", |b| {
            let probe = |embedding| protector.probe(embedding, Bits::default());
            b.iter_batched(embedding, probe, BatchSize::NumIterations(32));
        });
        group.sample_size(50);
        group.bench_function("photograph to template", |b| b.iter(|| self.template(photo)));
        group.finish();
    }

    fn models(&self, criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("model");
        // The landmarks are asked twice and measured once.
        let mut measured = Vec::new();
        for model in &self.models {
            if !measured.contains(&model.file()) {
                measured.push(model.file());
                group.bench_function(model.file(), |b| b.iter(|| model.run().expect(FINE)));
            }
        }
        group.finish();
    }

    fn figures(&self) {
        let mut figures = Figures::new(
            "pipeline",
            "A photograph of 640x480 (JPEG, 4:2:0) with one face, one core",
        );
        for (what, id) in [
            ("decode", "stage/decode"),
            ("detect", "stage/detect"),
            ("landmarks, two passes", "stage/landmarks"),
            ("align", "stage/align"),
            ("embed", "stage/embed"),
            ("protect", "stage/protect"),
            ("probe", "stage/probe"),
            ("photograph to template", "stage/photograph to template"),
            ("detector by itself", "model/fr_detect.onnx"),
            ("landmarks by itself, one pass", "model/fr_landmark.onnx"),
            ("embedder by itself", "model/fr_feature.onnx"),
        ] {
            figures.add_median(what, id);
        }
        let store = Store::new();
        let mut numbers = 0..;
        let mut enrol = || store.enrol(numbers.next().expect("endless"), &self.photo);
        let turns = Turns::take(
            ROUNDS,
            [
                &mut enrol,
                &mut || store.sync(),
                &mut || self.template(&self.photo),
                &mut || drop(self.stages.decode(&self.photo).expect(FINE)),
                &mut || self.models.iter().for_each(|model| model.run().expect(FINE)),
                &mut || self.template(&self.lying),
            ],
        );
        const TURNS: [&str; 6] = [
            "enrol: photograph to durable record",
            "append 4 KiB to a file, and sync it",
            "photograph to template",
            "decode",
            "models by themselves, as a face that stands upright needs them",
            "photograph on its side to template",
        ];
        for (number, what) in TURNS.into_iter().enumerate() {
            figures.add(format!("in turn: {what}"), turns.p50(number) * 1e3, "ms");
        }
        let ratio = turns.median(|[_, _, template, decode, models, _]| template / (decode + models));
        figures
            .add("in turn: photograph to template / (decode + models)", ratio, "")
            .goal_max = Some(RATIO_MAX);
        // None, or the photograph is no measure of the others.
        let beyond = self.beyond as f64;
        figures.add("models asked beyond that for this photograph", beyond, "times");
        // No goal: what it is beyond the row above is mostly the disk's.
        let ratio = turns.median(|[enrol, _, _, decode, models, _]| enrol / (decode + models));
        figures.add("in turn: enrol, synced / (decode + models)", ratio, "");
        figures.finish();
    }
}

/// An engine on the disk that Cargo builds on.
struct Store {
    engine: Engine,
    collection: CollectionRef,
    file: File,
    // Last, so that it is dropped last.
    _folder: TempDir,
}

impl Store {
    fn new() -> Self {
        let (folder, engine) = likeness_bench::engine();
        let collection = likeness_bench::collection(&engine);
        let file = File::create(folder.path().join("synced")).expect("a fresh folder");
        Self {
            engine,
            collection,
            file,
            _folder: folder,
        }
    }

    fn enrol(&self, number: u32, photo: &[u8]) {
        let id = PersonId::parse(&format!("person-{number}")).expect("a name");
        let mut call = Call::default();
        let (face, _) = self
            .engine
            .new_face(
                &self.collection,
                photo,
                Choose::Only.at(QualityLevel::None),
                Checks::default(),
                &mut call,
            )
            .expect(FINE);
        self.engine
            .enroll(&self.collection, &id, Profile::default(), vec![face], &mut call)
            .expect("nobody has that name");
    }

    /// What the disk itself takes for one synced write.
    fn sync(&self) {
        (&self.file).write_all(&[7; 4096]).expect("there is room");
        self.file.sync_data().expect("the disk works");
    }
}
