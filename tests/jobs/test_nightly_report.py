"""The example job: what it writes for any date, and what it refuses."""

import ast
import csv
import importlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from nightcrew_cli.jobfile import loader

JOBS = Path(__file__).parents[2] / "jobs"
FOLDER = JOBS / "nightly-report"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py"))
HEADER = "date,precipitation,temp_max,temp_min,wind,weather"
WITHOUT_END = {"meta"}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import the job's modules as the worker does, from beside the script, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("report")
    for name, draws in (("SEASON_DRAWS", 200), ("MONTH_DRAWS", 50)):
        monkeypatch.setattr(sys.modules["report_data"], name, draws)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def environment(output: Path, scheduled: str = "2026-11-23", **more: str) -> dict[str, str]:
    return {"NIGHTCREW_SCHEDULED_DATE": scheduled, "NIGHTCREW_OUTPUT_DIR": str(output), **more}


def rows(first: date = date(2012, 1, 1), days: int = 1461) -> list[str]:
    start = [first + timedelta(days=number) for number in range(days)]
    return [f"{day:%Y/%m/%d},{number % 3}.0,{10 + number % 7}.0,4.0,3.0,rain" for number, day in enumerate(start)]


class Balance(HTMLParser):
    """Fails on an element that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    ("scheduled", "shown_as", "years"),
    [
        pytest.param("2026-11-23", "2015-11-22", [2012, 2013, 2014], id="autumn"),
        pytest.param("2026-01-01", "2015-12-31", [2012, 2013, 2014], id="the first of January shows the year's end"),
        pytest.param("2027-02-10", "2015-02-09", [2013, 2014], id="a season over New Year has one year less"),
        pytest.param("2028-03-01", "2015-02-28", [2013, 2014], id="29 February becomes the 28th"),
        pytest.param("2014-06-01", "2015-05-31", [2012, 2013, 2014], id="before the end of the record"),
    ],
)
def test_a_date_is_shown_in_the_last_year_of_the_record(
    report: ModuleType, tmp_path: Path, scheduled: str, shown_as: str, years: list[int]
) -> None:
    code = report.main(environment(tmp_path, scheduled))

    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    table = list(csv.DictReader(io.StringIO((tmp_path / "monthly.csv").read_text("utf-8"))))
    assert code == 0
    assert summary["shown_as"] == shown_as
    assert summary["earlier_years"] == years
    assert summary["season"].keys() == {"Temperature", "Rain", "Days with rain", "Wind"}
    assert len(table) == 12
    assert table[-1]["last_day"] <= shown_as
    for numbers in summary["season"].values():
        assert numbers["interval"][0] <= numbers["difference"] <= numbers["interval"][1]


def test_the_page_stands_alone_and_is_well_formed(report: ModuleType, tmp_path: Path) -> None:
    report.main(environment(tmp_path, NIGHTCREW_RUN_ID="<run & more>"))

    page = (tmp_path / "report.html").read_text("utf-8")
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert balance.seen.count("h1") == 1
    assert "&lt;run &amp; more&gt;" in page
    assert re.search(r"(?:src|href)=|url\(|@import|<script", page) is None
    assert "prefers-color-scheme: dark" in page


def test_a_repeated_attempt_writes_the_same_bytes(report: ModuleType, tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        report.main(environment(tmp_path / attempt))

    for name in ("report.html", "summary.json", "monthly.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "data.csv cannot be read", id="no file"),
        pytest.param(b"\xff\xfe\x00", "data.csv cannot be read", id="not text"),
        pytest.param("", "has no column date, precipitation, temp_max, temp_min, wind", id="empty"),
        pytest.param(HEADER, "holds no measurements", id="nothing but the header"),
        pytest.param("date,temp_max\n2012/01/01,3", "no column precipitation, temp_min, wind", id="columns missing"),
        pytest.param([*rows()[:9], "2012/13/01,0,1,0,1,"], "line 11: '2012/13/01' is not a date", id="no such date"),
        pytest.param([*rows()[:9], ""], None, id="an empty line at the end is no measurement"),
        pytest.param([*rows()[:9], "2012/01/10,,1,0,1,"], "line 11: precipitation is '', not a number", id="a hole"),
        pytest.param([*rows()[:9], "2012/01/10,1"], "line 11: temp_max is None, not a number", id="a torn line"),
        pytest.param([*rows()[:9], "2012/01/10,nan,1,0,1,"], "precipitation is nan, outside 0.0 to 400", id="nan"),
        pytest.param([*rows()[:9], "2012/01/10,0,61,0,1,"], "temp_max is 61.0, outside", id="Fahrenheit"),
        pytest.param([*rows()[:9], "2012/01/10,0,1,2,1,"], "the low of 2.0 is above the high of 1.0", id="swapped"),
        pytest.param(rows()[:9] + rows()[10:], "2012-01-09 is followed by 2012-01-11", id="a day missing"),
        pytest.param(rows()[:9] + rows()[8:], "2012-01-09 is followed by 2012-01-09", id="a day twice"),
        pytest.param(rows(days=500), "needs its own days and those of 2 earlier years", id="too short a record"),
    ],
)
def test_data_that_cannot_be_trusted_are_refused(
    report: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | str | list[str] | None,
    message: str | None,
) -> None:
    path = tmp_path / "data.csv"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content if isinstance(content, str) else "\n".join([HEADER, *content]), "utf-8")

    code = report.main(environment(tmp_path / "out", REPORT_DATA=str(path)))

    assert code == 65
    assert (message or "needs its own days") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"NIGHTCREW_SCHEDULED_DATE": "2026-11-23"}, id="no folder"),
        pytest.param({"NIGHTCREW_SCHEDULED_DATE": "tonight", "NIGHTCREW_OUTPUT_DIR": "out"}, id="not a date"),
    ],
)
def test_a_call_without_date_or_folder_says_so(
    report: ModuleType, capsys: pytest.CaptureFixture[str], given: dict[str, str]
) -> None:
    assert report.main(given) == 64
    assert "needs NIGHTCREW_SCHEDULED_DATE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("warmer", "is_clear"), [pytest.param(0.0, False, id="the same weather"), pytest.param(4.0, True, id="4 °C more")]
)
def test_only_a_difference_that_chance_would_hardly_make_is_clear(
    report: ModuleType, warmer: float, is_clear: bool
) -> None:
    compare, weather = sys.modules["compare"], sys.modules["weather"]
    start = date(2012, 1, 1)
    days = [
        weather.Day(day, 0.0, 10.0 + number * 37 % 11 + (warmer if day.year == 2015 else 0.0), 4.0, 3.0)
        for number, day in enumerate(start + timedelta(days=count) for count in range(1461))
    ]

    period = compare.Record(days).period(date(2015, 5, 1), date(2015, 7, 31))
    found = compare.compare(period, lambda day: day.high, draws=300, seed="test")

    assert found.is_clear is is_clear
    assert abs(found.difference - warmer) < 0.5


def test_the_modules_are_python_3_9_and_need_nothing_installed() -> None:
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 9))
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            )
        }
        assert imported <= sys.stdlib_module_names | set(MODULES)


def test_the_job_file_ships_what_its_command_needs(tmp_path: Path) -> None:
    [job_file] = loader.load([JOBS / "nightly-report.yaml"])
    assert job_file.files_archive is not None
    with tarfile.open(fileobj=io.BytesIO(job_file.files_archive)) as archive:
        archive.extractall(tmp_path / "work", filter="data")

    done = subprocess.run(
        ["bash", "-c", job_file.job.command],
        cwd=tmp_path / "work",
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **environment(tmp_path / "out")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "reading seattle-weather.csv" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "summary.json", "monthly.csv"}
