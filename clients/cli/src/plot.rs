//! The detection error trade-off of an evaluation, drawn as SVG and as PNG.

use std::error::Error;
use std::io::Cursor;
use std::sync::Once;

use image::{ImageFormat, RgbImage};
use likeness_engine::{Curve, DetPoint, Evaluation};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Width and height of the picture in pixels.
const SIZE: (u32, u32) = (1200, 900);

/// The family's generic name: the SVG leaves the choice to its viewer, and the PNG is drawn with the
/// font that this program brings along, for a server may have none.
const FONT: &str = "sans-serif";

const INK: RGBColor = RGBColor(45, 50, 60);
const GRID: RGBColor = RGBColor(216, 220, 226);
const COSINE: RGBColor = RGBColor(120, 130, 145);
const TEMPLATE: RGBColor = RGBColor(10, 95, 180);

/// The curve as an SVG document.
///
/// # Errors
/// When drawing fails.
pub fn det_svg(evaluation: &Evaluation) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, SIZE), evaluation)?;
    Ok(svg)
}

/// The curve as a PNG file.
///
/// # Errors
/// When drawing or encoding fails.
pub fn det_png(evaluation: &Evaluation) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let mut picture = RgbImage::new(SIZE.0, SIZE.1);
    draw(BitMapBackend::with_buffer(&mut picture, SIZE), evaluation)?;
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

fn draw<B>(backend: B, evaluation: &Evaluation) -> Result<(), Box<dyn Error + Send + Sync>>
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    bring_font();
    let (cosine, template) = (&evaluation.cosine, &evaluation.template.curve);
    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    // Rates finer than one trial in all are luck, even where several keys make them countable.
    let fmr_min = decade_below(1.0 / cosine.impostor_trials as f64);
    let fnmr_min = decade_below(1.0 / cosine.genuine_trials as f64);
    let title = format!(
        "Detection error trade-off: {} photographs of {} people",
        evaluation.photographs - evaluation.not_detected,
        evaluation.people
    );
    let mut chart = ChartBuilder::on(&area)
        .caption(title, text(30))
        .margin(24)
        .margin_right(48)
        .x_label_area_size(70)
        .y_label_area_size(100)
        .build_cartesian_2d((fmr_min..1.0).log_scale(), (fnmr_min..1.0).log_scale())?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(text(20))
        .axis_desc_style(text(24))
        .x_desc("false match rate (impostors accepted)")
        .y_desc("false non-match rate (genuine rejected)")
        .x_label_formatter(&percent)
        .y_label_formatter(&percent)
        .draw()?;
    let bits = evaluation.template.bits;
    for (name, curve, colour) in [
        ("plain cosine".to_owned(), cosine, COSINE),
        (
            format!("{bits}-bit template, probe against stored"),
            template,
            TEMPLATE,
        ),
    ] {
        let line = colour.stroke_width(3);
        chart
            .draw_series(LineSeries::new(steps(&curve.det, fmr_min, fnmr_min), line))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 36, y)], line));
        chart.draw_series(operating_points(curve).map(|point| Circle::new(point, 6, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(24)
        .legend_area_size(44)
        .label_font(text(22))
        .background_style(WHITE)
        .border_style(GRID)
        .draw()?;
    area.present()?;
    Ok(())
}

/// The curve as it is counted: a stair, and nothing where a rate is zero, which no logarithm shows.
fn steps(det: &[DetPoint], fmr_min: f64, fnmr_min: f64) -> Vec<(f64, f64)> {
    let mut stair: Vec<(f64, f64)> = Vec::with_capacity(det.len() * 2);
    for point in det
        .iter()
        .filter(|point| point.fmr >= fmr_min && point.fnmr >= fnmr_min)
    {
        if let Some((_, fnmr)) = stair.last().copied() {
            stair.push((point.fmr, fnmr));
        }
        stair.push((point.fmr, point.fnmr));
    }
    stair
}

/// The rates that the evaluation reports, as points on the curve.
fn operating_points(curve: &Curve) -> impl Iterator<Item = (f64, f64)> {
    let rates = curve
        .tar
        .iter()
        .filter_map(|(far, tar)| Some((far.parse().ok()?, 1.0 - tar)));
    rates.filter(|(_, fnmr)| *fnmr > 0.0)
}

/// The end of an axis: the power of ten below a rate, leaving one decade at least.
/// A hair below it, or the library's rounding drops the label at the axis' end.
fn decade_below(rate: f64) -> f64 {
    10f64.powf(rate.log10().floor()).min(0.1) * 0.999
}

/// 0.001 as "0.1 %".
fn percent(rate: &f64) -> String {
    // Cut the noise of the logarithm, then the zeros that are left.
    let digits = format!("{:.6}", rate * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

fn text(size_px: i32) -> TextStyle<'static> {
    (FONT, size_px).into_font().color(&INK)
}

fn bring_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error would mean that the font cannot be read; the PNG's drawing says so then.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

#[cfg(test)]
mod tests {
    use likeness_engine::TemplateCurve;

    use super::*;

    fn evaluation() -> Evaluation {
        let curve = |worse: f64| Curve {
            tar: [
                ("1e-2", 1.0 - 0.01 * worse),
                ("1e-3", 1.0 - 0.03 * worse),
                ("1e-4", 1.0 - 0.1 * worse),
            ]
            .into(),
            threshold: [("1e-2", 0.2), ("1e-3", 0.3), ("1e-4", 0.4)].into(),
            accuracy: 0.99,
            accuracy_threshold: 0.3,
            genuine_trials: 2_000,
            impostor_trials: 200_000,
            det: (0..60)
                .map(|i| 10f64.powf(-f64::from(i) / 12.0))
                .map(|fmr| DetPoint {
                    threshold: 0.0,
                    fmr,
                    fnmr: worse * 0.001 / fmr.sqrt(),
                })
                .rev()
                .collect(),
        };
        Evaluation {
            photographs: 100,
            people: 30,
            not_detected: 1,
            not_detected_reasons: [("no-face", 1)].into(),
            accuracy: 0.99,
            cosine: curve(1.0),
            template: TemplateCurve {
                bits: 512,
                keys: 2,
                tar_by_key: [].into(),
                curve: curve(2.0),
            },
            quality: [].into(),
            persons: None,
        }
    }

    #[test]
    fn the_svg_names_its_axes_and_curves() {
        let svg = det_svg(&evaluation()).expect("drawn");
        for text in [
            "99 photographs of 30 people",
            "false match rate",
            "false non-match rate",
            "plain cosine",
            "512-bit template",
            "0.1 %",
        ] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn the_png_shows_both_curves_and_text_without_a_system_font() {
        let png = det_png(&evaluation()).expect("drawn");
        let picture = image::load_from_memory(&png).expect("a PNG").to_rgb8();
        assert_eq!(picture.dimensions(), SIZE);
        for colour in [COSINE, TEMPLATE] {
            assert!(
                picture
                    .pixels()
                    .filter(|p| p.0 == [colour.0, colour.1, colour.2])
                    .count()
                    > 1000
            );
        }
        let caption = picture
            .enumerate_pixels()
            .filter(|(_, y, p)| *y < 50 && p.0[0] < 100)
            .count();
        assert!(caption > 500, "{caption} dark pixels where the caption stands");
    }

    #[test]
    fn the_smallest_evaluation_can_be_drawn() {
        let mut evaluation = evaluation();
        for curve in [&mut evaluation.cosine, &mut evaluation.template.curve] {
            (curve.genuine_trials, curve.impostor_trials) = (1, 1);
            curve.det = vec![DetPoint {
                threshold: 0.5,
                fmr: 0.0,
                fnmr: 0.0,
            }];
        }
        det_png(&evaluation).expect("drawn");
    }

    #[test]
    fn rates_are_labelled_in_percent() {
        let labels = [1.0, 0.1, 0.01, 0.000_999_999_999, 1e-6].map(|rate| percent(&rate));
        assert_eq!(labels, ["100 %", "10 %", "1 %", "0.1 %", "0.0001 %"]);
    }
}
