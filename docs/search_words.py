"""What the search finds: words of English and of Japanese pages."""

import re

from sphinx.search.en import SearchEnglish

# kanji and kana, which have no spaces between words
_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+")


class Words(SearchEnglish):
    """The words of English and Japanese text.

    A search finds a term of three letters or more in any word, a shorter one only as a whole: so
    each two letters of Japanese are a word too.
    """

    def split(self, text):
        """Return the words of a text."""
        words = super().split(text)
        runs = [run for word in words for run in _JAPANESE.findall(word)]
        return words + [run[i : i + 2] for run in runs for i in range(len(run) - 1)]


def setup(app):
    """Take the place of English in Sphinx."""
    app.add_search_language(Words)
