"""Write article-tables.md and its picture: the article's tables in Japanese, with our figures.

python docs/ja/article_tables.py
"""

import csv
import itertools
import re
from pathlib import Path

from xpnn.study.article import published

FOLDER = Path(__file__).parent
STUDY = FOLDER.parent / "reference" / "study"
SECTIONS = {
    "h_swish": ("h-swish", "--only h_swish"),
    "tanhexp": ("TanhExp", "--only tanhexp"),
    "flooding": ("Flooding", "--only flooding"),
    "nesterov": ("Nesterovの加速勾配法", "--only nesterov"),
    "flooding_500": ("Flooding、500エポック", "--only flooding_500"),
}
TITLES = {
    "Base run": "基本の実行",
    "n from 1 to 10": "nを1から10まで",
    "Learning rate 0.5": "学習率0.5",
    "200 and 100 nodes": "ノード数200-100",
    "b = 0.01": "b=0.01",
    "b from 0.1 to 0.001": "bを0.1から0.001まで",
    "μ = 0.9, learning rate 0.1": "μ=0.9、学習率0.1",
    "Learning rate 0.01": "学習率0.01",
    "μ from 0.9 to 0.5": "μを0.9から0.5まで",
    "b from 0.1 to 0.001, after 500 epochs": "bを0.1から0.001まで、500エポック後",
}
FIGURES = {
    "train": "学習正解率",
    "test": "テスト正解率",
    "best": "テスト最高",
    "ts95": "TS95%",
    "ts97": "TS97%",
    "ts98": "TS98%",
}
# the words of the study's first picture
WORDS = {
    r"ours": "xpnn",
    r"published": "記事",
    r"epoch": "エポック",
    r"test accuracy": "テスト正解率",
    r"(.+): (\d+) of (\d+) rows equal": r"\1: \3行中\2行が一致",
}
ALT = "エポックごとのテスト正解率、記事とxpnn"
HEAD = """\
# 記事の表の再現

「ディープラーニングを実装から学ぶ」の、h-swish、TanhExp、Flooding、Nesterovの加速勾配法の記事にある表です。\
このページは`python docs/ja/article_tables.py`が、リポジトリの実験結果\
([tables.csv](../reference/study/tables.csv))から生成したものです。手順は次の1行です\
(レポートには`pip install '.[study]'`が必要です)。

```sh
xpnn study run article               # 50エポックの46回の実行。--longで500エポックも
```

数値はxpnn(NumPy、float64)の結果です。**太字**は記事と異なる値で、括弧内が記事の値です。太字でない値は、\
記事の表と最後の桁まで一致しています。{cells}個のうち{equal}個が一致しました。正解率の単位は%で、TS95%は\
テスト正解率が初めて95%以上になったエポックです。所要時間は計算機によって変わるため、載せていません。\
[記事のコードとの対応](article.md)は別のページにあります。

![{alt}](article-tables.svg)"""
WHY = """\

異なる値が出るのは、丸め誤差に敏感な実行です。同じ設定、同じシードでも、BLASやライブラリが変わると\
結果が変わります。ただし、Floodingのb=0.1、0.05、0.005の「テスト最高」は丸めでは説明できません。\
記事の値は、同じ表のほかの列とは違い、500エポックの実行によるものと考えられます。繰り返しの結果も含めた\
詳細は[英語のレポート](../reference/study/report.md)にあります。
"""


def page() -> str:
    """Return the page as Markdown."""
    with (STUDY / "tables.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    short = [cell for cell in cells if cell["experiment"] != "flooding_500"]
    lines = [HEAD.format(alt=ALT, cells=len(short), equal=sum(c["equal"] == "yes" for c in short))]
    for experiment, of_experiment in itertools.groupby(cells, lambda cell: cell["experiment"]):
        title, only = SECTIONS[experiment]
        lines += [f"\n## {title}\n", f"`xpnn study run article {only}`"]
        for (table, line), group in itertools.groupby(
            of_experiment, lambda cell: (cell["table"], cell["line"])
        ):
            lines += [f"\n### {TITLES[table]}\n", *_table(int(line), list(group))]
    return "\n".join([*lines, WHY])


def picture() -> str:
    """Return the study's first picture with Japanese words, as an SVG file."""
    svg = (STUDY / "figures" / "main.svg").read_text(encoding="utf-8")
    svg = re.sub(r'aria-label="[^"]*"', f'aria-label="{ALT}"', svg, count=1)
    return re.sub(r"(?<=>)[^<>]*[A-Za-z][^<>]*(?=</text>)", _translated, svg)


def _translated(match):
    for words, japanese in WORDS.items():
        if found := re.fullmatch(words, match[0]):
            return (
                found.expand(japanese).replace(", learning rate ", "、学習率").replace(", ", "、")
            )
    raise ValueError(f"no Japanese for {match[0]!r}, in WORDS")


def _table(line, cells):
    """Yield the rows of a table, a list of cells row by row."""
    theirs = published.table(line)
    names = [FIGURES[name] for name in theirs.quantities]
    header = [text.replace(r"$ \mu $", "μ") for text in theirs.header]
    if all(first.startswith("b=") for first, *_ in theirs.labels):
        header[0] = "b"  # the article has the head of the tables before
    yield _row([*header, *names])
    yield _row(["---"] * len(theirs.header) + ["---:"] * len(names))
    for labels, group in zip(
        theirs.labels, zip(*[iter(cells)] * len(names), strict=True), strict=True
    ):
        assert [cell["figure"] for cell in group] == list(theirs.quantities)
        yield _row([*labels, *map(_cell, group)])


def _cell(cell):
    if cell["equal"] == "yes":
        return cell["ours"]
    return f"**{cell['ours']}**({cell['published']})"


def _row(cells):
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    (FOLDER / "article-tables.md").write_text(page(), encoding="utf-8", newline="\n")
    (FOLDER / "article-tables.svg").write_text(picture(), encoding="utf-8", newline="\n")
