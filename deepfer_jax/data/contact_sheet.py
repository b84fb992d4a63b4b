"""Many small images on one sheet, to look at.

sheet = contact_sheet(images)          # uint8 [rows, columns, 48, 48]
Image.fromarray(sheet).save("faces.png")
"""

import numpy as np

GAP = 2
_GAP_TONE = 255


def contact_sheet(images: np.ndarray, scale: int = 2) -> np.ndarray:
    """Lays images out in a grid with thin white gaps.

    Args:
      images: uint8 [rows, columns, height, width], or with a last axis of channels.
      scale: how many pixels wide a pixel becomes.

    Returns:
      uint8 [height, width] or [height, width, channels]; row r and column c begin at
      GAP + r * (scale * height + GAP), and likewise for columns.
    """
    if images.ndim not in (4, 5) or images.dtype != np.uint8 or scale < 1:
        raise ValueError(
            "expected uint8 [rows, columns, height, width(, channels)] and a scale of "
            f"1 or more, found {images.dtype} {images.shape} and {scale}"
        )
    rows, columns, height, width, *channels = images.shape
    height, width = scale * height + GAP, scale * width + GAP
    shape = (rows * height + GAP, columns * width + GAP, *channels)
    sheet = np.full(shape, _GAP_TONE, np.uint8)
    large = images.repeat(scale, axis=2).repeat(scale, axis=3)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP + row * height, GAP + column * width
            sheet[top : top + height - GAP, left : left + width - GAP] = large[
                row, column
            ]
    return sheet
