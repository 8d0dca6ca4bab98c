"""The colours of a video's frames: what the file states becomes 8-bit sRGB, as players show it."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from av import VideoFrame

Floats = NDArray[np.float32]

# Numbers of ITU-T H.273, which all containers and codecs share.
_BT709, _UNSTATED, _BT601, _BT2020 = 1, 2, 6, 9
_MATRICES = frozenset({0, _BT709, _UNSTATED, 3, 4, 5, _BT601, 7, _BT2020})
_NO_MATRIX = frozenset({0, _UNSTATED, 3})  # of a YUV frame; 0 says RGB, 3 is reserved
# Transfers that players show as they are: all are near the sRGB curve, or mistaken for it.
_SDR = frozenset({0, 1, _UNSTATED, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15})
_PQ, _HLG = 16, 18
_HDR_NAMES = {_PQ: "PQ", _HLG: "HLG"}
_D65 = (0.3127, 0.3290)
# Red, green and blue, x and y each; the white of all is D65.
_PRIMARIES = {
    _BT709: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    _BT601: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    _BT2020: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    22: ((0.63, 0.34), (0.295, 0.605), (0.155, 0.077)),
}
_NO_PRIMARIES = frozenset({0, _UNSTATED, 3})
_FORMATS = {
    (False, False): "rgb24",
    (False, True): "rgba",
    (True, False): "rgb48le",
    (True, True): "rgba64le",
}
_HD_WIDTH, _HD_HEIGHT = 1280, 577  # what is smaller in both is BT.601 where no matrix is stated
_WHITE = 203.0  # cd/m^2 of white paper in HDR, ITU-R BT.2408
_PEAK = 1000.0  # cd/m^2 of the display that HDR is graded on, where the file names none
_PQ_PEAK = 10_000.0  # cd/m^2
# Of numbers between 0 and 65535; the scaler's own white is 255 * 256.
_FULL, _SCALER_WHITE = 65_535, 65_280.0


def hdr_name(frame: VideoFrame) -> str:
    """Return which HDR a frame is in, PQ or HLG; an empty string for SDR."""
    return _HDR_NAMES.get(int(frame.color_trc), "")


def strange_colour(frame: VideoFrame) -> str:
    """Return the colour that a file states and nothing here reads, so that it can't be shown.

    Returns:
        To follow the file's name, or an empty string.
    """
    stated = {
        "matrix": (int(frame.colorspace), _MATRICES),
        "transfer": (int(frame.color_trc), _SDR | _HDR_NAMES.keys()),
        "primaries": (int(frame.color_primaries), _PRIMARIES.keys() | _NO_PRIMARIES),
    }
    for what, (number, known) in stated.items():
        if number not in known:
            return f"states colour {what} {number} of ITU-T H.273, which can't be read"
    return ""


def picture(frame: VideoFrame) -> Image.Image:
    """Return a frame as sRGB of 8 bits, as stored: neither turned nor stretched.

    Matrix and range are those that the file states; without a matrix, frames as small as those of
    standard television are BT.601 and larger ones BT.709. Wide gamuts become BT.709, HDR is tone
    mapped to SDR, and what is transparent is laid on white.
    """
    from av.video.reformatter import Colorspace, Interpolation

    hdr = hdr_name(frame)
    clear = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    matrix = None
    if not frame.format.is_rgb and int(frame.colorspace) in _NO_MATRIX:
        is_hd = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
        matrix = Colorspace.ITU709 if is_hd else Colorspace.ITU601
        matrix = Colorspace.BT2020 if hdr else matrix
    pixels = frame.reformat(
        format=_FORMATS[bool(hdr), clear],
        src_colorspace=matrix,
        interpolation=Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP,
    ).to_ndarray()
    primaries = int(frame.color_primaries)
    if hdr:
        primaries = _BT2020 if primaries in _NO_PRIMARIES else primaries
        light = _tone_mapped(_hdr_light(pixels[..., :3], hdr), _peak(frame, hdr))
        colours = _to_srgb(light @ _to_bt709(primaries))
    elif primaries in _NO_PRIMARIES or primaries == _BT709:
        colours = pixels[..., :3]
    else:
        colours = _to_srgb(_srgb_light()[pixels[..., :3]] @ _to_bt709(primaries))
    image = Image.fromarray(np.ascontiguousarray(colours))
    if not clear:
        return image
    alpha = pixels[..., 3] >> 8 if hdr else pixels[..., 3]
    white = Image.new("RGB", image.size, (255, 255, 255))
    return Image.composite(image, white, Image.fromarray(np.ascontiguousarray(alpha, np.uint8)))


def _hdr_light(pixels: NDArray[np.uint16], hdr: str) -> Floats:
    """Light of an HDR picture in cd/m^2, shape (H, W, 3)."""
    signal = np.minimum(np.arange(_FULL + 1, dtype=np.float64) / _SCALER_WHITE, 1)
    if hdr == "PQ":
        return _pq_light(signal).astype(np.float32)[pixels]
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    light = scene.astype(np.float32)[pixels]
    luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return (light * (_PEAK * luminance**0.2)[..., None]).astype(np.float32)


_M1, _M2 = 2610 / 16384, 2523 / 32  # SMPTE ST 2084
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """PQ signal in [0, 1] to cd/m^2."""
    power = signal ** (1 / _M2)
    light = (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return np.asarray(light * _PQ_PEAK)


def _pq_signal(light: Floats | float) -> Floats:
    """Light in cd/m^2 to PQ signal in [0, 1]."""
    power = (np.asarray(light, np.float32) / _PQ_PEAK) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2, np.float32)


def _tone_mapped(light: Floats, peak: float) -> Floats:
    """Fit light up to a peak under white, by ITU-R BT.2390's curve; hues stay.

    Args:
        light: cd/m^2, shape (H, W, 3).
        peak: the most light that is expected, in cd/m^2.

    Returns:
        Light of which 1 is white.
    """
    if peak <= _WHITE:
        return light / _WHITE
    brightest = light.max(axis=-1)
    top = float(_pq_signal(peak))
    signal = np.minimum(_pq_signal(brightest) / top, 1)
    white = float(_pq_signal(_WHITE)) / top
    knee = 1.5 * white - 0.5
    t = np.maximum(signal - knee, 0) / (1 - knee)
    rolled = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * white
    )
    mapped = _pq_light(np.where(signal < knee, signal, rolled).astype(np.float64) * top)
    scale = mapped / np.maximum(brightest, 1e-6) / _WHITE
    return np.asarray(light * scale[..., None], np.float32)


def _peak(frame: VideoFrame, hdr: str) -> float:
    """Return the stated peak of the display that a frame was graded on, in cd/m^2."""
    data = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if hdr == "PQ" and data is not None:
        # Eight rationals of chromaticity, the least and the most light, and two flags.
        *_, top, bottom, _, has_light = struct.unpack_from("=22i", bytes(data))
        if has_light and bottom > 0 and 0 < top / bottom <= _PQ_PEAK:
            return float(top / bottom)
    return _PEAK


@functools.cache
def _srgb_light() -> Floats:
    """Light of the 256 levels of sRGB."""
    level = np.arange(256) / 255
    light: NDArray[np.float64] = np.where(
        level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4
    )
    return light.astype(np.float32)


@functools.cache
def _srgb_levels() -> NDArray[np.uint8]:
    """Return the level of sRGB for 65536 steps of light."""
    light = np.arange(_FULL + 1) / _FULL
    level: NDArray[np.float64] = np.where(
        light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055
    )
    return np.asarray(np.rint(level * 255), np.uint8)


def _to_srgb(light: Floats) -> NDArray[np.uint8]:
    """Levels of light of which 1 is white; what is beyond the gamut is cut off."""
    steps = np.rint(light.clip(0, 1) * _FULL).astype(np.uint16)
    return np.asarray(_srgb_levels()[steps])


@functools.cache
def _to_bt709(primaries: int) -> Floats:
    """Return the matrix from light of some primaries to BT.709, for rows of (red, green, blue)."""
    own, srgb = _to_xyz(primaries), _to_xyz(_BT709)
    return (np.linalg.inv(srgb) @ own).T.astype(np.float32)


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    """Return the matrix from light of some primaries to CIE XYZ, for columns."""

    def xyz(x: float, y: float) -> list[float]:
        return [x / y, 1, (1 - x - y) / y]

    columns = np.array([xyz(*point) for point in _PRIMARIES[primaries]]).T
    return columns * np.linalg.solve(columns, xyz(*_D65))
