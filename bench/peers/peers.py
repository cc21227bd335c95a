#!/usr/bin/env python3
"""Search by what people use today, on the galleries that our own search is measured on.

    peers.py FOLDER THREADS KIND...

FOLDER is written by `bench-search export`: one gallery, its probes, and who they show. Prints one JSON object
for each row. Every peer is given what it is made for: those for bits the same templates and the probes' own bits,
those for floats the unit-length features.

A probe's answer is its best hit. Half the probes show nobody in the gallery: the threshold of an index is the
score that one in a hundred of those reaches (FPIR 1 %), and FNIR is the part of the others that do not find their
person at or above it. Recall is the part of all probes whose answer at the threshold, a person or nobody, is that of
our full scan at its own.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

import faiss
import hnswlib
import numpy as np
from usearch.index import Index as Usearch

BITS = 1024
DIM = 512
# Timed calls of one row, and the longest a row may take in seconds.
CALLS = 400
SECONDS = 20.0


class Gallery:
    def __init__(self, folder):
        folder = Path(folder)
        meta = json.loads((folder / "gallery.json").read_text())
        self.size, self.key = meta["size"], meta["gallery"]
        self.templates = np.memmap(folder / "templates.u8", np.uint8, "r").reshape(-1, BITS // 8)
        self.probe_bits = np.fromfile(folder / "probes.u8", np.uint8).reshape(-1, BITS // 8)
        self.probes = np.fromfile(folder / "probes.f32", np.float32).reshape(-1, DIM)
        self.truth = np.fromfile(folder / "truth.i64", np.int64)
        self.full_scan = np.fromfile(folder / "full.i64", np.int64)
        self._floats = folder / "gallery.f32"

    @property
    def floats(self):
        return np.memmap(self._floats, np.float32, "r").reshape(-1, DIM)

    def blocks(self, array, rows=50_000):
        for start in range(0, len(array), rows):
            yield np.ascontiguousarray(array[start : start + rows])


def resident():
    """Bytes of this process alone: the gallery's files are mapped, and count for nobody."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def rotated(gallery):
    """1,024 values for an index that takes one sign of each: two random rotations of the 512, as ours are."""
    draw = np.random.default_rng(1)
    basis = np.concatenate([np.linalg.qr(draw.standard_normal((DIM, DIM)))[0] for _ in range(2)], axis=1)
    return basis.astype(np.float32)


class Peer:
    """An index that is built once; `search(probes, ef)` answers scores (higher is nearer) and persons."""

    efs = [None]

    def __init__(self, gallery):
        self.gallery = gallery

    def asked(self):
        return self.gallery.probes


class BinaryFlat(Peer):
    name = "FAISS IndexBinaryFlat"

    def asked(self):
        return self.gallery.probe_bits

    def build(self):
        self.index = faiss.IndexBinaryFlat(BITS)
        for block in self.gallery.blocks(self.gallery.templates):
            self.index.add(block)

    def search(self, probes, ef):
        distances, persons = self.index.search(probes, 1)
        return -distances[:, 0].astype(np.float32), persons[:, 0]


class BinaryHNSW(BinaryFlat):
    name, efs = "FAISS IndexBinaryHNSW M=16", [64, 256, 1024]

    def build(self):
        self.index = faiss.IndexBinaryHNSW(BITS, 16)
        for block in self.gallery.blocks(self.gallery.templates):
            self.index.add(block)

    def search(self, probes, ef):
        self.index.hnsw.efSearch = ef
        return super().search(probes, ef)


class RaBitQFastScan(Peer):
    name = "FAISS IndexRaBitQFastScan"

    def build(self):
        self.basis = rotated(self.gallery)
        self.index = faiss.IndexRaBitQFastScan(BITS, faiss.METRIC_INNER_PRODUCT)
        self.index.train(np.ascontiguousarray(self.gallery.floats[:100_000]) @ self.basis)
        for block in self.gallery.blocks(self.gallery.floats):
            self.index.add(block @ self.basis)

    def asked(self):
        return self.gallery.probes @ self.basis

    def search(self, probes, ef):
        scores, persons = self.index.search(probes, 1)
        return scores[:, 0], persons[:, 0]


class HNSWRaBitQ(RaBitQFastScan):
    name, efs = "FAISS IndexHNSWRaBitQ M=16", [64, 256, 1024]

    def build(self):
        self.basis = rotated(self.gallery)
        # By distance, which is all it takes: of features of length 1 it is the same order.
        self.index = faiss.IndexHNSWRaBitQ(BITS, 16, 1, faiss.METRIC_L2)
        self.index.train(np.ascontiguousarray(self.gallery.floats[:100_000]) @ self.basis)
        for block in self.gallery.blocks(self.gallery.floats):
            self.index.add(block @ self.basis)

    def search(self, probes, ef):
        self.index.hnsw.efSearch = ef
        distances, persons = super().search(probes, ef)
        return -distances, persons


class FlatIP(Peer):
    name = "FAISS IndexFlatIP (floats)"

    def build(self):
        self.index = faiss.IndexFlatIP(DIM)
        for block in self.gallery.blocks(self.gallery.floats):
            self.index.add(block)

    def search(self, probes, ef):
        scores, persons = self.index.search(probes, 1)
        return scores[:, 0], persons[:, 0]


class UsearchB1(Peer):
    name, efs = "usearch b1 M=16", [64, 256, 1024]

    def asked(self):
        return self.gallery.probe_bits

    def build(self):
        self.index = Usearch(ndim=BITS, metric="hamming", dtype="b1", connectivity=16)
        first = 0
        for block in self.gallery.blocks(self.gallery.templates):
            self.index.add(np.arange(first, first + len(block)), block, threads=os.cpu_count())
            first += len(block)

    def search(self, probes, ef):
        self.index.expansion_search = ef
        found = self.index.search(probes, 1, threads=self.threads)
        keys, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        return -distances.reshape(len(probes), -1)[:, 0], keys.reshape(len(probes), -1)[:, 0].astype(np.int64)


class Hnswlib(Peer):
    name, efs = "hnswlib M=16 (floats)", [64, 256, 1024]

    def build(self):
        self.index = hnswlib.Index(space="ip", dim=DIM)
        self.index.init_index(max_elements=self.gallery.size, M=16, ef_construction=200)
        self.index.set_num_threads(os.cpu_count())
        for block in self.gallery.blocks(self.gallery.floats):
            self.index.add_items(block)

    def search(self, probes, ef):
        self.index.set_ef(ef)
        persons, distances = self.index.knn_query(probes, k=1, num_threads=self.threads)
        return 1 - distances[:, 0], persons[:, 0].astype(np.int64)


PEERS = {
    peer.__name__: peer
    for peer in (BinaryFlat, RaBitQFastScan, BinaryHNSW, HNSWRaBitQ, FlatIP, UsearchB1, Hnswlib)
}


def timed(search, probes, batch):
    """Seconds of each call, with `batch` probes a call."""
    seconds, began = [], time.perf_counter()
    search(probes[:batch])
    for call in range(CALLS):
        some = probes[(call * batch) % (len(probes) - batch + 1) :][:batch]
        start = time.perf_counter()
        search(some)
        now = time.perf_counter()
        seconds.append(now - start)
        if now - began > SECONDS and call >= 10:
            break
    return np.array(seconds)


def accuracy(search, probes, gallery):
    parts = [search(probes[i : i + 256]) for i in range(0, len(probes), 256)]
    scores, persons = (np.concatenate(part) for part in zip(*parts))
    mated = gallery.truth >= 0
    reached = scores >= np.quantile(scores[~mated], 0.99)
    right = persons == gallery.truth
    return {
        "recall_at_1": float((np.where(reached, persons, -1) == gallery.full_scan).mean()),
        "rank_1": float(right[mated].mean()),
        "fnir": float(1 - (right & reached)[mated].mean()),
    }


def main(folder, threads, kinds):
    gallery = Gallery(folder)
    for kind in kinds:
        peer = PEERS[kind](gallery)
        before, start = resident(), time.perf_counter()
        faiss.omp_set_num_threads(os.cpu_count())
        peer.build()
        built, grown = time.perf_counter() - start, resident() - before
        probes = peer.asked()
        for ef in peer.efs:
            for count in threads:
                faiss.omp_set_num_threads(count)
                peer.threads = count
                figures = accuracy(lambda some: peer.search(some, ef), probes, gallery)
                for batch in (1, 32):
                    seconds = timed(lambda some: peer.search(some, ef), probes, batch)
                    row = {
                        "engine": peer.name,
                        "kind": "exact" if ef is None else f"ef={ef}",
                        "gallery": gallery.key,
                        "size": gallery.size,
                        "bits": 32 * DIM if "floats" in peer.name else BITS,
                        "threads": count,
                        "batch": batch,
                        "p50_us": float(np.quantile(seconds, 0.5) / batch * 1e6),
                        "p99_us": float(np.quantile(seconds, 0.99) / batch * 1e6),
                        "qps": float(batch * len(seconds) / seconds.sum()),
                        "bytes_per_face": grown / gallery.size,
                        "build_s": built,
                        **figures,
                    }
                    print(json.dumps(row), flush=True)
        del peer
        gc.collect()


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], [int(count) for count in sys.argv[2].split(",")], sys.argv[3:])
