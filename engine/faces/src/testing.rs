//! Shared parts of the tests: the assets, fakes, and an ONNX file of a few bytes.

pub(crate) mod onnx;

use std::path::PathBuf;
use std::sync::Mutex;

use crate::model::{Model, Runtime};
use crate::tensor::Tensor;
use likeness_types::error::Result;

pub(crate) use onnx::mean_colour_model;

/// A file that `make assets` has fetched. A missing one fails the test: a suite that skips in silence
/// proves nothing.
pub(crate) fn asset(name: &str) -> PathBuf {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let assets = variable("LIKENESS_ASSETS").or_else(|| Some(cache()?.join("likeness/assets")));
    let path = assets.expect("LIKENESS_ASSETS or HOME is set").join(name);
    assert!(path.exists(), "{} is missing: run `make assets`", path.display());
    path
}

/// The runtime that `make assets` has fetched.
pub(crate) fn runtime() -> Runtime {
    Runtime::load(&asset("runtime/libonnxruntime.so")).expect("the fetched runtime loads")
}

/// A model that answers the same every time, and keeps a copy of what it was asked.
pub(crate) struct Fake {
    pub answers: Vec<(Vec<usize>, Vec<f32>)>,
    pub asked: std::sync::Arc<Mutex<Vec<Vec<f32>>>>,
}

impl Fake {
    pub(crate) fn answering(answers: &[(&[usize], &[f32])]) -> Self {
        let answers = answers
            .iter()
            .map(|(shape, values)| (shape.to_vec(), values.to_vec()))
            .collect();
        Self {
            answers,
            asked: Default::default(),
        }
    }
}

impl Model for Fake {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        self.asked
            .lock()
            .expect("no test panics here")
            .push(input.values().to_vec());
        let tensor = |(shape, values): &(Vec<usize>, Vec<f32>)| {
            Tensor::from_slice(shape, values).expect("a shape that fits")
        };
        Ok(self.answers.iter().map(tensor).collect())
    }
}
