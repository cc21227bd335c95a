"""Golden values for the face pipeline, computed with Python's onnxruntime and no code of the engine's.

Written from the recipe's text alone, so that a mistake in the engine is not made here too:

1. Detect. The whole photograph, in its own proportions, in the middle of 320x240 of grey 127; bilinear,
   half-pixel centres. RGB, (x - 127) / 128. Boxes come decoded, 0..1. Score >= 0.65, suppression at 0.4.
2. Landmarks, first crop: a square of 0.9 box heights, its centre 0.1 box heights below the box's. Grey
   (BT.601), black outside, 64x64: bilinear, or the mean over areas where the side exceeds 128 px; x / 256.
3. Second crop: a square of 1.1 times the larger side of the 68 points' bounding box. Run again.
4. Five points: eyes (37,38,40,41) and (43,44,46,47), nose 30, mouth (48,60) and (54,64).
5. Align: least-squares similarity to the five targets in 112x112, bilinear, black outside; where the scale
   is below 0.5, first shrink by areas to 1.5 times the scale.
6. Embed: BGR, (x - 127) / 128.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install numpy pillow onnxruntime
    /tmp/golden/bin/python scripts/golden.py ASSETS > engine/faces/fixtures/golden/pipeline.json

ASSETS is the directory that `make assets` fills. Numbers only are written, never a photograph.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

PHOTOGRAPHS = ["obama.jpg", "obama2.jpg", "biden.jpg", "astronaut.png"]
TARGETS = np.array([
    [38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041],
])


def bilinear_matrix(origin, step, outputs, length, repeat):
    """[outputs, length]: each row the weights of the source pixels for one output pixel."""
    matrix = np.zeros((outputs, length))
    for i in range(outputs):
        centre = origin + (i + 0.5) * step - 0.5
        if repeat:
            centre = min(max(centre, 0.0), length - 1.0)
        for pixel in (math.floor(centre), math.floor(centre) + 1):
            if 0 <= pixel < length:
                matrix[i, pixel] += 1.0 - abs(centre - pixel)
    return matrix


def area_matrix(origin, step, outputs, length):
    """The same for the mean over areas; what lies outside is black."""
    edges = np.arange(length)
    starts = origin + np.arange(outputs)[:, None] * step
    overlap = np.minimum(starts + step, edges + 1.0) - np.maximum(starts, edges)
    return np.maximum(overlap, 0.0) / step


def resize(image, down, across):
    return np.einsum("yh,hwc,xw->yxc", down, image, across, optimize=True)


def run(session, tensor):
    return session.run(None, {session.get_inputs()[0].name: tensor.astype(np.float32)})


def detect(session, image):
    height, width, _ = image.shape
    scale = min(320 / width, 240 / height)
    w, h = round(width * scale), round(height * scale)
    left, top = (320 - w) // 2, (240 - h) // 2
    canvas = np.full((240, 320, 3), 127.0)
    canvas[top:top + h, left:left + w] = resize(
        image,
        bilinear_matrix(0.0, height / h, h, height, True),
        bilinear_matrix(0.0, width / w, w, width, True),
    )
    scores, boxes = run(session, ((canvas - 127) / 128).transpose(2, 0, 1)[None])
    corners = boxes[0].astype(float) * [320, 240, 320, 240] - [left, top, left, top]
    corners *= [width / w, height / h, width / w, height / h]
    order = [i for i in np.argsort(-scores[0, :, 1]) if scores[0, i, 1] >= 0.65]
    kept = []
    for i in order:
        if all(overlap(corners[i], corners[j]) <= 0.4 for j in kept):
            kept.append(i)
    return [(corners[i], float(scores[0, i, 1])) for i in kept]


def overlap(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / (areas - w * h)


def landmarks(session, image, centre, side):
    step = side / 64
    origin = np.asarray(centre) - side / 2
    matrix = area_matrix if side > 128 else lambda *a: bilinear_matrix(*a, False)
    grey = (image @ [0.299, 0.587, 0.114])[:, :, None]
    crop = resize(grey, matrix(origin[1], step, 64, image.shape[0]), matrix(origin[0], step, 64, image.shape[1]))
    points = run(session, crop[None, None, :, :, 0] / 256)[0].reshape(68, 2).astype(float)
    return origin + points * side


def five_points(session, image, box):
    height = box[3] - box[1]
    centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + 0.1 * height]
    points = landmarks(session, image, centre, 0.9 * height)
    low, high = points.min(0), points.max(0)
    points = landmarks(session, image, (low + high) / 2, 1.1 * (high - low).max())
    groups = [(37, 38, 40, 41), (43, 44, 46, 47), (30,), (48, 60), (54, 64)]
    return np.array([points[list(group)].mean(0) for group in groups])


def umeyama(source, target):
    """A 2x3 matrix: scale, rotation and shift from source to target (Umeyama 1991)."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    p, q = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(q.T @ p / len(p))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scale = (singular * sign).sum() / (p ** 2).sum(1).mean()
    linear = scale * u @ np.diag(sign) @ vt
    return np.column_stack([linear, target_mean - linear @ source_mean]), scale


def align(image, points):
    matrix, scale = umeyama(points, TARGETS)
    if scale < 0.5:
        factor = 1.5 * scale
        height, width = (math.ceil(side * factor) for side in image.shape[:2])
        image = resize(
            image,
            area_matrix(0.0, 1 / factor, height, image.shape[0]),
            area_matrix(0.0, 1 / factor, width, image.shape[1]),
        )
        image = np.floor(image + 0.5)
        matrix, _ = umeyama(points * factor, TARGETS)
    grid = np.stack(np.meshgrid(np.arange(112) + 0.5, np.arange(112) + 0.5), -1)
    at = (grid - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T - 0.5
    base = np.floor(at).astype(int)
    part = at - base
    face = np.zeros((112, 112, 3))
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = base[..., 0] + dx, base[..., 1] + dy
            inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
            weight = np.where(dx, part[..., 0], 1 - part[..., 0]) * np.where(dy, part[..., 1], 1 - part[..., 1])
            face += np.where(inside, weight, 0.0)[..., None] * image[y.clip(0, image.shape[0] - 1), x.clip(0, image.shape[1] - 1)]
    return face


def embed(session, face):
    return run(session, ((face[:, :, ::-1] - 127) / 128).transpose(2, 0, 1)[None])[0][0]


def main():
    assets = Path(sys.argv[1])
    load = lambda name: onnxruntime.InferenceSession(assets / "models" / name, providers=["CPUExecutionProvider"])
    detector, marks, embedder = load("fr_detect.onnx"), load("fr_landmark.onnx"), load("fr_feature.onnx")
    golden = []
    for name in PHOTOGRAPHS:
        image = np.asarray(Image.open(assets / "photographs" / name).convert("RGB"), dtype=float)
        faces = detect(detector, image)
        assert len(faces) == 1, (name, faces)
        (box, score), = faces
        points = five_points(marks, image, box)
        face = align(image, points)
        raw = embed(embedder, face)
        golden.append({
            "photograph": name,
            "width": image.shape[1],
            "height": image.shape[0],
            "box": [round(float(v), 3) for v in box],
            "score": round(score, 6),
            "points": [[round(float(v), 3) for v in point] for point in points],
            "face_mean_rgb": [round(float(v), 3) for v in face.mean((0, 1))],
            "embedding_first_8": [round(float(v), 5) for v in raw[:8]],
            "embedding_norm": round(float(np.linalg.norm(raw)), 4),
        })
    json.dump(golden, sys.stdout, indent=1)
    print()


main()
