"""Pages in Japanese: they say so, and the theme's own words on them are Japanese too."""

# as the theme has them
WORDS = {
    "Back to top": "ページの先頭へ",
    "Home": "ホーム",
    "Made with ": "作成: ",
    "Next": "次へ",
    "On this page": "このページの内容",
    "Previous": "前へ",
    "Search": "検索",
    "Skip to content": "本文へ移動",
}


def is_japanese(name):
    """Return whether the page of this name is in Japanese."""
    return name == "japanese" or name.startswith("ja/")


def translate(app, pagename, templatename, context, doctree):
    """Set the language of a Japanese page, and the words of the theme on it."""
    if not is_japanese(pagename):
        return
    context["language"] = "ja"
    context["_"] = context["gettext"] = lambda text: WORDS.get(text, text)


def setup(app):
    """Connect the hook to Sphinx."""
    app.connect("html-page-context", translate)
