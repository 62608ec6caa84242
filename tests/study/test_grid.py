"""Studies as TOML: the grid, the mistakes in it, and the article's own."""

import dataclasses
import hashlib
import json

import pytest

import xpnn.study
from tests.helpers import ARTICLE, ROOT, run, write_folder
from xpnn.errors import ArgumentError
from xpnn.settings import FIELDS
from xpnn.source import READING, Source
from xpnn.study import load_study, quantities
from xpnn.study.article import published
from xpnn.study.grid import KINDS, parse_study

EPOCHS = "a whole number >= 0"

SHARED = ROOT.parent / "shared" / "article"


def runs(text, **overrides):
    return parse_study(text, "mine.toml", **overrides).jobs


def test_the_settings_are_those_of_train():
    places = {"backend", "device", "dtype", "reproducible"}
    assert KINDS.keys() == {*FIELDS, *READING, *places, "metrics", "patience", "environment"}


def test_lists_make_the_grid():
    text = """
        activation = ["relu", "h_swish:n=4"]
        optimizer = ["sgd:lr=0.1", "momentum:lr=0.1,mu=0.9", "adam"]
        epochs = 3
        flood = 1
    """
    found = runs(text)
    pairs = [(r.settings.activation, r.settings.optimizer) for r in found]
    optimizers = ("sgd:lr=0.1", "momentum:lr=0.1,mu=0.9", "adam")
    assert pairs == [(a, o) for a in ("relu", "h_swish:n=4") for o in optimizers]
    assert {(r.settings.epochs, r.settings.flood, r.dtype) for r in found} == {(3, 1.0, "float32")}


def test_what_is_said_nearest_holds():
    text = """
        epochs = 5
        activation = "swish"
        [[experiment]]
        name = "a"
        seed = [1, 2]
        [[experiment]]
        name = "b"
        epochs = 7
        activation = ["relu", "mish"]
    """
    found = [(r.settings.activation, r.settings.epochs, r.settings.seed) for r in runs(text)]
    assert found == [("swish", 5, 1), ("swish", 5, 2), ("relu", 7, 10), ("mish", 7, 10)]
    assert {r.settings.epochs for r in runs(text, epochs=1)} == {1}


EXPERIMENT = "[[experiment]]\nname='a'\n"
TABLE = (
    f"{EXPERIMENT}[[experiment.table]]\npublished=149\nrows=[{{seed=1}},{{seed=2}},{{seed=3}}]\n"
)
FUNCTIONS = f"{EXPERIMENT}[[experiment.figure]]\nfunctions=['relu']\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('activaton = "relu"', "unknown key of the study: 'activaton'; did you mean 'activation'"),
        ("epochs = []", "epochs must not be an empty list"),
        ('epochs = "3"', "epochs must be a whole number, got '3'"),
        ("epochs = 3.0", "epochs must be a whole number, got 3.0"),
        ("epochs = [1, true]", "epochs must be a whole number, got true"),
        ("hidden = [100, 50]", "hidden must be text, got 100"),
        ('reproducible = "yes"', "reproducible must be true or false, got 'yes'"),
        ("flood = [0.1, -1]", "flood must be a finite number >= 0, got -1.0"),
        ('optimizer = "sdg"', "unknown optimizer 'sdg'; did you mean 'sgd'"),
        ("environment = { A = 1 }", "environment variable A must be text, got 1"),
        (
            'environment = { "A=B" = "1" }',
            "environment must have names without '=' and NUL, got 'A",
        ),
        ('environment = { "" = "1" }', "environment must have names without '=' and NUL, got ''"),
        (
            'environment = { A = "a\\u0000" }',
            "environment variable A must be text without NUL, got",
        ),
        ('activation = ["relu", "relu"]', "two runs are the same: activation=relu"),
        ('activation = ["h_swish", "h_swish:n=6"]', "two runs are the same"),
        ('hidden = ["100,50", "100, 50"]', "two runs are the same"),
        ('data = ["a", "b"]', "data must be the same for all runs, got a list"),
        ("validation = [0.1, 0.2]", "validation must be the same for all runs, got a list"),
        (
            'ignore = ["id", "name"]',
            "ignore must be the same for all runs, got a list; several columns are one text: ",
        ),
        (
            "[[experiment]]\nname='a'\ntarget='x'\n[[experiment]]\nname='b'\ntarget=3",
            "target must be the same for all runs, got 3, x",
        ),
        ("validation = true", "validation must be a number or text, got true"),
        ("target = 0.5", "target must be a whole number or text, got 0.5"),
        ("header = 'yes'", "header must be true or false, got 'yes'"),
        ("normalize = 'standrad'", "unknown normalize 'standrad'; did you mean 'standard'"),
        ("[data]\nvalidation = 0.2", "path must be given"),
        ("[data]\npath = 3", "path of the data must be text, got 3"),
        ("[data]\npath = 'd'\ntarge = 'x'", "unknown key of the data: 'targe'.* 'target'"),
        ("target = 'x'\n[data]\npath = 'd'\ntarget = 'x'", "target is given twice, in .data. and"),
        (
            "[[experiment]]\nname='a'\ndata='x'\n[[experiment]]\nname='b'\ndata='y'",
            "data must be the same for all runs, got x, y",
        ),
        ("epochs = ", "not TOML"),
        ("[experiment]\nname = 'a'", r"experiment must be written \[\[experiment\]\], got"),
        ("experiment = [1]", r"experiment must be written \[\[experiment\]\], got \[1\]"),
        ("[[experiment]]\nepochs = 1", "each experiment must have a name"),
        ("[[experiment]]\nname='a'\n[[experiment]]\nname='a'", "two experiments have the name 'a'"),
        ("[[experiment]]\nname='a'\nsed=1", "'a': unknown key of the experiment: 'sed'.*'seed'"),
        ("[[experiment]]\nname='a'\nseed=[]", "experiment 'a': seed must not be an empty list"),
        ("[[experiment]]\nname='a'\n[[experiment.table]]\nrows=[{sed=1}]", "unknown setting 'sed'"),
        ("[[experiment]]\nname='a'\n[[experiment.table]]\npublished=1\nrows=[{}]", "published tab"),
        (f"{TABLE}labels='n'", "experiment 'a': labels must be a list, got 'n'"),
        (f"{TABLE}labels=3", "labels must be a list, got 3"),
        (f"{TABLE}labels=[3]", "labels must be text, got 3"),
        (f"{TABLE}labels=['a', 'b']", "labels must be 1 texts, got"),
        (f"{FUNCTIONS}range=[1]", "range must be two numbers, the lower one first, got"),
        (f"{FUNCTIONS}range=[2, 1]", "range must be two numbers, the lower one first, got"),
        (f"{FUNCTIONS}range=[0, inf]", "range must be a finite number, got inf"),
        ("[[experiment]]\nname='a'\ntitle=3", "experiment 'a': title must be text, got 3"),
    ],
)
def test_a_mistake_costs_one_line_and_starts_nothing(text, message, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=message):
        load_study(str(path))
    assert run("study", "run", path, "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith(f"xpnn: error: {path}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_study(3), "study must be a path, got 3"),
        (lambda: xpnn.study.run(3), "study must be a path, got 3"),
        (lambda: xpnn.study.run("article", out=3), "out must be a path, got 3"),
        (lambda: xpnn.study.run("article", data=3), "data must be a path, got 3"),
        (lambda: load_study("article", sed=3), "unknown setting 'sed'.*'seed'"),
        (lambda: load_study("article").selected("nesterov"), r"only must be .* \['nesterov'\]"),
    ],
)
def test_arguments_of_the_wrong_type(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mine.toml", "--data", "nowhere"], "no file or folder nowhere"),
        (["nothing.toml"], "study must be 'article' or a TOML file, got 'nothing.toml'"),
        (["article", "--only", "h_swich"], "unknown experiment 'h_swich'; did you mean 'h_swish'?"),
        (["mine.toml", "--jobs", "0"], "jobs must be a whole number >= 1, got 0"),
        (["mine.toml", "--backend", "nunpy"], "unknown backend 'nunpy'; did you mean 'numpy'?"),
        (
            ["mine.toml", "--epochs", "-1"],
            f"epochs must be {EPOCHS}, got -1",
        ),
        (["mine.toml", "--repeats"], "repeats need a [[repeat]]"),
        (["mine.toml", "--out", "mine.toml"], "out must be a folder that can be written"),
    ],
)
def test_wrong_options_are_refused_at_once(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_folder(tmp_path / "data" / "mnist")
    (tmp_path / "mine.toml").write_text("epochs = 1")
    assert run("study", "run", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_the_article_is_46_runs_and_240_cells():
    study = load_study("article")
    usual = study.selected()
    assert len(usual.jobs) == 46
    assert {run.settings.epochs for run in usual.jobs} == {50}
    assert {run.dtype for run in study.jobs} == {"float64"}
    tables = [table for e in usual.experiments for table in e.tables]
    assert sum(len(table.quantities) * len(table.jobs) for table in tables) == 240
    assert {table.line for table in tables} == set(published.tables())
    assert len([log for e in usual.experiments for log in e.logs]) == len(published.LOGS)
    long = study.selected(["flooding_500"])
    assert [run.settings.epochs for run in long.jobs] == [500] * 6
    assert len(study.selected(long=True).jobs) == 52


def test_epochs_leave_the_long_experiments_alone():
    study = load_study("article", epochs=2)
    assert {run.settings.epochs for run in study.selected().jobs} == {2}
    assert {run.settings.epochs for run in study.selected(["flooding_500"]).jobs} == {500}


# how the article writes each part, and how a run does
PARTS = {
    "ReLU": "relu",
    "Swish": "swish",
    "h-swish": "h_swish",
    "h_swish": "h_swish",
    "Mish": "mish",
    "TanhExp": "tanhexp",
    "SGD": "sgd",
    "Momentum": "momentum",
    "Nesterov": "nesterov",
}


def test_each_row_is_run_as_it_is_labelled():
    tables = [table for e in load_study("article").experiments for table in e.tables]
    for table in tables:
        original = published.table(table.line)
        for labels, run_ in zip(table.labels, table.jobs, strict=True):
            settings = run_.settings
            activation, _, n = settings.activation.partition(":n=")
            optimizer = dict(p.split("=") for p in settings.optimizer.partition(":")[2].split(","))
            for heading, label in zip(original.header, labels, strict=True):
                if label.startswith("b="):
                    assert (settings.flood or 0) == float(label[2:])
                elif heading == "活性化関数":
                    assert activation == PARTS[label]
                elif heading == "オプティマイザ":
                    assert settings.optimizer.partition(":")[0] == PARTS[label]
                elif heading == "n":
                    assert (n or "-") == label
                elif "mu" in heading:
                    assert optimizer.get("mu", "-") == label
                else:
                    assert heading in ("学習係数", "学習率")
                    assert optimizer["lr"] == label


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("tables.json", "3b453972db248fdbba435aa1a37c8c05d7c11386a7399cf1c52b663225491d09"),
        ("h_swish.csv", "6af6285f55ec74ecc608ada327a025e85a0204f76e9fc68a7e8398f2036fb7ff"),
        ("tanhexp.csv", "eac0e61d84befd9bcde8ee38ff13ba9b37f891bedf8ddf493734a08d36327580"),
        ("flooding_b0.01.csv", "55066e5b9c246ae312f54e8f976b272d4985b1af7d781a26e22e3a3320bb68c9"),
        ("nesterov.csv", "0bf025a6674aba61b826c3b6c75c7ff217c63ba337ed6b7298878ad0d834f3ef"),
    ],
)
def test_published_data_are_the_articles(name, digest):
    content = (ARTICLE / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    if SHARED.is_dir():
        assert content == (SHARED / name).read_bytes()


def test_published_tables_are_read_as_they_stand():
    listed = json.loads((ARTICLE / "tables.json").read_text(encoding="utf-8"))
    read = published.tables().values()
    assert len(listed) == len(read) == 12
    for entry, table in zip(listed, read, strict=True):
        rows = [
            [*labels, *row.values()] for labels, row in zip(table.labels, table.rows, strict=True)
        ]
        assert rows == entry["rows"]


@pytest.mark.parametrize(
    ("accuracy", "text"),
    [
        (1.0, "100.00"),
        (59999 / 60000, "100.00"),
        (0.99895, "99.90"),  # a tie, which binary rounding would take down
        (59331 / 60000, "98.89"),  # a tie after an even digit
        (59994 / 60000, "99.99"),
        (0.976, "97.60"),
        (0.0, "0.00"),
    ],
)
def test_an_accuracy_is_printed_as_the_article_does(accuracy, text):
    assert quantities.percent(accuracy) == text


@pytest.mark.parametrize("name", published.LOGS)
def test_a_published_log_gives_the_row_of_its_table(name):
    line, row = {
        "h_swish": (149, 2),
        "tanhexp": (298, 3),
        "flooding_b0.01": (547, 1),
        "nesterov": (681, 2),
    }[name]
    printed = {k: v for k, v in published.table(line).rows[row].items() if k != "time"}
    assert quantities.printed(published.log(name)) == printed


def test_the_published_table_over_b_is_of_50_epochs():
    """Whatever the article says: the report's words on it are these."""
    fifty, sweep = (published.table(line) for line in (547, 563))
    log = published.log("flooding_b0.01")
    assert len(log["test_accuracy"]) == 51
    for labels, row in zip(fifty.labels, fifty.rows, strict=True):
        other = sweep.rows[sweep.labels.index(labels)]
        assert other == {name: row[name] for name in other}
    row = sweep.rows[sweep.labels.index(("b=0.01",))]
    assert row.items() <= quantities.printed(log).items()


def test_a_table_of_the_data_is_the_same_keys_side_by_side(tmp_path):
    keys = 'validation = 0.2\ntarget = "price"\nheader = true\nignore = "a,b"\nweights = "n"\n'
    (tmp_path / "a.toml").write_text(f'hidden = ["5", "6"]\n[data]\npath = "t.csv"\n{keys}')
    (tmp_path / "b.toml").write_text(f'hidden = ["5", "6"]\ndata = "t.csv"\n{keys}')
    jobs = load_study(tmp_path / "a.toml").jobs
    assert jobs == load_study(tmp_path / "b.toml").jobs
    expected = Source("t.csv", 0.2, "price", None, True, "a,b", "n")
    assert [job.source for job in jobs] == [expected] * 2
    # another path instead of the study's
    other = load_study(tmp_path / "a.toml", data="u.csv").jobs
    assert other[0].source == dataclasses.replace(expected, data="u.csv")


def test_normalizers_and_targets_by_number(tmp_path):
    (tmp_path / "a.toml").write_text(
        'normalize = ["standard", "none"]\ntarget = -2\nvalidation = "v.csv"'
    )
    jobs = load_study(tmp_path / "a.toml").jobs
    assert [job.source.normalize for job in jobs] == ["standard", "none"]
    assert {(job.source.target, job.source.validation) for job in jobs} == {(-2, "v.csv")}
    assert len({job.key for job in jobs}) == 2
