use super::*;
use crate::manifest::{Colour, Input};
use crate::testing::{mean_colour_model, runtime};
use likeness_types::error::Error;

const MATRIX: [f32; 6] = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// A directory with one tiny model, and what is true about it.
fn tiny() -> (tempfile::TempDir, ModelSpec) {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = mean_colour_model(8, 16, &MATRIX);
    fs::write(dir.path().join("tiny.onnx"), &bytes).expect("written");
    let spec = ModelSpec {
        file: "tiny.onnx".into(),
        blake3: blake3::hash(&bytes),
        input: Input {
            name: "face".into(),
            shape: [1, 3, 8, 16],
            colour: Colour::Rgb,
            mean: 0.0,
            scale: 1.0,
        },
        outputs: vec![Port {
            name: "features".into(),
            shape: vec![1, 2],
        }],
    };
    (dir, spec)
}

fn refusal(change: impl Fn(&mut ModelSpec)) -> String {
    let (dir, mut spec) = tiny();
    change(&mut spec);
    match runtime().model(dir.path(), &spec, 1) {
        Err(Error::Operator(error)) => error.to_string(),
        Err(other) => panic!("expected an operator's error, found {other}"),
        Ok(_) => panic!("expected an operator's error, found a model"),
    }
}

#[test]
fn a_model_computes_what_its_graph_says() {
    let (dir, spec) = tiny();
    let model = runtime().model(dir.path(), &spec, 1).expect("loads");
    let mut input = Tensor::filled(&[1, 3, 8, 16], 0.0);
    let plane = 8 * 16;
    input.values_mut()[..plane].fill(2.0);
    input.values_mut()[plane..2 * plane].fill(3.0);
    let outputs = model.run(&input).expect("runs");
    assert_eq!(outputs[0].values(), [2.0, 3.0]);
    assert_eq!(outputs[0].shape(), [1, 2]);
}

#[test]
fn more_calls_than_sessions_wait_for_one() {
    let (dir, spec) = tiny();
    let model = runtime().model(dir.path(), &spec, 2).expect("loads");
    std::thread::scope(|scope| {
        for value in 0..8 {
            let model = &model;
            scope.spawn(move || {
                for _ in 0..50 {
                    let outputs = model
                        .run(&Tensor::filled(&[1, 3, 8, 16], value as f32))
                        .expect("runs");
                    assert_eq!(outputs[0].values(), [value as f32; 2]);
                }
            });
        }
    });
    assert_eq!(unpoisoned(model.free.lock()).len(), 2);
}

#[test]
fn a_changed_file_is_refused_before_the_runtime_sees_it() {
    let (dir, spec) = tiny();
    fs::write(dir.path().join("tiny.onnx"), b"not even a model").expect("written");
    let Err(error) = runtime().model(dir.path(), &spec, 1) else {
        panic!("expected a refusal")
    };
    let message = error.to_string();
    assert!(
        message.contains(spec.blake3.to_hex().as_str()),
        "names the expected digest: {message}"
    );
    let found = blake3::hash(b"not even a model").to_hex();
    assert!(
        message.contains(found.as_str()),
        "names the found digest: {message}"
    );
}

#[test]
fn a_missing_file_is_refused_by_its_name() {
    assert!(refusal(|spec| spec.file = "absent.onnx".into()).contains("absent.onnx"));
}

#[test]
fn a_graph_that_differs_from_the_manifest_is_refused() {
    let message = refusal(|spec| spec.input.name = "input".into());
    assert!(
        message.contains("'input' f32 [1, 3, 8, 16]") && message.contains("'face' f32"),
        "{message}"
    );
    let message = refusal(|spec| spec.input.shape = [1, 3, 16, 8]);
    assert!(
        message.contains("[1, 3, 16, 8]") && message.contains("[1, 3, 8, 16]"),
        "{message}"
    );
    let message = refusal(|spec| spec.outputs[0].name = "output".into());
    assert!(
        message.contains("'output' f32 [1, 2]") && message.contains("'features' f32 [1, 2]"),
        "{message}"
    );
    let message = refusal(|spec| spec.outputs[0].shape = vec![1, 512]);
    assert!(
        message.contains("[1, 512]") && message.contains("[1, 2]"),
        "{message}"
    );
}

#[test]
fn bytes_that_are_no_model_are_refused_even_with_the_right_digest() {
    let (dir, mut spec) = tiny();
    fs::write(dir.path().join("tiny.onnx"), b"not even a model").expect("written");
    spec.blake3 = blake3::hash(b"not even a model");
    let Err(error) = runtime().model(dir.path(), &spec, 1) else {
        panic!("expected a refusal")
    };
    assert!(error.to_string().contains("expected an ONNX model"), "{error}");
}

#[test]
fn a_second_runtime_in_one_process_is_refused() {
    runtime();
    let dir = tempfile::tempdir().expect("a directory");
    let other = dir.path().join("libother.so");
    fs::write(&other, b"").expect("written");
    let Err(error) = Runtime::load(&other) else {
        panic!("expected a refusal")
    };
    assert!(error.to_string().contains("in use already"), "{error}");
}
