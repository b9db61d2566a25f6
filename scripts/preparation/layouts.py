"""Recognizes the layout of a folder of scans, and finds them."""

from __future__ import annotations

from pathlib import Path

from sifa.data.dataset_json import NAME, read_description
from sifa.data.other_layouts import DECATHLON, NNUNET, layout_of
from sifa.utils.errors import InputError

from preparation.bids import find_in_bids, is_bids
from preparation.decathlon import find_in_decathlon, is_decathlon
from preparation.dicom import find_in_dicom, holds_dicom
from preparation.folders import find_in_folders
from preparation.nnunet import TRAINING, find_in_nnunet
from preparation.scans import Domain, scan_files

MAY_LACK_LABELS = ("BIDS", "DICOM")  # layouts in which some scans of the source usually have none


def find_domain(
    domain: str, folder: Path, labels: Path | None, channel: int | str | None, modality: str | None
) -> Domain:
    """Finds the scans of a domain.

    Args:
        domain: source or target.
        folder: of the scans, in any of the layouts.
        labels: a folder of labels; None: they are where the layout has them.
        channel: number or name of a channel, or suffix of BIDS; None: there is only one.
        modality: CT or MR, where DICOM has both.

    Raises:
        InputError: when there is no such folder, or its scans are not as the layout has them.
    """
    channel_option = "--channel" if domain == "source" else "--target_channel"
    for path, option in ((folder, f"--{domain}"), (labels, f"--{domain}_labels")):
        if path is not None and not path.is_dir():
            raise InputError(f"{path}: there is no such folder: correct {option}.")
    content = read_description(folder / NAME) if (folder / NAME).is_file() else {}
    layout = layout_of(content)
    if content and not layout:
        raise InputError(f"{folder / NAME}: it is not of nnU-Net or the Decathlon: give the folders of the scans.")
    options = (f"--{domain}_labels", channel_option)
    if labels is None and layout == DECATHLON and is_decathlon(folder, content):
        return find_in_decathlon(folder, content, channel, channel_option)
    if labels is None and (layout in (DECATHLON, NNUNET) or (folder / TRAINING[0]).is_dir()):
        return find_in_nnunet(folder, content, channel, channel_option)
    if is_bids(folder) and scan_files(folder):
        return find_in_bids(folder, labels, channel, options)
    if holds_dicom(folder):
        return find_in_dicom(folder, labels, modality, (options[0], f"--{domain}_modality"))
    if not scan_files(folder):
        raise InputError(f"{folder}: it holds no scan (NIfTI, NRRD, MetaImage or DICOM): correct --{domain}.")
    return find_in_folders(folder, labels, channel, options)
