//! `likeness calibrate`: what similarities mean, counted on labelled photographs.

use std::fmt::Write as _;
use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use likeness_engine::{
    Bits, CALIBRATION_FILE, CalibrationReport, Calibrator, Limits, Pipeline, ScoringReport,
};
use likeness_server::config::ModelFiles;

use super::Outcome;
use super::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  likeness calibrate photographs/
  likeness calibrate photographs/ --output models/calibration.toml

With 1,000 people and more, the output beside the models makes a server's scores and false accept rates
those of your own cameras and people. It holds numbers about the whole folder, and nothing of anybody in it.";

/// Calibrate scores on labelled photographs, DIR/PERSON/PHOTOGRAPH
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CalibrateCommand {
    /// A folder for each person, with the person's photographs
    dir: PathBuf,
    /// Template size: 256, 512, 1024 or 2048 [default: all]
    #[arg(long)]
    bits: Option<u32>,
    /// Number of projection keys over which the templates' figures are pooled
    #[arg(long, default_value = "4")]
    keys: NonZeroU8,
    /// Do not calibrate on half of the people and test on the others
    #[arg(long)]
    no_holdout: bool,
    /// Write the calibration, to be kept as calibration.toml beside the models
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    models: ModelFiles,
}

impl CalibrateCommand {
    /// Carries the command out.
    pub fn run(self) -> Result<Outcome, Failure> {
        let bits = match self.bits {
            Some(bits) => vec![Bits::parse(bits)?],
            None => Bits::ALL.to_vec(),
        };
        let (models, runtime) = self.models.resolve()?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let pipeline = Pipeline::load(&models, &runtime, Limits::default(), workers)?;
        let bar = ProgressBar::no_length().with_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} photographs, {eta} left")
                .expect("the template is well-formed"),
        );
        let report = Calibrator {
            pipeline: &pipeline,
            bits,
            keys: self.keys,
            holdout: !self.no_holdout,
            progress: &|done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            },
        }
        .run(&self.dir)?;
        bar.finish_and_clear();
        let mut text = summary(&report);
        if let Some(path) = self.output {
            let made =
                format!("# Made by `likeness calibrate`; goes beside the models as {CALIBRATION_FILE}.\n");
            std::fs::write(&path, made + &report.document).map_err(|source| Failure::File {
                doing: "writing",
                path: path.clone(),
                source,
            })?;
            let _ = writeln!(text, "wrote {}", path.display());
        }
        let json = serde_json::to_value(&report).expect("numbers and strings serialise");
        Ok(Outcome::done(json, text))
    }
}

fn summary(report: &CalibrationReport) -> String {
    let mut text = format!(
        "{} photographs of {} people, {} without a face: {} impostor pairs, {} genuine\n\
         rates below {:.1e} are extrapolated; intervals are of 95 %, by drawing people again\n",
        report.photographs,
        report.people,
        report.not_detected,
        report.impostor_pairs,
        report.genuine_pairs,
        report.supported_far
    );
    report
        .scorings
        .iter()
        .for_each(|scoring| scoring_text(&mut text, scoring));
    text.push_str("people with several stored faces, at the similarity of one face's rate\n");
    for several in &report.several_faces {
        let _ = writeln!(
            text,
            "  {} bits, {} faces, stated {:.0e}: best face {:.1e} (TAR {:.2} %), together {:.1e} (TAR {:.2} %); \
             {} people, {} pairs",
            several.bits,
            several.faces,
            several.stated,
            several.best_face_far,
            several.best_face_tar * 100.0,
            several.fused_far,
            several.fused_tar * 100.0,
            several.people,
            several.impostor_pairs
        );
    }
    text
}

fn scoring_text(text: &mut String, scoring: &ScoringReport) {
    let _ = writeln!(text, "{}", scoring.scoring);
    for rate in &scoring.rates {
        let _ = write!(text, "  FAR {:.0e}: similarity {:.3}", rate.far, rate.similarity);
        if let Some(interval) = rate.similarity_interval {
            let _ = write!(text, " ({:.3} to {:.3})", interval.0, interval.1);
        }
        if let Some(interval) = rate.far_interval {
            let _ = write!(text, ", rate {:.1e} to {:.1e}", interval.0, interval.1);
        }
        let _ = write!(
            text,
            ", TAR {:.2} % ({:.2} to {:.2})",
            rate.tar * 100.0,
            rate.tar_interval.0 * 100.0,
            rate.tar_interval.1 * 100.0
        );
        text.push_str(if rate.extrapolated {
            ", extrapolated\n"
        } else {
            "\n"
        });
    }
    for test in &scoring.holdout {
        let _ = writeln!(
            text,
            "  stated {:.0e}, on other people {:.2e} (halves {:.2e}, {:.2e}): factor {:.2}",
            test.stated, test.measured, test.measured_by_half[0], test.measured_by_half[1], test.factor
        );
    }
}
