"""The files of an evaluation: tables in Markdown and LaTeX, and box plots."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from builders import Array, read_json, refusal
from matplotlib.figure import Figure
from PIL import Image
from sifa.metrics.metric_list import metrics_at
from sifa.metrics.results import Results
from sifa.metrics.summary import Bootstrap
from sifa.reports.box_plots import draw_box_plots
from sifa.reports.results_files import write_results

NAN = math.nan
DICE = np.array([[81.0, 64.2, NAN], [79.0, 71.8, NAN], [86.0, 0.0, NAN], [74.0, 52.0, NAN]])
FILES = [f"results{ending}" for ending in (".csv", ".json", ".md", ".tex", "_box_plots.png", "_box_plots.svg")]


def full_results(failed: dict[str, str] | None = None) -> Results:
    """Results of all metrics; the spleen of one prediction is empty, and no case has a $gland_."""
    volumes = {"predicted_volume_ml": np.array([[9.0, 3, 0], [9, 3, 0], [9, 0, 0], [9, 3, 0]])}
    volumes["true_volume_ml"] = np.array([[9.0, 3, 0]] * 4)
    values: dict[str, Array] = dict.fromkeys(metrics_at(2), DICE / 10) | {"mean_dice": DICE} | volumes
    for name in ("surface_distance_voxels", "surface_distance_mm", "hd95_mm", "precision"):
        values[name] = np.where(volumes["predicted_volume_ml"] > 0, values[name], NAN)
    headings = {name: metric.heading for name, metric in metrics_at(2).items()}
    return Results(["a", "b", "c", "d"], ["liver", "spleen", "$gland_"], headings, values, failed or {})


def write(folder: Path, results: Results) -> None:
    write_results(results, folder, 2, Bootstrap(100))


def test_all_files_are_written_and_no_others(tmp_path: Path) -> None:
    write(tmp_path, full_results())

    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_the_tables_show_means_deviations_and_counts_of_n_a(tmp_path: Path) -> None:
    write(tmp_path, full_results())

    markdown, latex = ((tmp_path / f"results.{kind}").read_text(encoding="utf-8") for kind in ("md", "tex"))
    assert "| structure | Dice (%) | NSD at 2 mm (%) | ASD (mm) | HD95 (mm) |" in markdown
    # standard deviation of the sample: 80 ± 5.0 of 81, 79, 86 and 74
    assert "| liver | 80.0 ± 5.0 | 8.0 ± 0.5 | 8.00 ± 0.50 | 8.00 ± 0.50 |" in markdown
    assert "| spleen | 47.0 ± 32.4 | 4.7 ± 3.2 | 6.27 ± 1.00 (1 n/a) | 6.27 ± 1.00 (1 n/a) |" in markdown
    assert "| $gland\\_ | n/a (4 n/a) |" in markdown
    assert "- spleen, prediction empty: c\n" in markdown
    assert "- $gland\\_, both empty: a, b, c, d\n" in markdown
    assert r"liver & 80.0 $\pm$ 5.0 & 8.0 $\pm$ 0.5 & 8.00 $\pm$ 0.50 & 8.00 $\pm$ 0.50 \\" in latex
    assert r"\$gland\_ & n/a (4 n/a)" in latex
    for metric in metrics_at(2).values():
        assert f"| {metric.heading} | liver |" in markdown


def test_failed_cases_stand_in_the_tables(tmp_path: Path) -> None:
    write(tmp_path, full_results({"e": "/masks/e.nii.gz: it is damaged: copy it again."}))

    markdown, latex = ((tmp_path / f"results.{kind}").read_text(encoding="utf-8") for kind in ("md", "tex"))
    assert "- e: /masks/e.nii.gz: it is damaged: copy it again." in markdown
    assert "4 cases; 1 more could not be measured" in markdown
    assert "4 cases; 1 more could not be measured" in latex
    assert read_json(tmp_path / "results.json")["failed"].keys() == {"e"}


def test_the_same_results_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, full_results())

    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_single_case_has_values_without_spread(tmp_path: Path) -> None:
    results = full_results()
    one = Results(["a"], results.structures, results.headings, {name: v[:1] for name, v in results.values.items()})

    write(tmp_path, one)

    markdown = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| liver | 81.0 | 8.1 | 8.10 | 8.10 |" in markdown
    assert "| Dice (%) | liver | 81.0 | n/a | 81.0 | n/a | 1 | 0 |" in markdown
    assert "over 1 case." in markdown


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    assert "cannot be written" in refusal(lambda: write(tmp_path / "file", full_results()))


@pytest.fixture
def figure() -> Figure:
    """The box plots of `full_results`."""
    return draw_box_plots(full_results())


def test_a_panel_shows_a_box_for_each_structure_and_a_dot_for_each_case(figure: Figure) -> None:
    dice = figure.axes[0]

    assert [axes.get_title() for axes in figure.axes] == ["Dice (%)", "NSD at 2 mm (%)", "ASD (mm)", "HD95 (mm)"]
    assert [label.get_text() for label in dice.get_yticklabels()] == ["liver", "spleen", "$gland_"]
    dots = [line for line in dice.lines if line.get_marker() == "."]
    assert [sorted(np.asarray(line.get_xdata())) for line in dots] == [[74, 79, 81, 86], [0, 52, 64.2, 71.8], []]
    quartiles = [np.percentile(column[~np.isnan(column)], (25, 75)) for column in DICE.T[:2]]
    for box, (low, high) in zip(dice.patches, quartiles, strict=False):
        edges = np.asarray(box.get_path().vertices)[:, 0]
        assert (edges.min(), edges.max()) == (pytest.approx(low), pytest.approx(high))


def test_missing_values_are_counted_beside_the_box(figure: Figure) -> None:
    notes = [[text.get_text() for text in axes.texts] for axes in figure.axes]

    assert notes == [["4 n/a"], ["4 n/a"], ["1 n/a", "4 n/a"], ["1 n/a", "4 n/a"]]


def test_the_first_structure_is_at_the_top(figure: Figure) -> None:
    low, high = figure.axes[0].get_ylim()
    assert low > high


def test_the_vector_file_has_text_and_the_pixels_have_no_software_tag(tmp_path: Path) -> None:
    write(tmp_path, full_results())

    assert ">$gland_</text>" in (tmp_path / "results_box_plots.svg").read_text(encoding="utf-8")
    with Image.open(tmp_path / "results_box_plots.png") as picture:
        assert picture.width > 1500
        assert "Software" not in picture.info
