//! Contrast by region: a part of a photograph without contrast has no face, so the detector skips it.
//!
//! A picture of 40 megapixels in one colour is a small file, and every scale of it is some hundred looks for nothing.
//! One pass over the pixels tells which of these would see no contrast at all. It is made only where the first look
//! at the photograph as a whole has shown no face that is acceptable, so that portraits do not pay for it.

use super::detect::View;
use super::image::Image;
use likeness_types::wipe::Wiped;

/// Side of the blocks of pixels whose mean counts. Noise is averaged out, and the eye of the smallest face that is
/// accepted is larger than a block.
const BLOCK_PX: usize = 4;
/// Blocks along each side of a cell, whose darkest and brightest blocks are kept.
const CELL_BLOCKS: usize = 8;
const CELL_PX: usize = BLOCK_PX * CELL_BLOCKS;
/// Parts of a grey level in which means are counted: the pixels of a whole block.
const LEVEL: u16 = (BLOCK_PX * BLOCK_PX) as u16;

/// Contrast below which a part is not looked at: between its darkest and its brightest block, in the colour where
/// it is largest, in grey levels of 255. A face needs more, by a margin: docs/detection.md has the figures, and the
/// test `how_little_contrast_shows_a_face` measures them on a folder.
const CONTRAST_MIN: u16 = 4;

/// The darkest and the brightest block of each cell, by colour.
pub(super) struct Texture {
    columns: usize,
    cells: Wiped<Cell>,
}

/// Darkest red, green, blue; brightest red, green, blue.
type Cell = [u16; 6];

/// Of no block at all.
const EMPTY: Cell = [u16::MAX, u16::MAX, u16::MAX, 0, 0, 0];

impl Texture {
    pub(crate) fn of(image: &Image) -> Self {
        let columns = image.width().div_ceil(CELL_PX);
        let rows = image.height().div_ceil(CELL_PX);
        let mut cells = Wiped::zeros(columns * rows);
        cells.fill(EMPTY);
        let mut sums = Wiped::<u16>::zeros(image.width() * 3);
        for (band, top) in (0..image.height()).step_by(BLOCK_PX).enumerate() {
            let bottom = (top + BLOCK_PX).min(image.height());
            sums.fill(0);
            for y in top..bottom {
                for (sum, &value) in sums.iter_mut().zip(image.row(y)) {
                    *sum += u16::from(value);
                }
            }
            let row = &mut cells[band / CELL_BLOCKS * columns..][..columns];
            for (cell, blocks) in row.iter_mut().zip(sums.chunks(CELL_PX * 3)) {
                for block in blocks.chunks(BLOCK_PX * 3) {
                    add(cell, block, bottom - top);
                }
            }
        }
        Self { columns, cells }
    }

    /// Whether there is anything to see in the photograph as a whole.
    pub(crate) fn shows_anything(&self) -> bool {
        contrast(self.cells.iter()) >= CONTRAST_MIN * LEVEL
    }

    /// Whether there is anything to see in a part of it.
    pub(crate) fn shows(&self, view: &View) -> bool {
        let rows = self.cells.len() / self.columns.max(1);
        let [across, down] = [(0, self.columns), (1, rows)].map(|(axis, count)| {
            let length = view.sides[axis] as f64 * view.step[axis];
            let (from, to) = (view.origin[axis], view.origin[axis] + length);
            let cell = |at: f64| (at.max(0.0) / CELL_PX as f64) as usize;
            cell(from).min(count)..(cell(to) + 1).min(count)
        });
        let cells = down.flat_map(|y| &self.cells[y * self.columns..][across.clone()]);
        contrast(cells) >= CONTRAST_MIN * LEVEL
    }
}

/// Counts a block of so many rows.
fn add(cell: &mut Cell, block: &[u16], rows: usize) {
    let (pixels, _) = block.as_chunks::<3>();
    for colour in 0..3 {
        let sum: u16 = pixels.iter().map(|pixel| pixel[colour]).sum();
        let count = (pixels.len() * rows) as u16;
        // At most 16 times 255, but for the border, where blocks are cut.
        let mean = match count {
            LEVEL => sum,
            count => (u32::from(sum) * u32::from(LEVEL) / u32::from(count.max(1))) as u16,
        };
        cell[colour] = cell[colour].min(mean);
        cell[3 + colour] = cell[3 + colour].max(mean);
    }
}

/// Between the darkest and the brightest block, in the colour where it is largest.
fn contrast<'a>(cells: impl Iterator<Item = &'a Cell>) -> u16 {
    let all = cells.fold(EMPTY, |all, cell| {
        std::array::from_fn(|at| match at {
            0..3 => all[at].min(cell[at]),
            _ => all[at].max(cell[at]),
        })
    });
    let ranges = (0..3).map(|colour| all[3 + colour].saturating_sub(all[colour]));
    ranges.max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
