//! The file format of a calibration: figures about a population, none about a single person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::{FILE, Population, Rates, Scoring};
use crate::manifest::mismatch;
use likeness_types::error::Result;
use likeness_types::template::Bits;

/// The version of the form.
const FORMAT: u32 = 1;

/// A file, read and checked.
pub(super) struct Counted {
    pub embedder: blake3::Hash,
    pub population: Population,
    pub rates: BTreeMap<Scoring, Rates>,
}

/// What was counted of one scoring.
#[derive(Debug, Clone)]
pub(crate) struct ScoringCount {
    pub scoring: Scoring,
    /// Similarity and rate, the rates falling from 1.
    pub points: Vec<(f64, f64)>,
    pub tail: f64,
    pub supported: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    embedder: String,
    people: u64,
    photographs: u64,
    impostor_pairs: u64,
    genuine_pairs: u64,
    rates: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    scoring: Kind,
    bits: Option<u32>,
    supported: f64,
    tail: f64,
    /// Each [similarity, rate].
    points: Vec<(f64, f64)>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Photographs,
    Probe,
    Stored,
    Fused,
}

/// Reads and checks a calibration.
///
/// # Errors
/// With what was expected and what was found.
pub(super) fn parse(text: &str) -> Result<Counted> {
    let document: Document =
        toml::from_str(text).map_err(|error| mismatch(FILE, "form", "a calibration of format 1", error))?;
    if document.format != FORMAT {
        return Err(mismatch(FILE, "format", FORMAT, document.format));
    }
    let embedder = blake3::Hash::from_hex(&document.embedder)
        .map_err(|_| mismatch(FILE, "embedder", "64 hexadecimal digits", &document.embedder))?;
    let mut rates = BTreeMap::new();
    for entry in &document.rates {
        let scoring = entry.scoring()?;
        let read = Rates::new(&name(scoring), &entry.points, entry.tail, entry.supported)?;
        if rates.insert(scoring, read).is_some() {
            return Err(mismatch(FILE, "rates", "each scoring once", name(scoring)));
        }
    }
    Ok(Counted {
        embedder,
        population: Population {
            people: document.people,
            photographs: document.photographs,
            impostor_pairs: document.impostor_pairs,
            genuine_pairs: document.genuine_pairs,
        },
        rates,
    })
}

impl Entry {
    fn scoring(&self) -> Result<Scoring> {
        let expected = "no bits with photographs; 256, 512, 1024 or 2048 with the others";
        let bits = self.bits.map(Bits::parse);
        match (self.scoring, bits) {
            (Kind::Photographs, None) => Ok(Scoring::Photographs),
            (Kind::Probe, Some(Ok(bits))) => Ok(Scoring::Probe(bits)),
            (Kind::Stored, Some(Ok(bits))) => Ok(Scoring::Stored(bits)),
            (Kind::Fused, Some(Ok(bits))) => Ok(Scoring::Fused(bits)),
            _ => Err(mismatch(FILE, "bits", expected, format!("{:?}", self.bits))),
        }
    }
}

/// As in `probe-1024`.
pub(crate) fn name(scoring: Scoring) -> String {
    match scoring {
        Scoring::Photographs => "photographs".to_owned(),
        Scoring::Probe(bits) => format!("probe-{bits}"),
        Scoring::Stored(bits) => format!("stored-{bits}"),
        Scoring::Fused(bits) => format!("fused-{bits}"),
    }
}

/// The text of a calibration that [`parse`] reads.
pub(crate) fn document(embedder: blake3::Hash, population: Population, counts: &[ScoringCount]) -> String {
    let Population {
        people,
        photographs,
        impostor_pairs,
        genuine_pairs,
    } = population;
    let mut text = format!(
        "format = {FORMAT}\nembedder = \"{embedder}\"\npeople = {people}\nphotographs = {photographs}\n\
         impostor_pairs = {impostor_pairs}\ngenuine_pairs = {genuine_pairs}\n"
    );
    for count in counts {
        let (kind, bits) = match count.scoring {
            Scoring::Photographs => ("photographs", None),
            Scoring::Probe(bits) => ("probe", Some(bits)),
            Scoring::Stored(bits) => ("stored", Some(bits)),
            Scoring::Fused(bits) => ("fused", Some(bits)),
        };
        let _ = write!(text, "\n[[rates]]\nscoring = \"{kind}\"\n");
        if let Some(bits) = bits {
            let _ = writeln!(text, "bits = {bits}");
        }
        let _ = writeln!(text, "supported = {:.4e}", count.supported);
        let _ = writeln!(text, "tail = {:.2}", count.tail);
        text.push_str("points = [\n");
        for (similarity, far) in &count.points {
            let _ = writeln!(text, "  [{similarity:.5}, {far:.4e}],");
        }
        text.push_str("]\n");
    }
    text
}
