"""Samples as pictures or clips in a folder, with a manifest of how each was made."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddrl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ddrl.runs.loaded import LoadedRun

FORMAT = "ddrl-samples/1"
FPS = 16.0  # of clips, where the recipe leaves it to the data
_GAP = 1  # between the pictures of the grid, in their own pixels


@dataclass(frozen=True)
class Request:
    """Which samples to draw, and how to show them.

    Attributes:
        prompts: P of them.
        num: samples per prompt, S.
        seed: of the noise.
        steps: of the solver.
        solver: deterministic.
        scale: screen pixels per pixel, each way.
        first_frames: pixels that are given of each prompt's clips, shape (P, F, 3, H, W), or None.
        first_frame_files: where they are from; none, one or P.
        size: (height, width, frames) of the samples; None: the run's own, of several the first.
        are_own: whether the prompts are the first of the run's data, with the pictures that these
            are given.
    """

    prompts: tuple[str, ...]
    num: int
    seed: int
    steps: int
    solver: Literal["euler", "heun", "multistep"]
    scale: int
    first_frames: Tensor | None = None
    first_frame_files: tuple[str, ...] = ()
    size: tuple[int, int, int] | None = None
    are_own: bool = False


def draw(run: LoadedRun, request: Request) -> Tensor:
    """Return the samples as uint8, prompt by prompt: (P S, H, W, 3), clips (P S, T, H, W, 3).

    Raises:
        DataError: the model does not know a prompt, or can't make the size.
    """
    import torch

    from ddrl.builders.data.sizes import latent_shape_of
    from ddrl.evaluation.measures.generate import generate
    from ddrl.models.adapter.diffusers_model import DiffusersModel
    from ddrl.runs.first_frames import encode_prompts

    shape = run.latent_shape
    if isinstance(run.model, DiffusersModel) and request.size is not None:
        shape = latent_shape_of(run.model, request.size)
    if request.are_own:
        condition = run.corpus.train.condition[: len(request.prompts)]
    else:
        condition = encode_prompts(run, request.prompts, request.first_frames, request.size)
    samples = generate(
        run.forward,
        request.prompts,
        condition=condition,
        samples_per_prompt=request.num,
        latent_shape=shape,
        seed=request.seed,
        num_steps=request.steps,
        solver=request.solver,
        micro_batch=run.recipe.run.micro_batch,
        device=run.device,
    )
    return (samples.media.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1)


def write_samples(run: LoadedRun, request: Request, pixels: Tensor, folder: Path) -> None:
    """Write each sample, the grid (a row per prompt) and, last, ``manifest.json``.

    A picture is a PNG; a clip is an MP4, and shows its middle frame in the grid. The samples that
    an earlier manifest of the folder names are removed.

    Args:
        run: whose samples they are.
        request: how they were drawn.
        pixels: from ``draw``.
        folder: made if it is missing.

    Raises:
        UsageError: the folder can't be written.
    """
    files: list[dict[str, Any]] = []
    is_clip = pixels.ndim == 5
    stills = pixels[:, pixels.shape[1] // 2] if is_clip else pixels
    fps = run.recipe.data.fps or FPS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_earlier(folder)
        for index, sample in enumerate(pixels):
            prompt, member = divmod(index, request.num)
            text = request.prompts[prompt]
            path = folder / f"{index:03d}-{slug(text)}-{member}.{'mp4' if is_clip else 'png'}"
            content = mp4(sample, request.scale, fps=fps) if is_clip else png(sample, request.scale)
            files.append({**_write(path, content), "prompt": text, "member": member})
        grid = _write(folder / "grid.png", png(_grid(stills, request), request.scale))
        manifest = {
            "format": FORMAT,
            "run": str(run.folder),
            "step": run.step,
            "weights": run.weights,
            "prompts": list(request.prompts),
            "first_frames": list(request.first_frame_files),
            "samples_per_prompt": request.num,
            "seed": request.seed,
            "solver": request.solver,
            "steps": request.steps,
            "guidance": run.forward.guidance,
            "size": f"{pixels.shape[-2]}x{pixels.shape[-3]}",
            "grid": grid,
            "files": files,
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (folder / "manifest.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The samples can't be written to {folder}: {error.strerror or error}.",
            hint="name another folder: --out FOLDER",
        ) from error


def _write(path: Path, content: bytes) -> dict[str, str]:
    """Write a file; return its name and hash."""
    path.write_bytes(content)
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def check_writable(*, is_clip: bool) -> None:
    """See that samples can be written, which is found out best before they are drawn.

    Raises:
        UsageError: PyAV is needed and not installed.
    """
    if is_clip and importlib.util.find_spec("av") is None:
        raise UsageError("Writing a clip needs av.", hint="pip install 'ddrl[models]'")


def png(pixels: Tensor, scale: int) -> bytes:
    """One picture, each pixel a square."""
    from PIL import Image

    image = Image.fromarray(pixels.contiguous().numpy())
    size = (image.width * scale, image.height * scale)
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def mp4(frames: Tensor, scale: int, *, fps: float) -> bytes:
    """One clip, each pixel a square; a column or row is repeated where a side is odd.

    Raises:
        UsageError: PyAV is not installed.
    """
    import numpy as np

    check_writable(is_clip=True)
    from ddrl.rewards.mp4 import write_mp4

    large = frames.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2).numpy()
    odd = [(0, side % 2) for side in large.shape[1:3]]
    large = np.pad(large, [(0, 0), *odd, (0, 0)], mode="edge")
    buffer = io.BytesIO()
    options = {"crf": "12", "threads": "1"}
    write_mp4(buffer, large, fps=fps, pix_fmt="yuv420p", options=options)
    return buffer.getvalue()


def _grid(pixels: Tensor, request: Request) -> Tensor:
    """Return a row per prompt and a column per sample, on white."""
    _, height, width, channels = pixels.shape
    cells = pixels.new_full(
        (len(request.prompts), request.num, height + _GAP, width + _GAP, channels), 255
    )
    cells[:, :, :height, :width] = pixels.reshape(
        len(request.prompts), request.num, height, width, channels
    )
    rows = cells.permute(0, 2, 1, 3, 4)
    whole = rows.reshape(len(request.prompts) * (height + _GAP), -1, channels)
    return whole[:-_GAP, :-_GAP]


def slug(text: str) -> str:
    """Return a prompt as part of a file name: its letters, of any script, and digits."""
    from ddrl.disk import file_stem

    return file_stem(text) or "empty"


def _remove_earlier(folder: Path) -> None:
    """Remove what an earlier manifest lists, so that the folder holds one set of samples."""
    from ddrl.disk import read_object

    path = folder / "manifest.json"
    manifest = read_object(path)
    if manifest.get("format") != FORMAT:
        return
    path.unlink()
    for entry in manifest["files"]:
        # A name alone: nothing outside of this folder is ever removed.
        (folder / Path(entry["file"]).name).unlink(missing_ok=True)
