"""images: every kind of file as a camera or an editor writes it, or refused by name."""

import numpy as np
import pytest
from PIL import Image

from deepfer_jax.data.images import ImageError, read_image

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


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_scaled_to_8(tmp_path, suffix):
    image = Image.fromarray(RAMP.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(save(tmp_path, image, suffix)), RAMP)


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


def test_upright_by_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    found = read_image(save(tmp_path, Image.fromarray(COLORS), exif=exif))
    np.testing.assert_array_equal(found, np.rot90(COLORS, -1))


def test_refused_by_name(tmp_path):
    frames = [Image.fromarray(np.roll(RAMP, i, 1)) for i in range(3)]
    whole = save(tmp_path, Image.fromarray(COLORS), ".jpg").read_bytes()
    cases = {
        "animated.gif": "an animation of 3 frames",
        "animated.webp": "an animation of 3 frames",
        "float.tif": "floating-point",
        "cut.jpg": "not a whole image",
        "text.png": "not a whole image",
        "empty.png": "not a whole image",
        "missing.png": "not a whole image",
    }
    for name in ("animated.gif", "animated.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "float.tif")
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
