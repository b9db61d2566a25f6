"""Tables as text: what LaTeX and Markdown would read as markup is text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sifa.reports.text_tables import TextTable, escape_latex, to_latex, to_markdown

TABLE = TextTable(
    headings=["structure", "Dice (%)"],
    rows=[["left_kidney & co", "81.0 ± 2.0"], ["[x] | 50%", "-3.2 [-5.1, 1.0]"], ["mean", "n/a"]],
    caption="Mean ± SD; T1-weighted, p < 0.05.",
    groups=[2],
)


def test_latex_escapes_its_own_characters() -> None:
    text = to_latex(TABLE, "tab:x")

    assert r"left\_kidney \& co & 81.0 $\pm$ 2.0 \\" in text
    assert r"Dice (\%)" in text
    assert r"p $<$ 0.05" in text
    assert escape_latex(r"\{}~^#$") == r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\#\$"


def test_a_minus_is_one_and_a_hyphen_stays() -> None:
    assert escape_latex("-3.2 [-5.1, 1.0]") == "$-$3.2 [$-$5.1, 1.0]"
    assert escape_latex("T1-weighted, ct-2, ICA-1") == "T1-weighted, ct-2, ICA-1"


def test_latex_has_booktabs_rules_a_column_for_each_heading_and_groups() -> None:
    lines = to_latex(TABLE, "tab:x").splitlines()

    assert r"\begin{tabular}{lr}" in lines
    rules = [line for line in lines if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    assert lines[lines.index(r"mean & n/a \\") - 1] == r"\midrule"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)


def test_a_row_that_begins_with_a_bracket_is_no_argument_of_the_row_before() -> None:
    assert r"{}[x] $|$ 50\% & $-$3.2" in to_latex(TABLE, "tab:x")


def test_markdown_keeps_cells_apart_and_aligns_numbers_at_the_right() -> None:
    lines = to_markdown(TABLE).splitlines()

    assert lines[1] == "| --- | ---: |"
    assert lines[2] == r"| left\_kidney & co | 81.0 ± 2.0 |"
    assert lines[3] == r"| [x] \| 50% | -3.2 [-5.1, 1.0] |"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines[:5])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_typesets_it(tmp_path: Path) -> None:
    body = to_latex(TABLE, "tab:x")
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")

    subprocess.run(["pdflatex", "-halt-on-error", "table.tex"], cwd=tmp_path, check=True, capture_output=True)
