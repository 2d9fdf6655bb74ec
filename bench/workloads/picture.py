"""Thumbnails and filters of a picture of 12 megapixels by Pillow: `picture.py ROUNDS PICTURE`."""

import io
import sys

from PIL import Image, ImageEnhance, ImageFilter, ImageOps


def saved(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.tell()


for _ in range(int(sys.argv[1])):
    with Image.open(sys.argv[2]) as opened:
        picture = opened.convert("RGB")
    for width in (2000, 1000, 500, 200):
        assert saved(picture.resize((width, width * 3 // 4), Image.Resampling.LANCZOS), 85)
    turned = picture.rotate(7, expand=True)
    softened = ImageEnhance.Contrast(picture.filter(ImageFilter.GaussianBlur(2))).enhance(1.3)
    assert sum(ImageOps.grayscale(softened).histogram()) == 4000 * 3000 < turned.width * turned.height
    assert saved(softened, 90)
