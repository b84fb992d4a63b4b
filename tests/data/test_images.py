"""images: every kind of file as a camera or an editor writes it, or refused by name."""

import io
import time

import numpy as np
import pytest
from measuring.bad_inputs import encode
from measuring.hostile import make_hostile
from PIL import Image

from deepfer_jax.data.image_headers import read_header
from deepfer_jax.data.images import (
    KINDS,
    WEB_KINDS,
    ImageError,
    decode_image,
    decode_photo,
    is_image_name,
    read_image,
)

RAMP = np.arange(0, 256, 8, dtype=np.uint8)[None].repeat(20, 0)  # [20, 32]
COLORS = np.stack([RAMP, RAMP[:, ::-1], RAMP // 2], axis=-1)


def save(tmp_path, image, suffix=".png", **options):
    path = tmp_path / f"face{suffix}"
    image.save(path, **options)
    return path


def test_gray_and_rgb_are_read_as_they_are(tmp_path):
    gray = read_image(save(tmp_path, Image.fromarray(RAMP)))
    np.testing.assert_array_equal(gray, RAMP)
    rgb = read_image(save(tmp_path, Image.fromarray(COLORS)))
    np.testing.assert_array_equal(rgb, COLORS)


def test_gray_stored_as_rgb_is_gray(tmp_path):
    image = Image.fromarray(RAMP).convert("RGB")
    np.testing.assert_array_equal(read_image(save(tmp_path, image)), RAMP)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bits_are_scaled_to_8(tmp_path, suffix):
    image = Image.fromarray(RAMP.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(save(tmp_path, image, suffix)), RAMP)


def test_16_bits_are_rounded(tmp_path):
    wide = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    found = read_image(save(tmp_path, Image.fromarray(wide)))
    np.testing.assert_array_equal(found, [[0, 0, 1, 1, 128, 255]])


def test_one_bit(tmp_path):
    path = save(tmp_path, Image.fromarray(RAMP > 100))
    np.testing.assert_array_equal(read_image(path), np.where(RAMP > 100, 255, 0))


def test_palette(tmp_path):
    image = Image.fromarray(COLORS).quantize(256)
    expected = np.asarray(image.convert("RGB"))
    for suffix in (".png", ".gif"):
        found = read_image(save(tmp_path, image, suffix))
        np.testing.assert_array_equal(found, expected)


def test_transparent_pixels_are_white(tmp_path):
    alpha = np.zeros((20, 32), np.uint8)
    alpha[:10] = 255
    for color in (RAMP[..., None], COLORS):
        image = Image.fromarray(np.concatenate([color, alpha[..., None]], axis=-1))
        found = read_image(save(tmp_path, image))
        np.testing.assert_array_equal(found[:10], color.squeeze()[:10])
        assert (found[10:] == 255).all()


def test_cmyk(tmp_path):
    image = Image.fromarray(COLORS).convert("CMYK")
    found = read_image(save(tmp_path, image, ".tif"))
    assert np.abs(found.astype(int) - COLORS).max() <= 2
    found = read_image(save(tmp_path, image, ".jpg", quality=95))
    assert np.abs(found.astype(int) - COLORS).mean() < 6


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    image = Image.fromarray(np.array([[[0, 128], [200, 128]]], np.uint8))
    found = read_image(save(tmp_path, image)).astype(int)
    assert np.abs(found - [[127, 227]]).max() <= 1


def test_the_transparent_colour_of_a_palette_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    found = read_image(save(tmp_path, image, transparency=0))
    np.testing.assert_array_equal(found, [[[255, 255, 255], [0, 255, 0]]])


UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_upright_by_exif(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_image(save(tmp_path, Image.fromarray(COLORS), exif=exif))
    np.testing.assert_array_equal(found, UPRIGHT[orientation](COLORS))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_upright_whatever_the_kind(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if kind == "TIFF" else {"quality": 95}
    data = encode(COLORS, kind, exif=exif, **options)
    found = decode_image(data, 10**6).astype(int)
    expected = UPRIGHT[orientation](COLORS)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 12  # these colours are hard to compress


def test_a_phones_photo_with_a_preview_is_its_first_picture(tmp_path):
    first, second = (Image.new("RGB", (16, 16), c) for c in ("red", "blue"))
    options = {"format": "MPO", "save_all": True, "append_images": [second]}
    path = save(tmp_path, first, ".jpg", **options)
    assert Image.open(path).n_frames == 2
    assert np.abs(read_image(path).astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.JPG", True),
        ("a.b.jfif", True),
        ("._a.jpg", False),
        (".DS_Store", False),
        ("Thumbs.db", False),
        ("labels.csv", False),
        ("png", False),
    ],
)
def test_names_of_images(tmp_path, name, expected):
    assert is_image_name(tmp_path / name) == expected


def test_refused_by_name(tmp_path):
    frames = [Image.fromarray(np.roll(RAMP, i, 1)) for i in range(3)]
    whole = save(tmp_path, Image.fromarray(COLORS), ".jpg").read_bytes()
    cases = {
        "animated.gif": "an animation of 3 frames",
        "animated.webp": "an animation of 3 frames",
        "animated.png": "an animation of 3 frames",
        "pages.tif": "an animation of 3 frames",
        "float.tif": "floating-point",
        "int.tif": "32-bit",
        "cut.jpg": "not a whole image",
        "flipped.png": "not a whole image",
        "zero.pgm": "not a whole image",
        "page.eps": "not a whole image",
        "text.png": "not a whole image",
        "empty.png": "not a whole image",
        "missing.png": "not a whole image",
    }
    for name in ("animated.gif", "animated.webp", "animated.png", "pages.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(RAMP.astype(np.int32)).save(tmp_path / "int.tif")
    flipped = bytearray(save(tmp_path, Image.fromarray(COLORS)).read_bytes())
    flipped[len(flipped) // 2] ^= 255
    (tmp_path / "flipped.png").write_bytes(flipped)
    (tmp_path / "zero.pgm").write_bytes(b"P5 0 0 255 ")
    Image.fromarray(COLORS).save(tmp_path / "page.eps")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    for name, message in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = save(tmp_path, Image.fromarray(RAMP))
    with pytest.raises(ImageError, match="decompression bomb"):
        read_image(path)


def test_reading_needs_no_training_libraries(run_python):
    run_python(
        "-c",
        "import sys, deepfer_jax.data.images, scripts.predict\n"
        "needless = {'tensorflow', 'tensorflow_datasets', 'flax', 'clu', 'optax'}\n"
        "assert not needless & set(sys.modules), needless & set(sys.modules)",
    )


@pytest.mark.parametrize("item", make_hostile(), ids=lambda item: item.kind)
def test_what_could_take_minutes_or_gigabytes_is_refused_at_once(tmp_path, item):
    path = tmp_path / "image"
    path.write_bytes(item.data)
    start = time.process_time()
    if item.refused:
        with pytest.raises(ImageError, match="image: "):
            read_image(path)
    else:
        read_image(path)
    assert time.process_time() - start < 3
    if item.refused is not None:
        assert time.process_time() - start < 0.5


def test_an_animation_of_a_million_frames_is_not_counted_to_its_end():
    frames = [Image.fromarray(RAMP[:8, i : i + 8]) for i in range(20)] * 10
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="100 or more frames"):
        decode_image(data, 10**6)


def test_a_decoder_sees_no_metadata():
    exif = Image.Exif()
    exif[0x010E] = "described" * 100
    data = encode(COLORS, exif=exif, comment=b"commented" * 100)
    header = read_header(data)
    assert b"described" in data
    assert b"described" not in header.data
    assert b"commented" not in header.data
    found = np.asarray(Image.open(io.BytesIO(header.data)))
    np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data))))


def test_only_the_kinds_that_are_asked_for():
    for kind in KINDS:
        data = encode(RAMP, kind)
        if kind in WEB_KINDS:
            assert decode_image(data, 10**6, WEB_KINDS).shape[:2] == RAMP.shape
        else:
            with pytest.raises(ImageError, match=f"a {kind} file: expected JPEG, PNG"):
                decode_image(data, 10**6, WEB_KINDS)


def test_a_photo_is_made_smaller_and_tells_its_size():
    large = Image.fromarray(COLORS).resize((640, 400))
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "JPEG": encode(large, exif=exif),
        "PNG": encode(large, "PNG", exif=exif),
        "gray": encode(large.convert("L"), "PNG", exif=exif),
        "palette": encode(large.quantize(64), "PNG", exif=exif),
        "CMYK": encode(large.convert("CMYK"), exif=exif),
        "alpha": encode(large.convert("RGBA"), "WEBP", exif=exif),
    }
    small = np.asarray(large.resize((160, 100)).transpose(Image.Transpose.ROTATE_270))
    for name, data in images.items():
        photo = decode_photo(data, 10**6, 160)
        assert (photo.width, photo.height) == (400, 640), name
        assert photo.pixels.shape == (160, 100, 3)
        assert photo.pixels.dtype == np.uint8
        if name != "gray":
            assert np.abs(photo.pixels.astype(int) - small).mean() < 12, name
    whole = decode_photo(images["PNG"], 10**6, 640)
    np.testing.assert_array_equal(whole.pixels, decode_image(images["PNG"], 10**6))
