//! Many crafted faces of the same knowledge: all at one angle from the best one, in any of the directions of which least
//! is known.

use crate::attack::knowledge::{Angle, Knowledge, unit};
use crate::attack::victim::{Craft, Victim};
use crate::population::{DIM, Normals};

/// Directions that the faces of a batch are made of.
const DIRECTIONS: usize = 32;
/// Faces that were not found, of one row of searches, that the attacker takes in: where there are more, no was the answer
/// to be expected, and says nearly nothing.
const NO_MAX: usize = 20;
/// Near enough to the threshold for the engine to decide.
const NEAR: f64 = 0.04;

/// Such faces, as many as are wanted.
pub struct Batch {
    along: Vec<f32>,
    directions: Vec<Vec<f32>>,
    /// What is expected of each face.
    pub angle: Angle,
}

impl Batch {
    /// Faces that reach the threshold as rarely as is wanted, or as can be.
    pub fn of(known: &Knowledge<'_>, threshold: f64, rarity: f64, draw: &mut Normals) -> Self {
        let best = known.best();
        let across = known.unknowns(&best, DIRECTIONS, draw);
        let angle = known.angle(&best, &across[DIRECTIONS / 2], threshold, rarity);
        Self {
            along: best.along,
            directions: across.into_iter().map(|across| across.direction).collect(),
            angle,
        }
    }

    /// The next one.
    pub fn any(&self, craft: &Craft, draw: &mut Normals) -> Vec<f32> {
        let weights: Vec<f32> = self.directions.iter().map(|_| draw.next()).collect();
        self.face(&weights, craft, draw)
    }

    fn face(&self, weights: &[f32], craft: &Craft, draw: &mut Normals) -> Vec<f32> {
        let mut across = vec![0.0f32; DIM];
        for (direction, weight) in self.directions.iter().zip(weights) {
            across
                .iter_mut()
                .zip(direction)
                .for_each(|(sum, part)| *sum += weight * part);
        }
        let wanted = unit(self.angle.between(&self.along, &unit(across)));
        craft.made(wanted, &self.along, draw)
    }

    /// Looks for so many faces, until one is found.
    pub fn search(
        &self,
        victim: &Victim,
        threshold: f64,
        most: u32,
        craft: &Craft,
        draw: &mut Normals,
    ) -> Searched {
        // What the scores of all these faces are made of: a few products instead of a face and its projection.
        let along = victim.roughly(&self.along);
        let parts: Vec<f32> = self.directions.iter().map(|d| victim.roughly(d) as f32).collect();
        let (mut weights, mut no) = (vec![0.0f32; DIRECTIONS], Vec::new());
        for searches in 1..=most {
            let (mut part, mut square) = (0.0, 0.0);
            for (weight, own) in weights.iter_mut().zip(&parts) {
                *weight = draw.next();
                part += *weight * own;
                square += *weight * *weight;
            }
            let wanted = self.angle.part(along, f64::from(part / square.sqrt()));
            let is_near = wanted + NEAR >= craft.aimed_least(threshold);
            if !is_near && no.len() == NO_MAX {
                continue;
            }
            let face = self.face(&weights, craft, draw);
            let is_near = is_near && victim.roughly(&face) + NEAR >= threshold;
            if is_near && victim.similarity(&face) >= threshold {
                let yes = Some(face);
                return Searched { searches, yes, no };
            }
            if no.len() < NO_MAX {
                no.push(face);
            }
        }
        Searched {
            searches: most,
            yes: None,
            no,
        }
    }
}

/// What a row of searches found.
pub struct Searched {
    /// How many there were.
    pub searches: u32,
    /// The last face, if it was found.
    pub yes: Option<Vec<f32>>,
    /// Faces that were not found: as many as the attacker takes in.
    pub no: Vec<Vec<f32>>,
}
