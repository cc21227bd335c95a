use proptest::prelude::*;

use super::*;
use crate::manifest::DEFAULT_MANIFEST;

const STATED: StatedRates = StatedRates {
    far_1e3: 0.335,
    far_1e4: 0.411,
};

fn manifest() -> Manifest {
    Manifest::parse(DEFAULT_MANIFEST).expect("valid")
}

fn default() -> Calibration {
    Calibration::of(&manifest(), None).expect("valid")
}

fn refusal(text: &str) -> String {
    Calibration::of(&manifest(), Some(text))
        .expect_err("expected a refusal")
        .to_string()
}

/// The default calibration with one mistake in it.
fn with(right: &str, wrong: &str) -> String {
    assert!(DEFAULT_CALIBRATION.contains(right), "no {right}");
    DEFAULT_CALIBRATION.replacen(right, wrong, 1)
}

fn any_scoring() -> impl Strategy<Value = Scoring> {
    prop::sample::select(Scoring::all().collect::<Vec<_>>())
}

/// The default calibration, and one of two points only.
fn any_calibration() -> impl Strategy<Value = Calibration> {
    prop::sample::select(vec![default(), Calibration::stated(STATED)])
}

proptest! {
    #[test]
    fn a_greater_similarity_never_has_a_greater_rate_or_a_lower_score(
        calibration in any_calibration(), scoring in any_scoring(), a in -1.0f32..=1.0, b in -1.0f32..=1.0
    ) {
        let (low, high) = (a.min(b), a.max(b));
        let [low, high] = [low, high].map(|s| calibration.estimate(scoring, s, Some(1000)));
        prop_assert!(high.far <= low.far && high.score >= low.score && high.fpir <= low.fpir);
    }

    #[test]
    fn a_rate_and_its_similarity_are_each_others_inverse(
        calibration in any_calibration(), scoring in any_scoring(), log in -9.0f64..-0.31
    ) {
        let far = 10f64.powf(log);
        let similarity = calibration.similarity(scoring, far);
        // The least similarity that keeps the rate; 1 where even the short templates' equals do not.
        prop_assert!(calibration.estimate(scoring, similarity, None).far <= far || similarity == 1.0);
        prop_assert!(calibration.estimate(scoring, similarity.next_down(), None).far > far);
        let score = Limit::of_score((20.0 - 10.0 * log).min(100.0) as f32).expect("a score");
        let by_score = score.similarity(&calibration, scoring, 0);
        prop_assert!(log < -8.0 || (by_score - similarity).abs() < 1e-5);
    }

    #[test]
    fn a_rate_of_searches_is_kept_by_the_limit_for_it(
        scoring in any_scoring(), log in -6.0f64..-0.31, faces in 1u64..1_000_000
    ) {
        let fpir = 10f64.powf(log);
        let limit = Limit::of_fpir(fpir).expect("a rate").similarity(&default(), scoring, faces);
        let estimate = default().estimate(scoring, limit, Some(faces));
        let kept = estimate.fpir.expect("of a search");
        prop_assert!(kept <= fpir * (1.0 + 1e-9) || limit == 1.0, "{kept} of {fpir}");
        prop_assert!(kept <= estimate.far * faces as f64 * (1.0 + 1e-9));
    }

    #[test]
    fn every_estimate_stays_in_its_range(scoring in any_scoring(), similarity in any::<f32>(), faces in any::<u64>()) {
        let estimate = default().estimate(scoring, similarity, Some(faces));
        prop_assert!((0.0..=100.0).contains(&estimate.score));
        prop_assert!(estimate.far > 0.0 && estimate.far <= 1.0);
        prop_assert!(estimate.fpir.is_some_and(|fpir| (0.0..=1.0).contains(&fpir)));
    }
}

#[test]
fn what_is_no_similarity_resembles_everybody_or_nobody_and_never_more() {
    for (similarity, score) in [
        (f32::NAN, 20.0),
        (f32::NEG_INFINITY, 20.0),
        (-1.0, 20.0),
        (1.0, 100.0),
        (f32::INFINITY, 100.0),
    ] {
        let estimate = default().estimate(Scoring::Photographs, similarity, None);
        assert_eq!((estimate.score, estimate.fpir), (score, None), "{similarity}");
    }
}

#[test]
fn sixty_is_one_in_ten_thousand_and_ten_more_is_ten_times_rarer() {
    for (far, expected) in [
        (1.0, 20.0),
        (1e-3, 50.0),
        (1e-4, 60.0),
        (1e-5, 70.0),
        (1e-12, 100.0),
    ] {
        assert!((score(far) - expected).abs() < 1e-4, "{far}");
    }
    let similarity = default().similarity(Scoring::Photographs, 1e-4);
    let estimate = default().estimate(Scoring::Photographs, similarity, None);
    assert!((estimate.score - 60.0).abs() < 0.01 && (estimate.far / 1e-4 - 1.0).abs() < 1e-3);
}

#[test]
fn estimates_are_marked_exactly_beyond_what_thirty_pairs_show() {
    let calibration = default();
    let counted = calibration.counted_on().expect("counted");
    let supported = 30.0 / counted.impostor_pairs as f64;
    assert!(
        (supported - 5.5e-5).abs() < 1e-6,
        "half a million pairs: {supported}"
    );
    // Fused scores need people with several photographs, of whom there are fewer.
    let of_one = |scoring: &Scoring| !matches!(scoring, Scoring::Fused(_));
    for scoring in Scoring::all().filter(of_one) {
        for (far, marked) in [
            (5.6e-5, false),
            (1e-4, false),
            (0.5, false),
            (5.4e-5, true),
            (1e-9, true),
        ] {
            let similarity = calibration.similarity(scoring, far);
            let estimate = calibration.estimate(scoring, similarity, None);
            assert_eq!(estimate.extrapolated, marked, "{scoring:?} at {far}");
        }
    }
}

#[test]
fn two_similarities_of_a_manifest_are_a_line_and_marked_throughout() {
    let calibration = Calibration::stated(STATED);
    assert_eq!(calibration.counted_on(), None);
    for (similarity, far) in [(0.335, 1e-3), (0.411, 1e-4), (0.487, 1e-5), (0.259, 1e-2)] {
        let estimate = calibration.estimate(Scoring::Photographs, similarity, None);
        assert!(
            (estimate.far / far - 1.0).abs() < 1e-4 && estimate.extrapolated,
            "{estimate:?}"
        );
    }
    let one_point = StatedRates {
        far_1e3: 0.4,
        far_1e4: 0.4,
    };
    let estimate = Calibration::stated(one_point).estimate(Scoring::Photographs, 0.4, None);
    assert!((estimate.far / 1e-4 - 1.0).abs() < 1e-4);
}

#[test]
fn the_line_of_two_points_is_of_the_right_order_for_every_scoring() {
    let stated = Calibration::stated(STATED);
    for scoring in Scoring::all() {
        let similarity = default().similarity(scoring, 1e-4);
        let far = stated.estimate(scoring, similarity, None).far;
        assert!(far > 0.5e-4 && far < 6e-4, "{scoring:?}: {far}");
    }
}

#[test]
fn a_calibration_of_another_embedder_is_refused() {
    let digest = manifest().embedder.blake3.to_string();
    let message = refusal(&with(&digest, &"ab".repeat(32)));
    let named = format!("embedder: expected {digest}, found {}", "ab".repeat(32));
    assert!(message.contains(&named), "{message}");
    // The default calibration is passed over beside another embedder, whose manifest then speaks for it.
    let other = DEFAULT_MANIFEST.replace(&digest, &"ab".repeat(32));
    let other = Manifest::parse(&other).expect("valid");
    let calibration = Calibration::of(&other, None).expect("two points");
    assert_eq!(calibration.counted_on(), None);
}

#[test]
fn a_scoring_that_was_not_counted_is_never_taken_for_one_that_was() {
    let (shortest, _) = DEFAULT_CALIBRATION
        .split_once("[[rates]]\nscoring = \"probe\"\nbits = 512")
        .expect("lengths in order");
    let calibration = Calibration::of(&manifest(), Some(shortest)).expect("valid");
    let marked = |bits| calibration.estimate(Scoring::Probe(bits), 0.3, None).extrapolated;
    assert!(!marked(Bits::B256) && marked(Bits::B512) && marked(Bits::B1024));
    assert_ne!(
        calibration.similarity(Scoring::Probe(Bits::B256), 1e-4),
        calibration.similarity(Scoring::Stored(Bits::B256), 1e-4)
    );
}

#[test]
fn every_mistake_in_a_file_is_refused() {
    for (right, wrong, expected) in [
        ("format = 1", "format = 2", "expected 1, found 2"),
        ("format = 1", "form = 1", "unknown field `form`"),
        ("bits = 256", "bits = 300", "256, 512, 1024 or 2048"),
        (
            "scoring = \"photographs\"",
            "scoring = \"photographs\"\nbits = 256",
            "no bits",
        ),
        ("scoring = \"stored\"", "scoring = \"probe\"", "each scoring once"),
        ("[-1.00000, 1.0000e0],", "", "rates falling from 1"),
        ("[-1.00000, 1.0000e0],", "[nan, 1.0],", "similarities rising"),
        ("[-1.00000, 1.0000e0],", "[0.9, 1.0],", "similarities rising"),
        ("tail = ", "tail = -", "a tail that falls"),
        ("supported = ", "supported = -", "a supported rate above 0"),
        ("embedder = \"6e", "embedder = \"xx", "64 hexadecimal digits"),
    ] {
        let message = refusal(&with(right, wrong));
        assert!(message.contains(expected), "{wrong}: {message}");
    }
}

#[test]
fn a_calibration_survives_its_file() {
    let read = file::parse(DEFAULT_CALIBRATION).expect("valid");
    let counts: Vec<_> = Scoring::all()
        .map(|scoring| ScoringCount {
            scoring,
            points: vec![(-1.0, 1.0), (0.25, 1e-2), (0.5, 1e-4)],
            tail: 12.5,
            supported: 5e-5,
        })
        .collect();
    let text = document(read.embedder, read.population, &counts);
    let again = Calibration::of(&manifest(), Some(&text)).expect("valid");
    for count in &counts {
        assert_eq!(again.rates(count.scoring), &Rates::of(count).expect("valid"));
    }
    assert_eq!(again.counted_on(), Some(read.population));
}

#[test]
fn limits_out_of_their_range_are_refused() {
    assert!(Limit::of_similarity(f32::NAN).is_err() && Limit::of_similarity(1.1).is_err());
    assert!(Limit::of_score(-0.1).is_err() && Limit::of_score(100.1).is_err());
    assert!(Limit::of_far(0.6).is_err() && Limit::of_far(1e-10).is_err() && Limit::of_far(f64::NAN).is_err());
    assert!(Limit::of_fpir(1e-7).is_err() && Limit::of_fpir(0.0).is_err());
}
