"""The check of documented ratios: what is a miss, what is refused, and that the documents have every table."""

from __future__ import annotations

import shlex
from pathlib import Path

import check_benchmarks
import pytest
from check_benchmarks import ALLOWED, BENCHMARKS, DOCUMENTS, Benchmark, missed, number_of
from conftest import ROOT, run_script
from document_tables import put_table, read_table
from sifa.utils.errors import InputError

TABLE = Benchmark("page.md", "speed", "none.py", ("scan", "way"), higher=("times faster",), lower=("of naive",))


def row(way: str, faster: str, naive: str) -> dict[str, str]:
    return {"scan": "a", "way": way, "seconds": "1", "times faster": faster, "of naive": naive}


def test_a_ratio_may_be_a_fifth_worse_and_any_amount_better() -> None:
    documented = [row("one", "2.4", "0.50"), row("two", "4.0 x", "10 %")]
    assert missed(TABLE, documented, [row("two", "9", "1 %"), row("one", "2.00", "0.60")]) == []
    sentences = missed(TABLE, documented, [row("one", "1.99", "0.61"), row("two", "3.3", "12.1 %")])
    assert sentences == [
        "page.md, a, one: times faster is 1.99, documented is 2.4.",
        "page.md, a, one: of naive is 0.61, documented is 0.50.",
        "page.md, a, two: times faster is 3.3, documented is 4.0 x.",
        "page.md, a, two: of naive is 12.1 %, documented is 10 %.",
    ]
    assert pytest.approx(1.2) == ALLOWED


def test_a_row_or_a_ratio_that_is_gone_is_a_miss() -> None:
    (sentence,) = missed(TABLE, [row("one", "2", "1")], [row("two", "2", "1")])
    assert "page.md, a, one" in sentence
    assert missed(TABLE, [row("one", "2", "")], [row("one", "2", "")]) == []  # never measured
    assert len(missed(TABLE, [row("one", "2", "1")], [row("one", "", "1")])) == 1


@pytest.mark.parametrize(("cell", "number"), [("9.0 %", 9), ("1.50", 1.5), ("", None), ("n/a", None), ("-2", -2)])
def test_numbers_are_read_whatever_their_unit(cell: str, number: float | None) -> None:
    assert number_of(cell) == number


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Speed\n\n<!-- speed -->\n<!-- end -->\n\nText.\n", encoding="utf-8")
    for rows in ([row("one", "2", "")], [row("`--b 1`", "2", "1 %"), row("two", "", "3")]):
        put_table(page, "speed", rows)
        assert read_table(page, "speed") == rows
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Speed\n\n<!-- speed -->\n| scan | way |")
    assert text.endswith("|\n<!-- end -->\n\nText.\n")
    for name in ("other", "empty"):
        page.write_text("<!-- empty -->\n<!-- end -->\n", encoding="utf-8")
        with pytest.raises(InputError, match=f"<!-- {name} -->"):
            read_table(page, name)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_documents_have_every_table_and_its_command(name: str) -> None:
    benchmark = BENCHMARKS[name]
    document = DOCUMENTS / benchmark.document
    for documented in read_table(document, benchmark.table):
        for heading in benchmark.keys:
            assert documented[heading]
        for heading in (*benchmark.higher, *benchmark.lower):
            assert heading in documented
    script, *options = shlex.split(benchmark.command)
    assert (ROOT / "scripts" / script).is_file()
    written = " ".join(document.read_text(encoding="utf-8").replace("\\\n", " ").split())
    assert script in written
    for option, value in zip(options[::2], options[1::2], strict=True):
        assert f"{option} {value}" in written


def test_a_missed_ratio_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, script = tmp_path / "page.md", tmp_path / "scripts" / "none.py"
    page.write_text("<!-- speed -->\n<!-- end -->\n", encoding="utf-8")
    put_table(page, "speed", [row("one", "2", "1")])
    script.parent.mkdir()
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'scripts')!r})\nfrom pathlib import Path\n"
        "from document_tables import put_table, read_table\n"
        "faster, page = sys.argv[1], Path(sys.argv[3])\n"
        "put_table(page, 'speed', [{**read_table(page, 'speed')[0], 'times faster': faster}])\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(check_benchmarks, "ROOT", tmp_path)
    monkeypatch.setattr(check_benchmarks, "DOCUMENTS", tmp_path)
    monkeypatch.setitem(BENCHMARKS, "speed", TABLE._replace(command="none.py 1.8"))
    check_benchmarks.main(tables="speed")
    assert "no documented ratio is missed" in capsys.readouterr().out
    monkeypatch.setitem(BENCHMARKS, "speed", TABLE._replace(command="none.py 1.2"))
    with pytest.raises(SystemExit, match="error: 1 documented"):
        check_benchmarks.main(tables="speed")
    assert "times faster is 1.2, documented is 2." in capsys.readouterr().err
    assert read_table(page, "speed")[0]["times faster"] == "2"  # the document stays as it is


def test_what_cannot_be_checked_is_refused_before_anything_runs() -> None:
    refused = run_script("check_benchmarks.py", "--tables", "refinement", check=False)
    assert refused.returncode == 2
    assert "--scans" in refused.stderr
    refused = run_script("check_benchmarks.py", "--tables", "speed", check=False)
    assert refused.returncode == 2
    assert "inference" in refused.stderr
