#!/usr/bin/env python3
"""Makes bench/data/population.bin from the statistics of a population of embeddings.

    python3 scripts/population.py population.npz bench/data/population.bin

The input holds, of unit-length embeddings of the default embedder, `mean` [512], and the covariances `between`
people and `within` the photographs of one person, [512, 512] each: sums over many people, of whom nothing is left in
them. Kept are the leading eigenvectors, each times the root of its eigenvalue, as 16-bit integers with a scale of
their own: 160 of each, 99.9 % of either variance, for the embedder's values have a linear rank of about 145.
"""

import struct
import sys

import numpy as np

RANK = 160


def factors(covariance):
    """Rows f with covariance = sum of f f^T, the largest first."""
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    order = np.argsort(values)[::-1][:RANK]
    kept = values[order].sum() / values.sum()
    # The sign of an eigenvector means nothing: fix it, so that every machine writes the same file.
    rows = (vectors[:, order] * np.sqrt(np.maximum(values[order], 0))).T
    signs = np.sign(rows[np.arange(RANK), np.abs(rows).argmax(axis=1)])
    return rows * signs[:, None], kept


def main(source, target):
    population = np.load(source)
    mean = population["mean"].astype("<f4")
    with open(target, "wb") as out:
        out.write(b"LKPOP\x00\x00\x01")
        out.write(struct.pack("<II", len(mean), RANK))
        out.write(mean.tobytes())
        for name in ("between", "within"):
            rows, kept = factors(population[name])
            print(f"{name}: {RANK} of {len(mean)} directions, {kept:.4%} of the variance")
            for row in rows:
                scale = np.abs(row).max() / 32767
                out.write(struct.pack("<f", scale))
                out.write(np.round(row / scale).astype("<i2").tobytes())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
