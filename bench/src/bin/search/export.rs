//! A gallery in files, for the peers.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use likeness_bench::population::{DIM, Person, Population};
use likeness_engine::Protector;
use likeness_engine::bench::{bytes, protector};
use serde_json::json;

use crate::asked::{BITS, Block, GALLERY, SEED, asked, enrolled, in_order};
use crate::measured::Questions;

/// Writes it into a folder.
///
/// # Errors
/// Whatever writing fails with.
pub fn export(folder: &Path, size: u64, probes: u64) -> io::Result<()> {
    let (population, protector) = (Population::new(SEED), protector(DIM));
    std::fs::create_dir_all(folder)?;
    let all = |count: u64, names: [&str; 2], who: &(dyn Fn(u64) -> (Person, u64) + Sync)| {
        let mut files = [create(folder, names[0])?, create(folder, names[1])?];
        in_order(
            count,
            &|range| block(&population, &protector, range.map(who)),
            |(bits, values)| {
                files[0].write_all(&bits)?;
                values
                    .iter()
                    .try_for_each(|value| files[1].write_all(&value.to_le_bytes()))
            },
        )?;
        files.iter_mut().try_for_each(Write::flush)
    };
    all(size, ["templates.u8", "gallery.f32"], &|person| (person, 0))?;
    let asked = |n| asked(n, size, probes);
    all(probes, ["probes.u8", "probes.f32"], &asked)?;
    let mut truth = create(folder, "truth.i64")?;
    for n in 0..probes {
        let person = enrolled(asked(n).0).and_then(|person| i64::try_from(person).ok());
        truth.write_all(&person.unwrap_or(-1).to_le_bytes())?;
    }
    truth.flush()?;
    let questions = Questions::new(size, probes);
    let mut full = create(folder, "full.i64")?;
    for person in questions.full_scan(&questions.flat().faces) {
        full.write_all(&person.map_or(-1, i64::from).to_le_bytes())?;
    }
    full.flush()?;
    let meta = json!({ "size": size, "gallery": GALLERY });
    std::fs::write(folder.join("gallery.json"), meta.to_string())
}

fn create(folder: &Path, name: &str) -> io::Result<BufWriter<File>> {
    File::create(folder.join(name)).map(BufWriter::new)
}

fn block(
    population: &Population,
    protector: &Protector,
    photographs: impl Iterator<Item = (Person, u64)>,
) -> Block {
    let (mut bits, mut values) = (Vec::new(), Vec::new());
    for (person, photograph) in photographs {
        values.extend(population.unit_values(person, photograph));
        let template = protector.protect(population.photograph(person, photograph), BITS);
        bits.extend(bytes(&template));
    }
    (bits, values)
}
