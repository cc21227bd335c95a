//! Inference: a tensor in, tensors out. The only file that names the inference runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use crate::manifest::{ModelSpec, Port, mismatch};
use crate::tensor::Tensor;
use likeness_types::error::{OperatorError, Result};
use likeness_types::wipe::{overwrite_what_is_freed, wipe};

/// Something that makes tensors of a tensor: ONNX Runtime, or a fake that is computed by hand.
pub(crate) trait Model: Send + Sync {
    /// Runs once. `input` has the shape of the manifest's input; the result has the manifest's outputs,
    /// in its order and shapes.
    ///
    /// # Errors
    /// [`OperatorError::Inference`].
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>>;
}

/// ONNX Runtime, loaded from a shared library. There is one a process.
pub(crate) struct Runtime(Environment);

/// The library this process has loaded. It is never unloaded: the runtime does not support that.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

impl Runtime {
    /// Loads the shared library, or returns the one that this process has loaded already.
    ///
    /// # Errors
    /// [`OperatorError`] if the file is no suitable library, or if another one is in use.
    pub(crate) fn load(library: &Path) -> Result<Self> {
        let library =
            fs::canonicalize(library).map_err(|error| OperatorError::file("opening", library, error))?;
        let mut loaded = unpoisoned(LOADED.lock());
        if let Some((path, environment)) = &*loaded {
            if *path != library {
                let found = library.display();
                return Err(mismatch(
                    "runtime",
                    "library",
                    format!("{}, in use already", path.display()),
                    found,
                ));
            }
            return Ok(Self(environment.clone()));
        }
        let broken = |found: String| mismatch("runtime", "library", "ONNX Runtime 1.17 or later", found);
        let environment = ort::init_from(&library)
            .map_err(|error| broken(error.to_string()))?
            .with_name("likeness")
            .with_telemetry(false)
            .build()
            .map_err(|error| broken(error.to_string()))?;
        overwrite_what_is_freed();
        *loaded = Some((library, environment.clone()));
        Ok(Self(environment))
    }

    /// Loads one model with `sessions` sessions, so that many calls can run it at once.
    ///
    /// # Errors
    /// [`OperatorError`] if the file is not the one of the manifest, or does not do what it says there.
    pub(crate) fn model(&self, dir: &Path, spec: &ModelSpec, sessions: usize) -> Result<OnnxModel> {
        let path = dir.join(&spec.file);
        let bytes = fs::read(&path).map_err(|error| OperatorError::file("reading", &path, error))?;
        // ORDER: digest before runtime, and the very bytes that were verified: the runtime's parser is
        // no place for a stranger's file, and the file may have changed by a second reading.
        let found = blake3::hash(&bytes);
        if found != spec.blake3 {
            return Err(mismatch(
                &spec.file,
                "BLAKE3 digest",
                spec.blake3.to_hex(),
                found.to_hex(),
            ));
        }
        let sessions: Vec<_> = (0..sessions.max(1))
            .map(|_| {
                self.session(&bytes)
                    .map_err(|error| mismatch(&spec.file, "graph", "an ONNX model", error))
            })
            .collect::<Result<_>>()?;
        check_graph(&sessions[0], spec)?;
        Ok(OnnxModel {
            name: spec.file.clone(),
            outputs: spec.outputs.clone(),
            free: Mutex::new(sessions),
            freed: Condvar::new(),
        })
    }

    /// One thread a session: these models are small, and parallel calls use the cores better than
    /// parallel operators (measured: two threads make one call faster on an idle machine and twice as
    /// slow on a busy one). Arena and memory pattern are off because a copy of an embedding was seen to
    /// survive in the arena.
    fn session(&self, bytes: &[u8]) -> std::result::Result<Session, String> {
        let cpu = ort::ep::CPU::default()
            .with_arena_allocator(false)
            .build()
            .error_on_failure();
        let text = |error: &dyn std::error::Error| error.to_string();
        Session::builder(&self.0)
            .map_err(|error| text(&error))?
            .with_execution_providers([cpu])
            .map_err(|error| text(&error))?
            .with_memory_pattern(false)
            .map_err(|error| text(&error))?
            .with_intra_threads(1)
            .map_err(|error| text(&error))?
            .commit_from_memory(bytes)
            .map_err(|error| text(&error))
    }
}

/// A model in ONNX Runtime.
///
/// `ort` lets one call at a time into a session, so there is a small pool of them; a call takes a free
/// one, or waits for it.
pub(crate) struct OnnxModel {
    name: String,
    outputs: Vec<Port>,
    free: Mutex<Vec<Session>>,
    freed: Condvar,
}

impl Model for OnnxModel {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let mut session = self.session();
        let session = session
            .0
            .as_mut()
            .expect("a borrowed session is there until it is given back");
        let input = TensorRef::from_array_view(input.view()).map_err(|error| self.failed(&error))?;
        let mut made = session
            .run(ort::inputs![input])
            .map_err(|error| self.failed(&error))?;
        self.outputs
            .iter()
            .map(|port| {
                let value = made
                    .get_mut(&port.name)
                    .expect("the graph's outputs were compared at load");
                let (_, values) = value
                    .try_extract_tensor_mut::<f32>()
                    .map_err(|error| self.failed(&error))?;
                let copy = Tensor::from_slice(&port.shape, values);
                let found = values.len();
                wipe(values); // the runtime frees its memory as it is
                copy.ok_or_else(|| {
                    self.failed(&format!(
                        "expected {:?} in '{}', found {found} values",
                        port.shape, port.name
                    ))
                })
            })
            .collect()
    }
}

impl OnnxModel {
    /// Runs once and leaves the answer unread: the model's own work, for the benchmarks.
    pub(crate) fn run_alone(&self, input: &Tensor) -> Result<()> {
        let mut session = self.session();
        let session = session
            .0
            .as_mut()
            .expect("a borrowed session is there until it is given back");
        let input = TensorRef::from_array_view(input.view()).map_err(|error| self.failed(&error))?;
        session
            .run(ort::inputs![input])
            .map(drop)
            .map_err(|error| self.failed(&error))
    }

    fn session(&self) -> Borrowed<'_> {
        let free = unpoisoned(self.free.lock());
        let mut free = unpoisoned(self.freed.wait_while(free, |free| free.is_empty()));
        Borrowed(free.pop(), self)
    }

    fn failed(&self, detail: &dyn std::fmt::Display) -> likeness_types::error::Error {
        OperatorError::Inference {
            model: self.name.clone(),
            detail: detail.to_string(),
        }
        .into()
    }
}

/// A session on loan; it goes back even if the borrower panics.
struct Borrowed<'a>(Option<Session>, &'a OnnxModel);

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        unpoisoned(self.1.free.lock()).extend(self.0.take());
        self.1.freed.notify_one();
    }
}

/// The lists behind these locks are whole after every line, so a panic elsewhere spoils nothing.
fn unpoisoned<G>(lock: std::result::Result<G, PoisonError<G>>) -> G {
    lock.unwrap_or_else(PoisonError::into_inner)
}

/// Compares the graph's own declaration with the manifest's.
fn check_graph(session: &Session, spec: &ModelSpec) -> Result<()> {
    let input = Port {
        name: spec.input.name.clone(),
        shape: spec.input.shape.to_vec(),
    };
    let [only] = session.inputs() else {
        return Err(mismatch(&spec.file, "inputs", 1, session.inputs().len()));
    };
    check_outlet(&spec.file, "input", &input, Some(only), || {
        describe(session.inputs())
    })?;
    for port in &spec.outputs {
        let outlet = session.outputs().iter().find(|outlet| outlet.name() == port.name);
        check_outlet(&spec.file, "output", port, outlet, || describe(session.outputs()))?;
    }
    Ok(())
}

fn check_outlet(
    file: &str,
    what: &'static str,
    port: &Port,
    outlet: Option<&Outlet>,
    found: impl Fn() -> String,
) -> Result<()> {
    let fits = outlet.is_some_and(|outlet| {
        outlet.name() == port.name
            && matches!(outlet.dtype(), ValueType::Tensor { ty: TensorElementType::Float32, shape, .. }
                if shape.len() == port.shape.len()
                    // -1 is a free dimension (the batch, usually): any size goes.
                    && shape.iter().zip(&port.shape).all(|(&found, &size)| found == -1 || found == size as i64))
    });
    if fits {
        return Ok(());
    }
    Err(mismatch(
        file,
        what,
        format!("'{}' f32 {:?}", port.name, port.shape),
        found(),
    ))
}

fn describe(outlets: &[Outlet]) -> String {
    let one = |outlet: &Outlet| match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => format!("'{}' {ty} {:?}", outlet.name(), &shape[..]),
        other => format!("'{}' {other}", outlet.name()),
    };
    outlets.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
