"""The Python interface: a trained network that segments scans, which may be files, arrays or tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, KeepLargestConnectedComponentd, LoadImaged
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.ensemble import flips_of, load_networks, model_folders, shared_fingerprint
from sifa.inference.find_scans import find_scans
from sifa.inference.input_checks import check_scan
from sifa.inference.read_scan import read_scan
from sifa.inference.segment_volume import Predictor, segment_volume
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.io.dicom_reader import SeriesReader
from sifa.io.nifti_writer import write_mask
from sifa.io.scan_reader import ScanReader
from sifa.networks.batch_norm import for_inference
from sifa.networks.segmenter import Segmenter as Network
from sifa.quality_control.dice_predictor import DicePredictor
from sifa.transforms.dictionary import MapLabelsd
from sifa.utils.devices import require_device
from sifa.utils.errors import InputError
from sifa.utils.options import structure_values

KEPT_TYPES = (torch.int16, torch.float32)  # others are converted to float32


@dataclass(frozen=True)
class SegmentedVolume:
    """The mask of a scan and what was measured in it.

    Args:
        mask: (X, Y, Z), uint8 or int16, in the scan's own grid and order, with its affine (RAS, mm).
        structures: names of the structures by their values in the mask.
        quality: figures and flags by structure, the columns of `volumes.csv`; see `sifa.inference.quality.measure`.
            With a calibrated model they include `predicted_dice`, `low` and `high`.
        warnings: clauses about what is unusual in the scan or its file.
        scan: the file or folder; None for an array.
    """

    mask: MetaTensor
    structures: dict[int, str]
    quality: dict[str, dict[str, Any]]
    warnings: list[str]
    scan: Path | None = None

    def save(self, path: str | Path) -> None:
        """Writes the mask as NIfTI; the header of a NIfTI scan is kept as `run inference` keeps it.

        Args:
            path: the `.nii.gz` or `.nii` file; its folder is created.

        Raises:
            InputError: when the name has another ending.
        """
        if not str(path).lower().endswith((".nii", ".nii.gz")):
            raise InputError(f"{path}: masks are written as NIfTI: give a name that ends with .nii.gz.")
        array, affine = self.mask.numpy(), self.mask.affine.numpy().astype(float)
        write_mask(array, self.scan, affine, Path(path))


class Segmenter:
    """A trained network that segments scans one by one, with the same masks as `run inference`.

    Args:
        network: C(E(.)), in evaluation mode, on `device`.
        fingerprint: what it was trained on.
        inferer: segments volumes.
        device: where the network runs.
        largest_component: names or values in the mask of structures of which only the largest connected component is
            kept.
        predictor: predicts the Dice of structures, see `sifa.quality_control`; None: no prediction.

    Raises:
        UsageError: when a structure in `largest_component` is unknown.
    """

    def __init__(
        self,
        network: nn.Module,
        fingerprint: Fingerprint,
        inferer: SliceSegmenter,
        device: str | torch.device,
        largest_component: Sequence[str | int] = (),
        predictor: Predictor | None = None,
    ) -> None:
        self.network = for_inference(network)
        self.fingerprint = fingerprint
        self.inferer = inferer
        self.device = torch.device(device)
        self.predictor = predictor
        values = structure_values("largest_component", list(largest_component), fingerprint.mask_names)
        keep = [KeepLargestConnectedComponentd("pred", fingerprint.classes_of(values))] if values else []
        self.postprocessing = Compose([*keep, MapLabelsd("pred", fingerprint.mask_values)])
        readers: Any = [SeriesReader(), ScanReader()]  # of DICOM and of files
        load = LoadImaged("image", dtype=None, reader=readers)
        self.preprocessing = Compose([load, EnsureChannelFirstd("image")])

    @classmethod
    def from_run(
        cls,
        model_dir: str | Path | Sequence[str | Path],
        device: str | torch.device | None = None,
        tta: bool | str | None = None,
        largest_component: Sequence[str | int] = (),
        trust: str | None = "fast",
        **settings: Any,
    ) -> Segmenter:
        """Loads a trained network, or the mean of several.

        Args:
            model_dir: output folder of a training (`model.pt` and `fingerprint.json`), or a list of them.
            device: where it runs; None: the first GPU, if there is one, else the CPU.
            tta: flips of test-time augmentation; see `sifa.inference.ensemble.flips_of`.
            largest_component: names or values in the mask of structures of which only the largest connected component
                is kept.
            trust: predicted Dice, where `calibration.json` lies beside one model: `fast`, `full` or `none`, as
                `--trust` of `run inference`.
            **settings: arguments of `SliceSegmenter`, such as `precision` or `region_step`.

        Raises:
            InputError: when a file is missing or does not fit, several trainings cannot be averaged, a setting is
                wrong, or `full` is asked for without a calibration.
        """
        device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        require_device(device)
        folders = model_folders(list(model_dir) if isinstance(model_dir, tuple) else model_dir)
        fingerprint = shared_fingerprint(folders)
        flips = flips_of(tta, fingerprint.orientation)
        network = load_networks(Network(**asdict(fingerprint.network)), folders, device, flips)
        inferer = SliceSegmenter.from_fingerprint(fingerprint, **settings)
        predictor = DicePredictor(trust, folders, network, inferer, fingerprint)
        return cls(network, fingerprint, inferer, device, largest_component, predictor)

    @torch.inference_mode()
    def segment(
        self, scan: str | Path | npt.NDArray[Any] | torch.Tensor, affine: npt.ArrayLike | None = None
    ) -> SegmentedVolume:
        """Segments one scan.

        Args:
            scan: a NIfTI, NRRD or MetaImage file; a folder with one DICOM series; or intensities (X, Y, Z) or
                (C, X, Y, Z) in any storage order, in HU for CT.
            affine: (4, 4), from indices to mm, right, anterior and superior being positive (RAS). Arrays and plain
                tensors need one; files and MetaTensors have their own.

        Raises:
            InputError: when it cannot be read or segmented; the sentence says why.
        """
        if isinstance(scan, str | Path):
            path = Path(scan)
            if affine is not None:
                raise InputError(f"{path}: a file has an affine of its own: leave out 'affine'.")
            image, warnings = self._read(path)
            try:
                return self._segment(image, warnings, path)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
        return self._segment(_as_volume(scan, affine), [])

    def _read(self, path: Path) -> tuple[MetaTensor, list[str]]:
        """Returns the intensities (C, X, Y, Z) of a file or series, and warnings about it."""
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder: correct the path.")
        items = find_scans(path, path if path.is_dir() else path.parent)
        usable = [item for item in items if "skipped" not in item]
        if len(usable) != 1:
            reasons = "; ".join(f"{item['image']}: {item['skipped']}" for item in items if "skipped" in item)
            found = f"it holds {len(usable)} scans" if usable else f"it holds no scan ({reasons or 'nothing to read'})"
            raise InputError(f"{path}: {found}: give one scan, or segment a folder of scans with run inference.")
        try:
            data, _, warnings = read_scan(usable[0], self.preprocessing, self.fingerprint)
        except InputError as error:
            raise InputError(f"{path}: {str(error).removeprefix(str(usable[0]['image']) + ': ')}") from error
        return data["image"], warnings

    def _segment(self, image: MetaTensor, warnings: list[str], scan: Path | None = None) -> SegmentedVolume:
        doubts = check_scan(image.numpy(force=True), np.asarray(image.affine, dtype=float), self.fingerprint)
        found = segment_volume(
            image,
            doubts,
            self.network,
            self.fingerprint,
            self.inferer,
            self.postprocessing,
            self.device,
            predictor=self.predictor,
        )
        mask = MetaTensor(found.mask, affine=image.affine)
        warnings = [*warnings, *doubts.all, *found.doubts, *found.remarks]
        return SegmentedVolume(mask, self.fingerprint.mask_names, found.quality, warnings, scan)


def _as_volume(scan: npt.NDArray[Any] | torch.Tensor, affine: npt.ArrayLike | None) -> MetaTensor:
    """Returns intensities (C, X, Y, Z), int16 or float32, with an affine."""
    if isinstance(scan, MetaTensor):
        if affine is not None:
            raise InputError("the MetaTensor has an affine of its own: leave out 'affine'.")
        placed: Any = scan.affine
    elif affine is None:
        raise InputError("an array has no affine: give 'affine' (4, 4), from indices to mm in RAS.")
    else:
        placed = affine
    try:
        grid = torch.as_tensor(np.array(placed, dtype=np.float64))
        volume = torch.as_tensor(scan).as_subclass(torch.Tensor).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the scan or its affine is no array of numbers ({error}): convert it.") from error
    if grid.shape != (4, 4):
        raise InputError(f"the affine has the shape {tuple(grid.shape)}: give (4, 4), from indices to mm in RAS.")
    if volume.ndim not in (3, 4):
        raise InputError(f"the scan has {volume.ndim} dimensions: give (X, Y, Z) or (C, X, Y, Z).")
    if volume.is_complex():
        raise InputError("the scan holds complex numbers: give the intensities, one real number each.")
    if volume.dtype not in KEPT_TYPES:
        volume = volume.float()
    return MetaTensor(volume[None] if volume.ndim == 3 else volume, affine=grid)
