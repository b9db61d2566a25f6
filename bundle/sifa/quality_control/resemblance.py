"""How much imitated scans look like target scans, and one scan like all of these, by their latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu
from torch.nn import functional

from sifa.networks.segmenter import Segmenter
from sifa.transforms.intensity import NO_AIR

FOLDS = 5
PENALTY = 0.01  # on the squared weights of the classifier
LEAST_SPREAD = 1e-6  # of a channel that is always the same
NEAR = 0.95  # share of scans within the range of latents
LARGEST_WEIGHT = 10.0  # of an imitated scan
TOO_DIFFERENT, TOO_FEW = 0.95, 15  # AUROC from which, and effective scans below which, there is no resemblance


class Resemblance(NamedTuple):
    """What the classifier found; plain numbers."""

    target_scans: int
    auroc: float | None  # 0.5: imitated scans and target scans cannot be told apart; 1: always; None: too few to tell
    effective_scans: float  # imitated scans that count, (sum w)^2 / sum w^2

    @property
    def doubt(self) -> str:
        """Why imitated scans may say little of target scans, as a clause; empty where they resemble them."""
        if self.auroc is None:
            return f"{self.target_scans} target scans of training are too few to compare calibration with"
        if self.auroc > TOO_DIFFERENT:
            return f"calibration does not resemble the target scans (AUROC {self.auroc:.2f})"
        if self.effective_scans < TOO_FEW:
            return f"too few scans of calibration resemble the target scans (as many as {self.effective_scans:.0f})"
        return ""


class LatentRange(NamedTuple):
    """Where the pooled latents of imitated scans and of target scans lie; plain numbers."""

    mean: list[float]
    spread: list[float]  # standard deviation, positive
    farthest: float  # what is far: the distance within which most of these scans lie

    def holds(self, pooled: np.ndarray) -> bool:
        """Returns whether a scan with pooled latents (F,) lies as near as most of these scans."""
        return self.distance(pooled) <= self.farthest

    def distance(self, pooled: np.ndarray) -> float:
        """Returns the root mean square of the deviations of pooled latents (F,), in units of the spread."""
        return math.sqrt(np.mean(((pooled - np.array(self.mean)) / np.array(self.spread)) ** 2))


def range_of(pooled: np.ndarray) -> LatentRange:
    """Returns the range of pooled latents (N, F)."""
    spread = np.maximum(pooled.std(axis=0), LEAST_SPREAD)
    found = LatentRange(pooled.mean(axis=0).tolist(), spread.tolist(), 0.0)
    return found._replace(farthest=float(np.quantile([*map(found.distance, pooled)], NEAR)))


@torch.no_grad()
def pool_latents(network: Segmenter, images: torch.Tensor, batch_size: int) -> np.ndarray:
    """Returns mean and standard deviation of each channel of E over all positions that show tissue, (2 * channels,).

    Args:
        network: C(E(.)), in evaluation mode.
        images: slices of one scan (N, C, H, W) in [-1, 1], N >= 1.
        batch_size: of images.
    """
    padded = network.pad(images)
    latents = torch.cat([network.encoder(batch) for batch in padded.split(batch_size)]).movedim(1, -1)
    tissue = functional.avg_pool2d((padded.amax(dim=1, keepdim=True) >= NO_AIR).float(), network.multiple)[:, 0]
    shown = latents[tissue >= min(0.5, float(tissue.max()))]
    pooled = torch.cat([shown.mean(dim=0), shown.std(dim=0, correction=0)])
    return pooled.numpy(force=True).astype(np.float64)


def compare(
    imitated: np.ndarray, sources: np.ndarray, examples: np.ndarray, target: np.ndarray, seed: int = 0
) -> tuple[Resemblance, np.ndarray]:
    """Returns how much imitated scans look like target scans, and the weights (N,) of imitated scans.

    A classifier (logistic regression) tells the two apart. It never judges a scan that it has seen, nor one whose
    source scan or whose example it has seen. The AUROC counts pairs that the same classifier has judged. The odds,
    divided by those of the scans that the classifier has seen and cut at 10, are the density ratio by which conformal
    prediction weights a scan (Tibshirani et al., NeurIPS 2019).

    Args:
        imitated: pooled latents (N, F).
        sources: number of the source scan of each imitated one, (N,).
        examples: number of the target scan whose style each imitated one has, (N,); -1: of none.
        target: pooled latents of target scans (M, F).
        seed: of the folds.
    """
    if len(target) < FOLDS:
        return Resemblance(len(target), None, float(len(imitated))), np.ones(len(imitated))
    features = np.vstack([imitated, target])
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), LEAST_SPREAD)
    features /= np.sqrt(features.shape[1])
    ours, theirs = features[: len(imitated)], features[len(imitated) :]
    rng = np.random.default_rng(seed)
    source_parts = np.array_split(rng.permutation(np.unique(sources)), FOLDS)
    target_parts = np.array_split(rng.permutation(len(target)), FOLDS)
    weights, right, pairs = np.zeros(len(imitated)), 0.0, 0
    for held_sources, held_targets in zip(source_parts, target_parts, strict=True):
        judged, unseen = np.isin(sources, held_sources), np.isin(np.arange(len(target)), held_targets)
        seen = ~judged & ~np.isin(examples, held_targets)
        classify = _fit_classifier(ours[seen], theirs[~unseen])
        weights[judged] = np.exp(classify(ours[judged])) * seen.sum() / (~unseen).sum()
        right += mannwhitneyu(classify(theirs[unseen]), classify(ours[judged])).statistic
        pairs += int(unseen.sum() * judged.sum())
    weights = np.minimum(weights, LARGEST_WEIGHT)
    return Resemblance(len(target), float(right / pairs), float(weights.sum() ** 2 / (weights**2).sum())), weights


def _fit_classifier(ours: np.ndarray, theirs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the log odds of features (K, F) for the second of two sets (N, F) and (M, F), by logistic regression."""
    signs = np.repeat([-1.0, 1.0], [len(ours), len(theirs)])
    with_one = np.hstack([np.vstack([ours, theirs]), np.ones((len(signs), 1))])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (with_one @ weights)
        penalized = np.append(weights[:-1], 0)
        gradient = -(signs / (1 + np.exp(margins))) @ with_one / len(signs) + PENALTY * penalized
        return float(np.logaddexp(0, -margins).mean() + PENALTY / 2 * penalized @ penalized), gradient

    found = minimize(loss, np.zeros(with_one.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda features: features @ found[:-1] + found[-1]
