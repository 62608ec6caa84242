"""What the search finds: words of English and of Japanese pages."""

import re

from sphinx.search.en import SearchEnglish

# kanji and kana, which have no spaces between words
JAPANESE = "々\u3040-\u30ff\u3400-\u9fff"
_RUNS = re.compile(rf"[{JAPANESE}]+|[^{JAPANESE}]+")


def parts(word):
    """Return the words that a word is searched for by: of Japanese, each two letters that follow.

    A page that has them all is found; one that has a word of one letter, by that.
    """
    found = []
    for run in _RUNS.findall(word):
        pairs = [run[i : i + 2] for i in range(len(run) - 1)]
        found += pairs if pairs and re.match(f"[{JAPANESE}]", run) else [run]
    return found


class Words(SearchEnglish):
    """The words of English and Japanese text."""

    # var: the script of Sphinx that has a splitter of its own declares it once more
    js_splitter_code = f"""\
var splitQuery = (query) =>
  query
    .split(/[^\\p{{Letter}}\\p{{Number}}_\\p{{Emoji_Presentation}}]+/gu)
    .flatMap((word) => word.match(/[{JAPANESE}]+|[^{JAPANESE}]+/g) || [])
    .flatMap((run) =>
      /^[{JAPANESE}]./.test(run) ? [...run].slice(1).map((letter, i) => run[i] + letter) : [run],
    );
"""

    def split(self, text):
        """Return the words of a text, and each letter of Japanese."""
        words = [part for word in super().split(text) for part in parts(word)]
        return words + re.findall(f"[{JAPANESE}]", text)


def setup(app):
    """Take the place of English in Sphinx."""
    app.add_search_language(Words)
