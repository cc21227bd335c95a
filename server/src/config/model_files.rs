//! Where models and the inference runtime are.

use std::env;
use std::path::PathBuf;

use clap::Args;

/// Why models and runtime have no place.
#[derive(Debug, thiserror::Error)]
pub enum ModelFilesError {
    /// The environment names no directory for assets.
    #[error(
        "no assets directory: expected --to, LIKENESS_ASSETS, LIKENESS_CACHE, XDG_CACHE_HOME or HOME, found none set"
    )]
    NoDirectory,
    /// Nothing is where models or runtime are expected.
    #[error(
        "{what}: nothing at {path}; `likeness models fetch` obtains the default ones, {option} names others"
    )]
    Absent {
        /// What is missing, for people.
        what: &'static str,
        /// The place where it was expected.
        path: PathBuf,
        /// The option that names another place.
        option: &'static str,
    },
}

/// The default directory of models, runtime and sample photographs: `LIKENESS_ASSETS`, or `assets` in the cache
/// directory, which is `LIKENESS_CACHE` or `likeness` in the user's cache.
///
/// # Errors
/// [`ModelFilesError::NoDirectory`] when the environment names no place.
pub fn assets_dir() -> Result<PathBuf, ModelFilesError> {
    assets_dir_in(|name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    })
}

fn assets_dir_in(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, ModelFilesError> {
    let cache = || variable("LIKENESS_CACHE");
    let xdg = || variable("XDG_CACHE_HOME").map(|cache| cache.join("likeness"));
    let home = || variable("HOME").map(|home| home.join(".cache/likeness"));
    variable("LIKENESS_ASSETS")
        .or_else(|| {
            cache()
                .or_else(xdg)
                .or_else(home)
                .map(|cache| cache.join("assets"))
        })
        .ok_or(ModelFilesError::NoDirectory)
}

/// Where models and runtime are.
#[derive(Debug, Clone, Args)]
pub struct ModelFiles {
    /// Directory with the models and, if they are not the default ones, their models.toml
    /// [default: `models` in the assets directory]
    #[arg(long, env = "LIKENESS_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,

    /// ONNX Runtime's shared library [default: `runtime/libonnxruntime.so` in the assets directory]
    #[arg(long, env = "LIKENESS_RUNTIME", value_name = "FILE")]
    pub runtime: Option<PathBuf>,
}

impl ModelFiles {
    /// The models' directory and the runtime, as given or in the assets directory.
    ///
    /// # Errors
    /// Neither given nor an assets directory known; or nothing is there, as before the first fetch.
    pub fn resolve(&self) -> Result<(PathBuf, PathBuf), ModelFilesError> {
        let within = |given: &Option<PathBuf>, default: &str| match given {
            Some(path) => Ok(path.clone()),
            None => assets_dir().map(|assets| assets.join(default)),
        };
        let models = within(&self.models, "models")?;
        let runtime = within(&self.runtime, "runtime/libonnxruntime.so")?;
        for (what, path, option) in [
            ("models", &models, "--models"),
            ("ONNX Runtime", &runtime, "--runtime"),
        ] {
            if !path.exists() {
                let path = path.clone();
                return Err(ModelFilesError::Absent { what, path, option });
            }
        }
        Ok((models, runtime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_the_first_that_the_environment_names() {
        let all = [
            ("LIKENESS_ASSETS", "/a", "/a"),
            ("LIKENESS_CACHE", "/c", "/c/assets"),
            ("XDG_CACHE_HOME", "/x", "/x/likeness/assets"),
            ("HOME", "/h", "/h/.cache/likeness/assets"),
        ];
        for first in 0..all.len() {
            let set = |name: &str| {
                all[first..]
                    .iter()
                    .find(|(key, ..)| *key == name)
                    .map(|(_, value, _)| PathBuf::from(value))
            };
            assert_eq!(
                assets_dir_in(set).expect("a directory"),
                PathBuf::from(all[first].2)
            );
        }
        assert!(matches!(
            assets_dir_in(|_| None),
            Err(ModelFilesError::NoDirectory)
        ));
    }
}
