"""One iteration of inference: one scan from file to mask; a scan that fails does not stop the run."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from torch import nn
from tqdm import tqdm

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.case import Case, count_statuses
from sifa.inference.content_hash import content_hash
from sifa.inference.input_checks import check_scan
from sifa.inference.manifest import Manifest
from sifa.inference.probability_volume import probability_volume
from sifa.inference.read_ahead import ReadAhead
from sifa.inference.read_scan import Preprocessing, Scan, read_scan
from sifa.inference.results import SegmentedScan
from sifa.inference.segment_volume import Postprocessing, Predictor, segment_volume
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.io.nifti_writer import write_mask
from sifa.reports.case_index import NAME as INDEX
from sifa.reports.case_index import write_index
from sifa.utils.errors import InputError, Interrupted, find_input_error, first_line, innermost

logger = logging.getLogger(__name__)

Extra = Callable[[SegmentedScan], dict[str, Any]]


class SegmentScan:
    """`iteration_update` of an evaluator whose batches are items of `find_scans`.

    Args:
        network: C(E(.)), in evaluation mode.
        fingerprint: what it was trained on.
        preprocessing: maps `{"image": scan}` to `image` (C, X, Y, Z) with an affine, in the scan's own grid.
        inferer: segments such a volume.
        postprocessing: makes masks of `pred`, classes (1, X, Y, Z): with the fingerprint's `mask_values`, and cleaned.
        manifest: records the result of each scan.
        dataset_dir: folder of scans; paths in the manifest are relative to it.
        overwrite: whether to recreate masks that are up to date.
        extras: writers of files beside the mask; they return fields of the scan's `Case`.
        index: whether to write an `index.html` of all cases at the end; for shards, it is written when they are merged.
        probabilities: whether the writers get the class probabilities, which are on disk as long as they write.
        predictor: predicts the Dice of structures, see `sifa.quality_control`; None: no prediction.
        read_ahead: whether to read the next scan while one is segmented.
    """

    def __init__(
        self,
        network: nn.Module,
        fingerprint: Fingerprint,
        preprocessing: Preprocessing,
        inferer: SliceSegmenter,
        postprocessing: Postprocessing,
        manifest: Manifest,
        dataset_dir: str | Path,
        overwrite: bool = False,
        extras: Sequence[Extra] = (),
        index: bool = False,
        probabilities: bool = False,
        predictor: Predictor | None = None,
        read_ahead: bool = False,
    ) -> None:
        self.network = network
        self.fingerprint = fingerprint
        self.inferer = inferer
        self.postprocessing = postprocessing
        self.manifest = manifest
        self.root = Path(dataset_dir).absolute()
        self.overwrite = overwrite
        self.extras = extras
        self.index = index
        self.probabilities = probabilities
        self.predictor = predictor
        self.ahead = ReadAhead(partial(read_scan, preprocessing=preprocessing, fingerprint=fingerprint), read_ahead)
        self.bar: tqdm | None = None
        self.seen: list[str] = []  # scans that this run has finished
        self.known = frozenset(manifest.cases)  # scans that the manifest listed at the start

    def __call__(self, engine: Engine, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Segments one scan; an error is recorded in the manifest, and the run continues.

        Args:
            engine: the evaluator.
            batchdata: an item of `sifa.inference.read_ahead.with_next`.

        Raises:
            Interrupted: on Ctrl-C; the unfinished work on this scan is discarded.
        """
        state: Any = engine.state
        if self.bar is None:
            self.bar = tqdm(total=state.epoch_length, desc="scans", unit="scan", disable=None)
        try:
            self._one(batchdata, state.device)
            self.seen.append(self._name(batchdata))
        except KeyboardInterrupt:
            self.bar.close()
            self.manifest.fold()
            total = state.epoch_length
            raise Interrupted(
                f"interrupted after {len(self.seen)} of {total} scans; run the command again to continue."
            ) from None
        self.bar.update()
        return {}

    def _one(self, item: Mapping[str, Any], device: torch.device) -> None:
        name = self._name(item)
        with self.manifest.lock.hold(name):
            self._require_own(name, item)
            known = self.manifest.of_scan(name)
            earlier = list(known.earlier or ()) if known else []
            if "skipped" in item:
                earlier += self.manifest.set_aside(name)
                self.manifest.record(Case(name, "skipped", message=item["skipped"], earlier=earlier or None))
                logger.info("%s: skipped: %s", printable(name), item["skipped"])
                return
            extras = [type(make).__name__ for make in self.extras]
            extras += [made_by] if (made_by := getattr(self.predictor, "name", "")) else []
            start = time.monotonic()
            signature = None
            try:
                ahead = self.ahead.take(item)
                signature = content_hash(item) if ahead is None else ahead.signature
                if not self.overwrite and self.manifest.is_current(name, signature, extras, Path(item["mask"])):
                    logger.info("%s: already done", printable(name))
                    return
                earlier += self.manifest.set_aside(name, Path(item["mask"]), signature)
                with torch.inference_mode():
                    found = self.segment(item, device, None if ahead is None else ahead.scan)
            except Exception as error:
                reason = one_line(error).removeprefix(f"{item['image']}: ")
                tqdm.write(printable(f"failed: {name}: {reason}"), file=sys.stderr)
                logger.debug("details", exc_info=error)
                earlier += self.manifest.set_aside(name)
                failed = Case(name, "failed", None, reason, _since(start), signature=signature, earlier=earlier or None)
                self.manifest.record(failed)
                return
            case = Case(
                name,
                found.pop("status"),
                os.path.relpath(item["mask"], self.manifest.output_dir),
                seconds=_since(start),
                model=self.fingerprint.name,
                signature=signature,
                earlier=earlier or None,
                extras=extras,
                **found,
            )
            self.manifest.record(case)
            told = f": {case.message}" if case.message else ""
            logger.info("%s: %s in %.1f s%s", printable(name), case.status, case.seconds, printable(told))

    def _name(self, item: Mapping[str, Any]) -> str:
        """Returns the name of a scan in the manifest: its path, and the series where several share a folder."""
        path = Path(item["image"])
        name = path.name if path == self.root else os.path.relpath(path, self.root)
        return f"{name} ({item['series']})" if "series" in item else name

    def segment(self, item: Mapping[str, Any], device: torch.device, scan: Scan | None = None) -> dict[str, Any]:
        """Reads, checks, segments, measures and writes one scan; returns its status and other fields of its `Case`.

        Args:
            item: of `with_next` or `find_scans`.
            device: where the network runs.
            scan: what was read of it ahead of its turn.
        """
        data, files, warnings = self.ahead.read(item) if scan is None else scan
        image, mask = data["image"], Path(item["mask"])
        affine = np.asarray(image.affine, dtype=float)
        doubts = check_scan(np.asarray(image), affine, self.fingerprint)
        self._begin_next(item.get("next"), image.numel())
        classes, shape = self.fingerprint.network.out_channels, tuple(image.shape[1:])
        volume = probability_volume(mask.parent, classes, shape) if self.probabilities else nullcontext(None)
        with volume as probabilities:
            found = segment_volume(
                image,
                doubts,
                self.network,
                self.fingerprint,
                self.inferer,
                self.postprocessing,
                device,
                probabilities,
                self.predictor,
            )
            write_mask(found.mask.numpy(), Path(item["image"]), affine, mask)
            uncertainty = found.segmentation.uncertainty
            made, faults = self._make_extras(
                SegmentedScan(
                    Path(item["image"]),
                    mask,
                    np.asarray(image)[0],
                    found.segmentation.labels.numpy(),
                    affine,
                    found.segmentation.window,
                    found.quality,
                    files,
                    None if uncertainty is None else uncertainty.numpy(),
                    probabilities,
                )
            )
        unusual = [*warnings, *doubts.all, *found.doubts, *faults]
        flags = {name: entry["flags"] for name, entry in found.quality.items() if entry["flags"]}
        return {
            "status": "warning" if unusual else "flagged" if flags else "ok",
            "message": "; ".join([*unusual, *found.remarks]),
            "volumes_ml": {name: entry["volume_ml"] for name, entry in found.quality.items()},
            "flags": flags,
            "quality": found.quality,
            **made,
        }

    def _begin_next(self, item: Mapping[str, Any] | None, voxels: int) -> None:
        """Begins to read the next scan while one of so many voxels is segmented."""
        case = None if item is None or self.overwrite else self.manifest.cases.get(self._name(item))
        self.ahead.begin(item, case.signature if case and case.is_segmented else None, voxels)

    def _make_extras(self, scan: SegmentedScan) -> tuple[dict[str, Any], list[str]]:
        """Returns what the writers wrote, and a clause for each writer that failed; the mask is kept either way."""
        made: dict[str, Any] = {}
        doubts = []
        for make in self.extras:
            try:
                made.update(make(scan))
            except Exception as error:
                doubts.append(f"{type(make).__name__}: {one_line(error)}")
                logger.debug("details", exc_info=error)
        return made, doubts

    def require_same_scans(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Refuses another folder whose scans have names that the output folder already has masks of.

        A folder that was only moved or renamed holds the same scans, and passes.

        Args:
            items: what `find_scans` returned.

        Raises:
            InputError: when a scan of such a name has another content.
        """
        for item in items:
            self._require_own(self._name(item), item)

    def _require_own(self, name: str, item: Mapping[str, Any]) -> None:
        """Refuses a scan whose name belongs to a scan of another folder that has a mask and another content."""
        case = self.manifest.of_scan(name)
        if case is None or case.output is None or not self.manifest.is_elsewhere(case):
            return
        try:
            signature = "" if "skipped" in item else content_hash(item)
        except InputError:
            signature = ""  # it cannot be read, so it may be any scan
        if case.signature != signature:
            raise InputError(
                f"{self.manifest.output_dir}: it holds the mask of another scan named {name}, of the folder "
                f"{case.folder}: choose another --output_dir for {self.root}, or move {self.manifest.path.name} "
                "and the masks away."
            )

    def finish(self) -> None:
        """Logs how many scans have each status, and writes manifest and `volumes.csv`.

        `index.html` is written where it is wanted, and where an earlier run has written one.

        After a run over a folder, cases of its scans that no longer exist are removed from the manifest; after a run
        over a single file, all cases of earlier runs stay.

        Raises:
            InputError: when any scan failed; each of them has been named on stderr.
        """
        if self.bar is not None:
            self.bar.close()
        if self.root.is_dir():
            self.manifest.keep_only(self.seen, self.known)
        self.manifest.fold()
        folder = self.manifest.output_dir
        if (self.index or (folder / INDEX).is_file()) and not self.manifest.is_shard:
            write_index(folder, self.manifest.content() | {"model": self.fingerprint.name})
        cases = [self.manifest.cases[name] for name in self.seen if name in self.manifest.cases]
        counts = count_statuses(cases)
        summary = ", ".join(f"{number} {status}" for status, number in counts.items())
        total = f"{len(cases)} scan{'s' if len(cases) != 1 else ''}"
        logger.info("%s: %s; see %s", total, summary, self.manifest.path)
        if counts["failed"]:
            raise InputError(f"{counts['failed']} of {total} failed; {self.manifest.path} has the reasons.")


def one_line(error: BaseException) -> str:
    """Returns an error in one line: the sentence of an `InputError`, else the first line of the innermost cause."""
    found = find_input_error(error)
    return str(found) if found is not None else first_line(innermost(error))


def printable(text: str) -> str:
    """Returns a text as one line that stdout can encode: file names may hold line breaks and undecodable bytes."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _since(start: float) -> float:
    return round(time.monotonic() - start, 2)
