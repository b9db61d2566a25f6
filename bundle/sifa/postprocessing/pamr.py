"""PAMR: pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020), which moves outlines to edges of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn import functional

try:
    from sifa.postprocessing import pamr_kernel
except ImportError:  # numba is not installed, or does not know this version of Python or NumPy
    pamr_kernel = None  # type: ignore[assignment]

LARGEST_EXPONENT = 20.0  # of the kernel; the error of a weight grows with it


def refine_with_pamr(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4),
    contrast: float = 0.1,
) -> torch.Tensor:
    """Replaces, in each iteration, the probabilities of a pixel by a mean over neighbors of similar intensity.

    Araslanov and Roth, "Single-stage semantic segmentation from image labels", CVPR 2020: p_i becomes the sum over
    neighbors j of a_ij p_j; a_i is the softmax over j of -|x_i - x_j| / contrast. Neighbors are the eight around a
    pixel at each of the `dilations`. The authors divide the difference by the standard deviation of the neighbors,
    which is small where there is nothing but noise; here the contrast is fixed.

    On CPUs with numba, float32 probabilities that need no gradient are refined by `sifa.postprocessing.pamr_kernel`,
    which differs from `refine_by_formula` by rounding only (less than 1e-5).

    Args:
        probabilities: (B, num_classes, H, W), finite, sum to 1 over classes.
        image: the segmented image, (B, C, H, W) in [-1, 1].
        iterations: number of iterations; 0 returns the probabilities unchanged.
        dilations: distances of the neighbors, in pixels.
        contrast: difference of intensities that divides the weight of a neighbor by e.

    Returns:
        Probabilities of the same shape.
    """
    if iterations > 0 and _suits_kernel(probabilities, image, dilations, contrast):
        return _refine_by_kernel(probabilities, image, iterations, contrast)
    return refine_by_formula(probabilities, image, iterations, dilations, contrast)


def refine_by_formula(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4),
    contrast: float = 0.1,
) -> torch.Tensor:
    """Refines by tensor operations on any device, with gradient; see `refine_with_pamr`."""
    if iterations == 0:
        return probabilities
    differences = [(one - image).abs().mean(dim=1, keepdim=True) for one in _neighbors(image, dilations)]
    weights = (-torch.stack(differences) / contrast).softmax(dim=0)
    for _ in range(iterations):
        mean = torch.zeros_like(probabilities)
        for weight, neighbor in zip(weights, _neighbors(probabilities, dilations), strict=True):
            mean.addcmul_(weight, neighbor)
        probabilities = mean
    return probabilities


def _suits_kernel(probabilities: torch.Tensor, image: torch.Tensor, dilations: Sequence[int], contrast: float) -> bool:
    """Returns whether the kernel can do this."""
    needs_gradient = torch.is_grad_enabled() and (probabilities.requires_grad or image.requires_grad)
    return (
        pamr_kernel is not None
        and not needs_gradient
        and all(each.device.type == "cpu" and each.dtype == torch.float32 for each in (probabilities, image))
        and tuple(dilations) == pamr_kernel.DILATIONS
        and probabilities.ndim == 4
        and probabilities.shape[1] > 1
        and image.shape == (len(probabilities), 1, *probabilities.shape[2:])
        and image.numel() > 0
        and bool(image.abs().max() <= LARGEST_EXPONENT * contrast)  # False for NaN
    )


def _refine_by_kernel(
    probabilities: torch.Tensor, image: torch.Tensor, iterations: int, contrast: float
) -> torch.Tensor:
    """Refines the images of a batch in as many threads as PyTorch uses; the number of threads changes nothing."""
    refine = pamr_kernel.kernel()
    exponent = image.detach() / contrast
    exponentials = torch.cat([exponent.exp(), (-exponent).exp()], dim=1).numpy()
    given = np.ascontiguousarray(probabilities.detach().numpy())
    result = np.empty_like(given)

    def refine_part(part: slice) -> None:
        refine(given[part], exponentials[part], iterations, result[part])

    threads = min(torch.get_num_threads(), len(result))
    if threads == 1:
        refine_part(slice(None))
    else:
        bounds = [len(result) * number // threads for number in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(refine_part, map(slice, bounds[:-1], bounds[1:])))
    return torch.from_numpy(result)


def _neighbors(values: torch.Tensor, dilations: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yields `values` (B, C, H, W) shifted to each neighbor; the border is repeated."""
    height, width = values.shape[2:]
    for dilation in dilations:
        padded = functional.pad(values, [dilation] * 4, mode="replicate")
        for down in (0, dilation, 2 * dilation):
            for right in (0, dilation, 2 * dilation):
                if (down, right) != (dilation, dilation):
                    yield padded[:, :, down : down + height, right : right + width]
