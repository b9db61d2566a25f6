"""Renders tissues as MR images of several sequences, in arbitrary units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from phantoms.geometry import Grid, Random
from phantoms.tissues import BLOOD, BSSFP, LGE, MR_T1, MR_T2, Contrast, Tissue, Tissues, draw_levels


@dataclass(frozen=True)
class PulseSequence:
    """How an MR sequence shows tissues.

    Attributes:
        contrast: signal of the tissues.
        blood: mean and standard deviation over subjects of a factor on the signal of all blood; None: none.
        flow: relative change of the blood's signal where it flows slowly.
        noise: lowest and highest standard deviation of the noise in each of the two channels, as a share of the signal.
        ghosts: lowest and highest strength of the faint copies along the direction of phase encoding.
    """

    contrast: Contrast
    blood: tuple[float, float] | None
    flow: float
    noise: tuple[float, float] = (0.03, 0.06)
    ghosts: tuple[float, float] = (0.03, 0.10)


SEQUENCES = {
    "bssfp": PulseSequence(BSSFP, (0.78, 0.06), -0.18),
    "lge": PulseSequence(LGE, (0.66, 0.08), -0.06, noise=(0.04, 0.08)),
    "mr_t1": PulseSequence(MR_T1, None, 0.3, ghosts=(0.01, 0.06)),
    "mr_t2": PulseSequence(MR_T2, None, 0.5, ghosts=(0.01, 0.06)),
}


def render_mr(
    thin: Tissues, grid: Grid, sequence: PulseSequence, shown: Sequence[Tissue], rng: Random
) -> npt.NDArray[np.int16]:
    """Renders tissues as an MR image in arbitrary units: zero or more, on a scale of 200 to 1200.

    Args:
        thin: tissues on the refined grid.
        grid: of the image.
        sequence: how tissues look.
        shown: the tissues of this anatomy.
        rng: random numbers.
    """
    levels = draw_levels(sequence.contrast, shown, rng)
    levels[Tissue.PULMONARY_VEIN] = levels[Tissue.LEFT_ATRIUM]
    if sequence.blood is not None:
        levels[BLOOD] *= rng.normal(*sequence.blood)
    signal = grid.averaged(np.maximum(levels, 0.02).astype(np.float32)[thin]) * (1 + 0.07 * grid.noise(rng, 6))
    slow_flow = np.clip(grid.noise(rng, 12), 0, 2) * np.isin(grid.middle(thin), BLOOD)
    signal = gaussian_filter(signal * (1 + sequence.flow * slow_flow), grid.blur(0.6, rng.uniform(0.3, 0.7)))
    bias = np.exp(0.25 * grid.noise(rng, 38) + 0.25 * grid.toward_front())  # of a coil on the chest
    signal = signal * bias
    axis = int(rng.choice([axis for axis in range(3) if axis != grid.slice_axis]))  # of phase encoding
    for _ in range(2):
        shift = round(grid.shape[axis] * rng.uniform(1 / 6, 1 / 3))
        signal = signal + rng.uniform(*sequence.ghosts) * np.roll(signal, shift, axis)
    real, imaginary = rng.uniform(*sequence.noise) * rng.standard_normal((2, *grid.shape), dtype=np.float32)
    magnitude = np.hypot(signal + real, imaginary)  # of complex noise: Rician
    return np.asarray(np.round(magnitude * rng.uniform(200, 1200)), dtype=np.int16)
