"""Pictures of masks over their scans."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from builders import ALL_AXCODES, diagonal_affine, stored_as
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sifa.reports.previews import draw_preview, organ_point, plane_slices, write_preview

Array = npt.NDArray[Any]

SPACING = (1.0, 2.0, 4.0)  # mm to the right, to the front, upward
LABELS = {1: "liver", 2: "spleen"}
VOLUMES = {"liver": 12.34, "spleen": 0.0}
WINDOW = (-160.0, 240.0)


def rotated(affine: Array, degrees: float) -> Array:
    """Returns `affine` turned about the axis from inferior to superior."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.eye(4)
    turn[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return turn @ affine


def asymmetric() -> Array:
    """Returns a volume of 8 x 9 x 7 voxels, no two alike, to be read as right, anterior and superior."""
    return np.arange(8 * 9 * 7, dtype=np.int16).reshape(8, 9, 7)


def box_mask(shape: tuple[int, int, int] = (20, 16, 12)) -> Array:
    """Returns a mask with one box of structure 1."""
    mask = np.zeros(shape, np.uint8)
    mask[4:10, 5:9, 3:8] = 1
    return mask


def preview(mask: Array, affine: Array | None = None, **changes: Any) -> Figure:
    """Returns the picture of `mask` over a gray ramp."""
    image = np.linspace(-1000, 1000, mask.size, dtype=np.float32).reshape(mask.shape)
    options: dict[str, Any] = {"labels": LABELS, "volumes_ml": VOLUMES, "flags": {}, "window": WINDOW} | changes
    return draw_preview(image, mask, diagonal_affine(SPACING) if affine is None else affine, **options)


def words(figure: Figure) -> list[str]:
    """Returns every text in the legend."""
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("degrees", [0.0, 20.0])
@pytest.mark.parametrize("axcodes", ALL_AXCODES)
def test_planes_are_the_patients_however_the_volume_is_stored(axcodes: str, degrees: float) -> None:
    volume, right, front, up = asymmetric(), 2, 6, 1
    stored, affine = stored_as(volume, diagonal_affine(SPACING), axcodes)
    point = np.argwhere(stored == volume[right, front, up])[0]
    slices = plane_slices(stored, rotated(affine, degrees), point)
    # Rows go down and columns to the right of the picture: toward posterior, inferior and the patient's left.
    expected = {
        "axial": volume[::-1, ::-1, up].T,
        "coronal": volume[::-1, front, ::-1].T,
        "sagittal": volume[right, ::-1, ::-1].T,
    }
    for plane, pixels in expected.items():
        assert np.array_equal(slices[plane].pixels, pixels)
        assert slices[plane].pixels[slices[plane].point] == volume[right, front, up]
    spacings = {"axial": (2, 1), "coronal": (4, 1), "sagittal": (4, 2)}
    assert {plane: part.spacing for plane, part in slices.items()} == {
        plane: pytest.approx(spacing) for plane, spacing in spacings.items()
    }


def test_slices_are_views_of_the_volume() -> None:
    volume = asymmetric()
    slices = plane_slices(volume, diagonal_affine(SPACING), (1, 2, 3))
    assert all(np.shares_memory(part.pixels, volume) for part in slices.values())


def test_a_picture_of_a_big_volume_needs_little_memory() -> None:
    mask = np.zeros((256, 256, 200), np.uint8, order="F")  # 13 MB
    mask[100:150, 100:150, 80:120] = 1
    image = np.zeros(mask.shape, np.int16, order="F")
    tracemalloc.start()
    draw_preview(image, mask, np.eye(4), LABELS, VOLUMES, {}, WINDOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize("axcodes", ["RAS", "LPI", "SAL", "AIR"])
def test_pictures_have_the_patients_proportions_and_letters(axcodes: str) -> None:
    stored, affine = stored_as(box_mask(), diagonal_affine(SPACING), axcodes)
    figure = preview(stored, affine)
    FigureCanvasAgg(figure).draw()
    millimeters = {"axial": (20, 32), "coronal": (20, 48), "sagittal": (32, 48)}  # width, height
    letters = {"axial": list("APRL"), "coronal": list("SIRL"), "sagittal": list("SIAP")}  # top, bottom, left, right
    for axes in figure.axes:
        plane, box = axes.get_title(), axes.get_window_extent()
        width, height = millimeters.pop(plane)
        assert box.width / box.height == pytest.approx(width / height, rel=1e-6)
        assert [text.get_text() for text in axes.texts] == letters[plane]
        places = np.array([text.get_window_extent().get_points().mean(axis=0) for text in axes.texts])
        assert places[0, 1] > places[2:, 1].max() > places[1, 1]
        assert places[2, 0] < places[0, 0] < places[3, 0]
        assert all(box.contains(*place) for place in places)
    assert not millimeters


def test_the_point_is_the_voxel_of_the_mask_nearest_to_its_center() -> None:
    mask = np.zeros((31, 31, 9), np.uint8)
    distance = np.hypot(*np.meshgrid(np.arange(31) - 15, np.arange(31) - 15, indexing="ij"))
    mask[..., 4][(distance >= 8) & (distance < 12)] = 1  # the center of a ring is not in the ring
    for stored in (mask, np.asfortranarray(mask)):
        assert organ_point(stored, np.diag([3.0, 1.0, 1.0, 1.0])) in {(15, 7, 4), (15, 23, 4)}


def test_an_empty_mask_is_drawn_through_the_center_without_contours() -> None:
    mask = np.zeros((20, 16, 12), np.uint8)
    assert organ_point(mask, np.eye(4)) == (10, 8, 6)
    figure = preview(mask, volumes_ml={"liver": 0.0})
    assert not any(axes.collections for axes in figure.axes)
    assert "0.0 ml" in words(figure)
    assert "n/a" in words(figure)


@pytest.mark.parametrize("touching", [False, True])
def test_contours_lie_on_the_border_of_the_mask_and_are_closed(touching: bool) -> None:
    mask = box_mask()
    if touching:
        mask[4:10, 5:9, :] = 1
    figure = preview(mask)
    # x from the patient's right, which is the last index; y from the front or from above, the last index as well.
    bottom, top = (12 * 4, 0) if touching else ((12 - 3) * 4, (12 - 8) * 4)
    borders = {
        "axial": (10, 16, (16 - 9) * 2, (16 - 5) * 2),
        "coronal": (10, 16, top, bottom),
        "sagittal": ((16 - 9) * 2, (16 - 5) * 2, top, bottom),
    }
    for axes in figure.axes:
        left, right, upper, lower = borders[axes.get_title()]
        (path,) = axes.collections[0].get_paths()
        corners = np.asarray(path.vertices)
        assert np.allclose([corners.min(axis=0), corners.max(axis=0)], [(left, upper), (right, lower)])
        assert np.allclose(corners[0], corners[-1])


def test_the_legend_has_names_volumes_flags_and_what_is_not_in_the_picture() -> None:
    mask = box_mask()
    mask[19, 15, 11] = 2
    flags = {"liver": ["two pieces", "costs $5 or $6"], "scan": ["oblique"]}
    notes = {"spleen": "predicted Dice 0.84 (0.70 to 0.98)"}
    figure = preview(mask, volumes_ml={"liver": 12.34, "spleen": 1.0}, flags=flags, notes=notes)
    expected = {
        "liver",
        "12.3 ml",
        "two pieces; costs $5 or $6",
        "spleen",
        "in none of these planes",
        "predicted Dice 0.84 (0.70 to 0.98)",
        "scan",
        "oblique",
    }
    assert expected <= set(words(figure))
    assert not any(text.get_parse_math() for text in figure.texts)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask has shape \(3, 2, 2\), the scan \(2, 2, 2\)"):
        draw_preview(np.zeros((2, 2, 2)), np.zeros((3, 2, 2), np.uint8), np.eye(4), LABELS, {}, {}, WINDOW)


def test_a_picture_is_a_small_png_with_the_structures_colors_and_without_text(tmp_path: Path) -> None:
    mask = box_mask((64, 64, 64))
    mask[30:60, 8:60, 10:50] = 2
    noise = np.random.default_rng(0).normal(0, 100, mask.shape)
    path = tmp_path / "a folder" / "preview.png"
    write_preview(path, noise, mask, np.eye(4), LABELS, VOLUMES, {"liver": ["odd"]}, WINDOW)
    assert [item.name for item in path.parent.iterdir()] == ["preview.png"]
    assert path.stat().st_size < 300_000
    picture = Image.open(path)
    picture.load()
    assert not {"Software", "Title", "Description", "Comment"} & set(picture.info)
    assert b"tEXt" not in path.read_bytes()
    colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(0xE6, 0x19, 0x4B), (0x3C, 0xB4, 0x4B)} <= colors


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()  # in the way
    with pytest.raises(OSError, match=r"a\.png"):
        write_preview(tmp_path / "a.png", np.zeros((4, 4, 4)), box_mask((4, 4, 4)), np.eye(4), LABELS, {}, {}, WINDOW)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_volumes_of_foreign_byte_order_are_drawn(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((20, 16, 12), ">i2"), np.eye(4), dtype=">i2")
    figure = draw_preview(np.asarray(image.dataobj), box_mask(), image.affine, LABELS, VOLUMES, {}, WINDOW)
    FigureCanvasAgg(figure).draw()


def test_chosen_colors_are_drawn_and_stand_in_the_palette_of_the_file(tmp_path: Path) -> None:
    image, mask = np.zeros((20, 16, 12)), box_mask()
    for name, colors in (("usual.png", None), ("chosen.png", {1: "#0102fe", 2: "#3cb44b"})):
        write_preview(tmp_path / name, image, mask, np.eye(4), LABELS, VOLUMES, {}, WINDOW, colors)
    usual, chosen = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("usual.png", "chosen.png"))
    assert (chosen == (0x01, 0x02, 0xFE)).all(axis=-1).any()
    assert (usual == (0xE6, 0x19, 0x4B)).all(axis=-1).any()
    assert not (chosen == (0xE6, 0x19, 0x4B)).all(axis=-1).any()
