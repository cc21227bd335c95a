//! `likeness eval`: how well the models and the templates tell people apart.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use likeness_engine::{Bits, Evaluation, Evaluator, Limits, Looks, PersonCurves, Pipeline, QualityLevel};
use likeness_server::config::ModelFiles;

use super::Outcome;
use super::exit::Failure;
use crate::plot;

const EXAMPLES: &str = "\
Examples:
  likeness eval photographs/
  likeness eval photographs/ --bits 2048 --plot det --json

Of each photograph the face nearest the centre is taken. Plain cosines are those of the features, which
are never kept; the template's figures are those of a probe against stored bits, both ways round.";

/// Measure accuracy on labelled photographs, DIR/PERSON/PHOTOGRAPH
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalCommand {
    /// A folder for each person, with the person's photographs
    dir: PathBuf,
    /// Template size: 256, 512, 1024 or 2048
    #[arg(long, default_value_t = 1024)]
    bits: u32,
    /// Number of projection keys over which the template's figures are pooled
    #[arg(long, default_value = "4")]
    keys: NonZeroU8,
    /// Store the mean of each face and its mirror image, as `enroll --mirror` does
    #[arg(long)]
    mirror: bool,
    /// Draw the DET curves to FILE.svg and FILE.png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    models: ModelFiles,
}

impl EvalCommand {
    /// Carries the command out.
    pub fn run(self) -> Result<Outcome, Failure> {
        let bits = Bits::parse(self.bits)?;
        let (models, runtime) = self.models.resolve()?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let pipeline = Pipeline::load(&models, &runtime, Limits::default(), workers)?;
        let bar = ProgressBar::no_length().with_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} photographs, {eta} left")
                .expect("the template is well-formed"),
        );
        let evaluation = Evaluator {
            pipeline: &pipeline,
            bits,
            keys: self.keys,
            stored: if self.mirror {
                Looks::Mirrored
            } else {
                Looks::Plain
            },
            progress: &|done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            },
        }
        .run(&self.dir)?;
        bar.finish_and_clear();
        let mut text = summary(&evaluation);
        if let Some(base) = &self.plot {
            for (extension, bytes) in [
                ("svg", plot::det_svg(&evaluation).map(String::into_bytes)),
                ("png", plot::det_png(&evaluation)),
            ] {
                let path = base.with_added_extension(extension);
                let bytes = bytes.map_err(|e| Failure::Usage(format!("drawing {}: {e}", path.display())))?;
                std::fs::write(&path, bytes).map_err(|source| Failure::File {
                    doing: "writing",
                    path: path.clone(),
                    source,
                })?;
                let _ = writeln!(text, "drew {}", path.display());
            }
        }
        let json = serde_json::to_value(&evaluation).expect("numbers and strings serialise");
        Ok(Outcome::done(json, text))
    }
}

fn summary(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "{} photographs of {} people, {} without a face; balanced accuracy {:.2} %\n",
        evaluation.photographs,
        evaluation.people,
        evaluation.not_detected,
        evaluation.accuracy * 100.0
    );
    let _ = writeln!(text, "TAR in % at a false accept rate of");
    let curves = [
        ("cosine".to_owned(), &evaluation.cosine),
        (
            format!("{} bits", evaluation.template.bits),
            &evaluation.template.curve,
        ),
    ];
    for (name, curve) in curves {
        let _ = write!(text, "  {name:12}");
        for (rate, tar) in &curve.tar {
            let _ = write!(text, "  {rate}: {:.2}", tar * 100.0);
        }
        let _ = writeln!(
            text,
            "   ({} genuine, {} impostor)",
            curve.genuine_trials, curve.impostor_trials
        );
    }
    if let Some(persons) = &evaluation.persons {
        text.push_str(&persons_summary(persons));
    }
    levels(evaluation, &mut text);
    text
}

/// A line for each level of the quality gate.
fn levels(evaluation: &Evaluation, text: &mut String) {
    let _ = writeln!(
        text,
        "Photographs refused at each quality level, and TAR at 1e-4 of the others"
    );
    for level in QualityLevel::ALL {
        let figures = &evaluation.quality[level.name()];
        let tar = |tar: &BTreeMap<&str, f64>| match tar.get("1e-4") {
            Some(tar) => format!("{:.2} %", tar * 100.0),
            None => "-".to_owned(),
        };
        let _ = write!(
            text,
            "  {:6}  {:5.1} %  cosine {}  {} bits {} ",
            level.name(),
            figures.share_rejected * 100.0,
            tar(&figures.cosine_tar),
            evaluation.template.bits,
            tar(&figures.template_tar)
        );
        for (reason, count) in &figures.reasons {
            let _ = write!(text, " {reason} {count}");
        }
        text.push('\n');
    }
}

fn persons_summary(persons: &PersonCurves) -> String {
    let mut text = format!(
        "people with three photographs or more, {} of them, by template:\n",
        persons.people
    );
    let ways = [
        ("one face", &persons.one_face),
        ("best face", &persons.best_face),
        ("fused", &persons.fused),
    ];
    for (name, curve) in ways {
        let _ = write!(text, "  {name:12}");
        for (rate, tar) in &curve.tar {
            let _ = write!(
                text,
                "  {rate}: {:.2} from {:.3}",
                tar * 100.0,
                curve.threshold[rate]
            );
        }
        let _ = writeln!(
            text,
            "   ({} genuine, {} impostor)",
            curve.genuine_trials, curve.impostor_trials
        );
    }
    text
}
