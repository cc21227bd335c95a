"""Writes engine/faces/fixtures/images: one small synthetic picture in kinds that no Rust encoder here makes.

The picture is 96x64 and has a red, a green, a blue and a white quarter, in reading order.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install pillow
    /tmp/golden/bin/python scripts/fixtures.py
"""

from pathlib import Path

from PIL import Image

folder = Path(__file__).parent.parent / "engine/faces/fixtures/images"
folder.mkdir(parents=True, exist_ok=True)
picture = Image.new("RGB", (96, 64), "white")
for colour, corner in {(255, 0, 0): (0, 0), (0, 255, 0): (48, 0), (0, 0, 255): (0, 32)}.items():
    picture.paste(colour, (*corner, corner[0] + 48, corner[1] + 32))

picture.save(folder / "baseline.jpg", quality=90)
picture.save(folder / "no-subsampling.jpg", quality=90, subsampling=0, restart_marker_blocks=2)
picture.save(folder / "progressive.jpg", quality=90, progressive=True)
picture.convert("L").save(folder / "grey.jpg", quality=90)
picture.convert("CMYK").save(folder / "cmyk.jpg", quality=90)
picture.save(folder / "lossy.webp", quality=90)
picture.convert("P", palette=Image.ADAPTIVE).save(folder / "palette.bmp")
picture.convert("P", palette=Image.ADAPTIVE).save(folder / "palette.png")
second = picture.transpose(Image.FLIP_LEFT_RIGHT)
picture.save(folder / "animated.webp", save_all=True, append_images=[second], duration=100)
picture.save(folder / "animated.png", save_all=True, append_images=[second], duration=100)
picture.save(folder / "still.gif")
