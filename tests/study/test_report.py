"""The report, from results made by hand."""

import csv
import importlib.util
import json
import re
from html.parser import HTMLParser

import pytest

from tests.helpers import ROOT, run
from xpnn.study import Job, read_study, write_report
from xpnn.study.article import published
from xpnn.study.comparison import Cell, Spread, compare
from xpnn.study.figures import COLORS, SERIES
from xpnn.study.grid import load_study, parse_study
from xpnn.study.job import FIGURES
from xpnn.study.report import _same_line
from xpnn.study.results import STUDY_FILE, read_folder, write_result

MACHINE = {"library": "numpy 9.9", "blas": "MadeUpBLAS 1.2 Kernel", "cpu": "An <Old> CPU"}

TEXT = """
title = "Mine & <b>yours</b>"
[[experiment]]
name = "one"
title = "One < two"
activation = "h_swish"
[[experiment.log]]
published = "h_swish"
[[experiment.table]]
title = "Base run"
published = 149
labels = ["activation"]
rows = [{ activation = "relu" }, { activation = "swish" }, { activation = "h_swish" }]
[[experiment.figure]]
title = "Functions"
functions = ["relu", "h_swish:n=4"]
[[experiment.figure]]
title = "Curves"
quantities = ["train_loss", "test_loss"]
runs = [{ label = "h", activation = "h_swish" }, { label = "s", activation = "swish" }]
[[repeat]]
backend = "torch"
[[repeat]]
environment = { OPENBLAS_CORETYPE = "Haswell" }
[[repeat]]
reproducible = true
[[repeat]]
backend = "jax"
"""


def a_log(train, *tests):
    column = [0.1, *tests]
    return {
        "train_accuracy": [0.1] * (len(column) - 1) + [train],
        "train_loss": [1.0] * len(column),
        "test_accuracy": column,
        "test_loss": [2.0] * len(column),
        "seconds": [0.5] * len(column),
    }


def keep(folder, run, log, weights=None):
    content = {
        "format": 1,
        "run": run.as_dict(),
        "data": "0" * 64,
        "weights_sha256": weights or run.file_name("0" * 64),
        "machine": MACHINE,
        "log": log,
    }
    write_result(folder / run.file_name("0" * 64), content)


@pytest.fixture
def study():
    return parse_study(TEXT, "mine.toml")


@pytest.fixture
def folder(tmp_path, study):
    """A finished study: ReLU as published but for one cell, h-swish as published, no Swish."""
    (tmp_path / STUDY_FILE).write_text(
        json.dumps(
            {
                "format": 1,
                "name": "mine.toml",
                "source": TEXT,
                "overrides": {},
                "data": "0" * 64,
                "experiments": ["one"],
            }
        )
    )
    relu, _, h_swish = study.experiments[0].tables[0].jobs
    # published: 100.00, 97.85, 97.88; 2, 5, never
    keep(tmp_path, relu, a_log(1.0, 0.94, 0.955, 0.96, 0.96, 0.9788, 0.9786))
    keep(tmp_path, h_swish, {**published.log("h_swish"), "seconds": [1.0] * 51})
    return tmp_path


def test_a_study_of_before_initializers_were_a_setting(folder):
    """What its source doesn't say was he_normal."""
    path = folder / STUDY_FILE
    content = json.loads(path.read_text())
    assert {job.settings.init for job in read_study(folder)[0].jobs} == {"uniform"}
    del content["format"]
    path.write_text(json.dumps(content))
    assert {job.settings.init for job in read_study(folder)[0].jobs} == {"he_normal"}


def test_the_columns_are_those_of_a_log():
    assert set(a_log(1.0)) == set(FIGURES)


def test_the_headline_counts_every_published_cell(folder):
    assert write_report(folder) == "2 of 3 runs done; 11 of 18 published cells equal (6 not run)"


def test_the_csv_has_a_line_a_cell(folder):
    write_report(folder)
    with (folder / "tables.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    found = {(row["row"], row["figure"]): row for row in rows}
    expected = {"published": "97.85", "ours": "97.86", "equal": "no", "difference": "+0.01"}
    assert expected.items() <= found["ReLU", "test"].items()
    expected = {"published": "97.88", "ours": "97.88", "equal": "yes", "difference": ""}
    assert expected.items() <= found["ReLU", "best"].items()
    assert found["ReLU", "ts98"]["ours"] == "-"
    assert found["Swish", "test"]["ours"] == found["Swish", "test"]["equal"] == ""
    assert [found["h-swish", f"ts{level}"]["ours"] for level in (95, 97, 98)] == ["4", "7", "-"]


class Page(HTMLParser):
    """What a browser would load, the tags that are open, and the text."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.loads, self.open, self.ids, self.links, self.words = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loads += [given[name] for name in ("src", "srcset", "data") if name in given]
        self.loads += [given["href"]] if tag == "link" else []
        self.links += [v for n, v in attributes if n in ("href", "xlink:href")]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)


def test_the_page_stands_alone(folder):
    write_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert re.findall(r"@import|url\((?!#)", text) == []
    assert "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)


def test_the_page_shows_what_was_run_and_on_what(folder):
    write_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    shown = " ".join(Page(text).words)
    for words in ("11 of 18", "51 of 51", "One < two", "Mine & <b>yours</b>", "An <Old> CPU"):
        assert words in shown
    assert "MadeUpBLAS 1.2 Kernel" in shown
    assert '<td class="same">97.88 <i title="equal">✓</i><small title="published">97.88' in text
    assert '<td class="other">97.86 <i>+0.01</i><small title="published">97.85' in text
    assert "All 51 rows agree; the largest difference is 0.0e+00" in shown
    assert "1 runs of these experiments have no result yet" in shown


def test_light_and_dark(folder):
    pytest.importorskip("matplotlib")
    write_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "color-scheme:light dark" in text
    used = set(re.findall(r"var\(--(\w+)\)", text))
    query = r"@media\(prefers-color-scheme:dark\){:root{(.*?)}}"
    dark, light = " ".join(re.findall(query, text)), re.sub(query, "", text)
    for name in used:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark
    # a figure has no colour of its own
    assert re.findall(r"#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))) == []


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(mode):
    """Contrast by WCAG 2 on the page's own background: that of text, for lines have labels."""

    def luminance(color):
        values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    page = luminance(COLORS["page"][mode])
    for name, pair in COLORS.items():
        own = luminance(pair[mode])
        contrast = (max(own, page) + 0.05) / (min(own, page) + 0.05)
        assert name in ("grid", "page") or contrast >= 4.5, name


def test_figures_are_files_too(folder):
    pytest.importorskip("matplotlib")
    write_report(folder)
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names == {"main", "one-functions", "one-curves", "one-log-h-swish"}
    for path in (folder / "figures").iterdir():
        text = path.read_text(encoding="utf-8")
        assert text.startswith("<?xml")
        assert "prefers-color-scheme:dark" in text


def test_without_matplotlib_there_is_a_report_without_figures(folder, monkeypatch):
    monkeypatch.setattr("xpnn.study.figures.available", lambda: False)
    said = []
    write_report(folder, say=said.append)
    (message,) = said
    assert "pip install matplotlib" in message
    assert "<svg" not in (folder / "report.html").read_text(encoding="utf-8")


def test_without_jinja2_there_are_the_tables_and_the_figures(folder, monkeypatch, capsys):
    find_spec = importlib.util.find_spec

    def found(name, *rest):
        return None if name == "jinja2" else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    assert run("study", "report", folder) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("2 of 3 runs done")
    assert "report.html and report.md are not written: they need Jinja2" in captured.err
    assert len((folder / "tables.csv").read_text().splitlines()) == 1 + 18
    assert not (folder / "report.html").exists()


def written(tmp_path, text, **logs):
    """A folder with the study in `text`, and a made-up result for each of its jobs."""
    content = {"format": 1, "name": "mine.toml", "source": text, "overrides": {}, "data": "0" * 64}
    study = parse_study(text, "mine.toml")
    names = [experiment.name for experiment in study.experiments]
    (tmp_path / STUDY_FILE).write_text(json.dumps({**content, "experiments": names}))
    for job in study.jobs:
        keep(tmp_path, job, a_log(1.0, 0.9, 0.95))
    write_report(tmp_path)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def curves(title, *labels):
    rows = [f"{{ label = {json.dumps(label)}, seed = {i} }}" for i, label in enumerate(labels)]
    return f"[[experiment.figure]]\ntitle = {json.dumps(title)}\nruns = [{', '.join(rows)}]\n"


def test_each_figure_has_a_name_of_its_own(tmp_path):
    pytest.importorskip("matplotlib")
    experiments = ("main", "Main", "machines", "活性化", "学習率")
    figures = "".join(curves(title, "a") for title in ("", "検証", "n = 1", "n ≠ 1"))
    text = "".join(f"[[experiment]]\nname = '{name}'\n{figures}" for name in experiments)
    page = Page(written(tmp_path, text))
    assert len(list((tmp_path / "figures").iterdir())) == 4 * len(experiments)
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)


def test_a_figure_shows_each_of_many_runs(tmp_path):
    pytest.importorskip("matplotlib")
    labels = [f"run {i}" for i in range(14)]
    text = f"[[experiment]]\nname = 'a'\n{curves('Many', *labels)}"
    (svg,) = re.findall(r"<svg.*?</svg>", written(tmp_path, text), re.DOTALL)
    assert all(f">{label}<" in svg for label in labels)
    looks = re.findall(r'<g id="[^"]*line2d_\d+">\s*<path [^>]*style="fill: none; ([^"]*)"', svg)
    drawn = [look for look in looks if "stroke-width: 1.2" in look or "stroke-width:1.2" in look]
    assert len(set(drawn)) == 14


@pytest.mark.parametrize(("count", "legend"), [(3, False), (14, True)])
def test_lines_have_their_names_at_their_ends_if_there_is_room(count, legend, tmp_path):
    pytest.importorskip("matplotlib")
    labels = [f"run {i}" for i in range(count)]
    functions = "[[experiment.figure]]\nfunctions = ['relu', 'tanhexp']\n"
    text = f"[[experiment]]\nname = 'a'\n{curves('Curves', *labels)}{functions}"
    drawn, activations = re.findall(r"<svg.*?</svg>", written(tmp_path, text), re.DOTALL)
    colors = [re.findall(rf"fill: var\(--(\w+)\)[^>]*>{label}<", drawn) for label in labels]
    # beside a line, a name has its colour; a legend's words have the ink of all text
    assert colors == [["ink"] if legend else [SERIES[i]] for i in range(count)]
    assert ("-legend_1" in drawn) == legend
    assert "-legend_1" not in activations


def test_the_articles_report_has_the_colours_of_all_pictures():
    """It lies in the repository as it was drawn once, while the colours are in the code."""
    folder = ROOT / "docs" / "reference" / "study"
    paths = [folder / "report.html", *(folder / "figures").glob("*.svg")]
    assert len(paths) > 30
    for path in paths:
        text = path.read_text(encoding="utf-8")
        used = COLORS.keys() & set(re.findall(r"var\(--(\w+)\)", text))
        assert {"ink", "s1"} <= used
        query = r"@media\(prefers-color-scheme:dark\)\{[^{}]*\{(.*?)\}\}"
        for mode, css in enumerate((re.sub(query, "", text), " ".join(re.findall(query, text)))):
            found = dict(re.findall(r"--(\w+):(#\w+)", css))
            assert used <= found.keys(), path.name
            for name in COLORS.keys() & found.keys():
                assert (path.name, name, found[name]) == (path.name, name, COLORS[name][mode])


@pytest.mark.parametrize("name", ["$\\frac$", "_private", "a$b$c", '<b> & "q"'])
def test_odd_names_are_shown_as_they_are(name, tmp_path):
    pytest.importorskip("matplotlib")
    text = f"[[experiment]]\nname = 'a'\ntitle = {json.dumps(name)}\n{curves(name, name, 'b')}"
    page = Page(written(tmp_path, text))
    assert page.words.count(name) >= 4  # title of the experiment, link, caption and legend


def test_a_bar_ends_no_cell_of_the_markdown(tmp_path):
    text = "seed = [1, 2]\nclass_weight = ['a|b=1', 'balanced']"
    written(tmp_path, text)
    (row,) = [
        line for line in (tmp_path / "report.md").read_text().splitlines() if "a\\|b=1 | 1" in line
    ]
    assert row.replace("\\|", "").count("|") == 2 + 6 + 1


def test_the_markdown_makes_no_tags_links_or_pictures_of_a_studys_words(tmp_path):
    odd = "<script>a</script> ![b](http://c/d.png) \x1b[31m"
    text = f"about = {json.dumps(odd)}\n[[experiment]]\nname = 'a'\ntitle = {json.dumps(odd)}\n"
    written(tmp_path, text)
    found = (tmp_path / "report.md").read_text(encoding="utf-8")
    shown = r"&lt;script>a&lt;/script> !&#91;b](http://c/d.png) \x1b&#91;31m"
    assert found.count(shown) >= 2
    assert "<script" not in found
    assert "\x1b" not in found


def test_a_figure_that_fails_leaves_matplotlib_as_it_was(folder, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.rcParams["svg.hashsalt"]
    monkeypatch.setattr("xpnn.study.figures.sampled", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(folder)
    assert matplotlib.rcParams["svg.hashsalt"] == before


def test_the_markdown_has_the_same_tables(folder):
    write_report(folder)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "| ReLU | 100.00 ✓ | **97.86** (published 97.85) | 97.88 ✓ | 2 ✓ | 5 ✓ | - ✓ |" in text
    assert "| Swish | – (published 100.00) |" in text


def spread(published_, *draws, ours="0"):
    return Spread(Cell(None, "test", published_, ours), draws)


@pytest.mark.parametrize(
    ("found", "rank", "verdict"),
    [
        (spread("97.85", "97.80", "97.90"), (1, 0, 1), "ordinary draw"),
        (spread("97.85", "97.85", "97.90"), (0, 1, 1), "ordinary draw"),
        (spread("97.85", "97.86", "97.90"), (0, 0, 2), "below all draws"),
        (spread("97.85", "97.80", "97.84"), (2, 0, 0), "above all draws"),
        (spread("-", "31", "-"), (1, 1, 0), "ordinary draw"),
        (spread("-", "31", "27"), (2, 0, 0), "above all draws"),
        (spread("31", "27", "-"), (1, 0, 1), "ordinary draw"),
        (spread("97.85", "97.80", "97.80", ours="97.80"), (2, 0, 0), "not a matter of rounding"),
        (spread("97.85", "97.80", "97.81", ours="97.80"), (2, 0, 0), "above all draws"),
    ],
)
def test_whether_the_published_figure_is_an_ordinary_draw(found, rank, verdict):
    assert (found.rank, found.verdict) == (rank, verdict)


def test_repeats_are_shown_for_each_cell_that_differs(folder, study):
    relu = study.jobs[0]
    accuracies = (0.9783, 0.9785, 0.9788, 0.5)
    # the last rounded as the second did: it doesn't count
    for variant, accuracy, weights in zip(study.variants(relu), accuracies, "abcb", strict=True):
        keep(folder, variant, a_log(1.0, 0.94, 0.955, 0.96, 0.96, 0.9788, accuracy), weights)
    found = compare(study, read_folder(folder)[0])
    assert found.differing_jobs() == [relu]
    (one,) = found.spreads
    assert one.draws == ("97.83", "97.85", "97.88")
    write_report(folder)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert (
        "| ReLU – One < two: Base run | test % | 97.85 | 97.86 | 3 | 97.83 to 97.88 | 97.85 "
        "| ordinary draw |" in text
    )


def test_repeats_are_of_the_runs_that_differ(study):
    relu = Job.from_dict({**study.jobs[0].as_dict(), "activation": "relu"})
    variants = study.variants(relu)
    assert [(v.backend, v.reproducible, v.environment) for v in variants] == [
        ("torch", False, ()),
        ("numpy", False, (("OPENBLAS_CORETYPE", "Haswell"),)),
        ("numpy", True, ()),
        ("jax", False, ()),
    ]
    assert {v.settings for v in variants} == {relu.settings}


def test_which_number_of_epochs_a_published_table_shows(tmp_path):
    study = load_study("article")
    results = {}
    for experiment in study.experiments:
        if experiment.name.startswith("flooding"):
            table = experiment.tables[-1]
            for run_, row in zip(table.jobs, table.published, strict=True):
                own = {k: float(v) / 100 for k, v in row.items()}
                last = own["test"] if experiment.name == "flooding" else 0.5
                log = a_log(own["train"], own["best"], last)
                path = tmp_path / run_.file_name("0" * 64)
                keep(tmp_path, run_, log)
                results[path.name] = log
    (sentence,) = _same_line(compare(study, read_folder(tmp_path)[0]))
    assert "line 563" in sentence
    words = "of our figures after {} epochs, 6 of 6 in “train %”, {} of 6 in “test %”, 6 of 6"
    assert words.format(50, 6) in sentence
    assert words.format(500, 0) in sentence


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no study in"),
        (lambda folder: (folder / STUDY_FILE).write_text("{"), "is damaged; run the study again"),
        (lambda folder: (folder / STUDY_FILE).write_text("[]"), "is damaged"),
    ],
)
def test_no_study_costs_one_line(make, message, tmp_path, capsys):
    make(tmp_path)
    assert run("study", "report", tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_study_without_results_costs_one_line(folder, capsys):
    for path in folder.glob("*swish*.json"):
        path.unlink()
    for path in folder.glob("relu*.json"):
        path.unlink()
    assert run("study", "report", folder) == 2
    assert "no results of" in capsys.readouterr().err


def test_the_study_is_kept_with_its_results(folder):
    study, fingerprint = read_study(folder)
    assert study.title == "Mine & <b>yours</b>"
    assert fingerprint == "0" * 64
