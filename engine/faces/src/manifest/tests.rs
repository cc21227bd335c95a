use super::*;

fn refusal(text: &str) -> String {
    Manifest::parse(text).expect_err("expected a refusal").to_string()
}

/// The default manifest with one mistake in it.
fn with(right: &str, wrong: &str) -> String {
    assert!(
        DEFAULT_MANIFEST.contains(right),
        "the default manifest has no {right}"
    );
    DEFAULT_MANIFEST.replacen(right, wrong, 1)
}

#[test]
fn the_default_manifest_is_valid() {
    let manifest = Manifest::parse(DEFAULT_MANIFEST).expect("valid");
    assert_eq!(manifest.embedder.input.colour, Colour::Bgr);
    assert_eq!(manifest.detector.input.colour, Colour::Rgb);
    assert_eq!(manifest.embedder.outputs[0].shape, [1, 512]);
}

#[test]
fn an_unknown_key_is_named_with_the_known_ones() {
    let message = refusal(&with(
        "role = \"detector\"",
        "role = \"detector\"\ncolor = \"rgb\"",
    ));
    assert!(
        message.contains("unknown field `color`") && message.contains("`input`"),
        "{message}"
    );
    let message = refusal(&with("mean = 127.0", "mean = 127.0, std = 1.0"));
    assert!(
        message.contains("unknown field `std`") && message.contains("`scale`"),
        "{message}"
    );
}

#[test]
fn every_mistake_names_what_was_expected_and_what_was_found() {
    let mistakes = [
        ("format = 1", "format = 2", "expected 1, found 2"),
        (
            "role = \"landmarks\"",
            "role = \"detector\"",
            "expected one Detector, found 2",
        ),
        (
            "file = \"fr_detect.onnx\"\nblake3",
            "file = \"../x.onnx\"\nblake3",
            "expected a file name beside",
        ),
        (
            "\nblake3 = \"cf3d",
            "\nblake3 = \"xy3d",
            "expected 64 hexadecimal digits, found xy3d",
        ),
        (
            "[1, 3, 240, 320]",
            "[2, 3, 240, 320]",
            "batch 1 and sides of 8 to 4096, found [2, 3, 240, 320]",
        ),
        (
            "colour = \"grey\"",
            "colour = \"rgb\"",
            "expected as many planes as the shape has, found Rgb",
        ),
        (
            "scale = 128.0",
            "scale = 0.0",
            "a positive scale, found (127.0, 0.0)",
        ),
        (
            "[1, 4420, 4]",
            "[1, 4421, 4]",
            "expected scores of [1, n, 2] and boxes of [1, n, 4]",
        ),
        (
            "kind = \"points-68\"",
            "kind = \"points-5\"",
            "unknown variant `points-5`",
        ),
        ("[1, 512]", "[1, 4096]", "dim of 1 to 2048"),
        (
            "align = [[38.2946",
            "align = [[138.2946",
            "expected five points inside the input",
        ),
        (
            "far_1e-4 = 0.411",
            "far_1e-4 = 0.3",
            "expected -1 < far_1e-3 <= far_1e-4 < 1",
        ),
        (
            "calibration = {",
            "# calibration = {",
            "expected align and calibration, found not both",
        ),
    ];
    for (right, wrong, expected) in mistakes {
        let message = refusal(&with(right, wrong));
        assert!(message.contains(expected), "{wrong}: {message}");
    }
}
