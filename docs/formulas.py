"""Typeset the formulas of docstrings, which are written as code: ``u * tanh(exp(u))``.

In a terminal a formula must be readable as it stands, so that docstrings hold no LaTeX. Here what
parses as a formula becomes LaTeX; everything else stays code. LaTeX becomes MathML while the site
is built: browsers typeset it by themselves, without a script and without fonts to load.
"""

import html
import re

# the modules whose docstrings hold formulas
MODULES = (
    "activations", "datasets.splitting", "estimators", "initializers", "layers", "losses",
    "metrics", "normalizers", "optimizers", "reproducible", "schedules", "training",
)  # fmt: skip
GREEK = {"alpha", "beta", "delta", "gamma", "mu", "pi", "rho"}
LETTERS = {"beta1": r"\beta_1", "beta2": r"\beta_2", "eps": r"\varepsilon"}
FUNCTIONS = {
    "Phi": r"\Phi",
    **{name: rf"\{name}" for name in ("cos", "log", "max", "min", "tanh")},
    **{
        name: rf"\operatorname{{{name}}}"
        for name in (
            "floor",
            "mean",
            "remainder",
            "round",
            "sigmoid",
            "softmax",
            "softplus",
        )
    },
    # a probability, the normal distribution and the uniform one
    "P": "P",
    "N": r"\mathcal{N}",
    "U": r"\mathcal{U}",
    # a digit would stand apart
    "relu6": r"\text{relu6}",
}
WORDS = {
    "lr", "weight_decay", "label_smoothing", "negative_slope", "cap", "norm", "clip_norm", "factor",
    "epochs", "every", "final", "base", "exponent", "std", "offset", "scale", "classes", "inputs",
    "outputs", "hits", "predicted", "true", "levels", "var", "bias", "running", "momentum",
    "batch", "weight", "weights", "samples", "loss", "count", "power_t", "fraction", "low", "high",
}  # fmt: skip
POWERS = {"²": "2", "³": "3"}
RELATIONS = {
    "=": "=", "==": "=", "!=": r"\ne ", "<": "<", ">": ">", "<=": r"\le ", ">=": r"\ge ",
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?|[A-Za-z_][A-Za-z_0-9]*'?|[<>=!]=|\*\*|[-+*/^²³(),|=<>!])"
)
_CODE = re.compile(r"(?<!`)``([^`]+)``(?!`)")


class NotAFormulaError(ValueError):
    """A text that isn't a formula."""


class _Parser:
    """A parser by recursive descent, from plain text to LaTeX.

    Each method returns the LaTeX and whether it is a sum or a product, which decides where it needs
    parentheses. What stands side by side is multiplied: ``lr g``.
    """

    def __init__(self, text):
        self.tokens = []
        text = text.strip()
        while text:
            match = _TOKEN.match(text)
            if not match:
                raise NotAFormulaError(text)
            self.tokens.append(match[1])
            text = text[match.end() :]
        self.bars = 0

    def peek(self):
        return self.tokens[0] if self.tokens else ""

    def take(self, wanted=None):
        if not self.tokens or wanted not in (None, self.tokens[0]):
            raise NotAFormulaError(wanted)
        return self.tokens.pop(0)

    def whole(self):
        found = self.relation()
        if self.tokens:
            raise NotAFormulaError(self.tokens)
        return found

    def relation(self):
        return self.sum()[0] + self.relations()

    def relations(self):
        found = ""
        while self.peek() in RELATIONS:
            found += f" {RELATIONS[self.take()]} {self.sum()[0]}"
        return found

    def sum(self):
        sign = self.take() if self.peek() in ("-", "+") else ""
        first, kind = self.product()
        found = sign + first
        while self.peek() in ("+", "-"):
            kind = "sum"
            found += f" {self.take()} {self.product()[0]}"
        return found, "sum" if sign else kind

    def product(self):
        above, below = [self.power()], []
        while True:
            if self.peek() == "/":
                self.take()
                below.append(self.power())
            elif self.peek() == "*":
                self.take()
                above.append(self.power())
            elif self.begins():
                above.append(self.power())
            else:
                break
        if len(above) == 1 and not below:
            return above[0]
        if not below:
            return _times(above), "product"
        if all(kind == "atom" for _, kind in above + below) and len(above) == len(below) == 1:
            return f"{above[0][0]} / {below[0][0]}", "ratio"
        over = above[0][0] if len(above) == 1 else _times(above)
        under = below[0][0] if len(below) == 1 else _times(below)
        return rf"\dfrac{{{over}}}{{{under}}}", "fraction"

    def begins(self):
        """Return whether an atom begins here, which is then another factor."""
        token = self.peek()
        return token == "(" or token[:1].isalnum() or (token == "|" and not self.bars)

    def power(self):
        found, kind = self.atom()
        while self.peek() in ("!", "^", "**", *POWERS):
            if kind != "atom":
                found = rf"\left({found}\right)"
            operator = self.take()
            if operator == "!":
                found += "!"
                continue
            exponent = POWERS.get(operator) or self.atom()[0]
            found, kind = f"{found}^{{{exponent}}}", "power"
        return found, kind

    def atom(self):
        token = self.take()
        if token == "(":
            found, kind = self.sum()
            self.take(")")
            return found, kind
        if token == "|":
            self.bars += 1
            found, _ = self.sum()
            self.take("|")
            self.bars -= 1
            return rf"\left|{found}\right|", "atom"
        if token == "-":
            return "-" + self.atom()[0], "sum"
        if token[0].isdigit():
            mantissa, _, exponent = token.partition("e")
            scaled = rf"10^{{{int(exponent)}}}" if exponent else ""
            return (scaled if mantissa == "1" and scaled else mantissa + scaled), "atom"
        if not (token[0].isalpha() or token[0] == "_"):
            raise NotAFormulaError(token)
        if self.peek() == "(" and token in {"exp", "sqrt", "sum", *FUNCTIONS}:
            return self.call(token)
        return symbol(token), "atom"

    def call(self, name):
        self.take("(")
        first, kind = self.sum()
        # the event of a probability: P(p > q)
        arguments = [first + self.relations()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.sum()[0])
        self.take(")")
        text = ", ".join(arguments)
        if name == "sqrt":
            return rf"\sqrt{{{text}}}", "atom"
        if name == "exp":
            return f"e^{{{text}}}", "power"
        if name == "sum":
            inner = rf"\left({text}\right)" if kind == "sum" else text
            return rf"\sum {inner}", "product"
        inner = rf"\left({text}\right)"
        return FUNCTIONS[name] + inner, "atom"


def _times(factors):
    texts = [
        rf"\left({text}\right)" if kind in ("sum", "ratio") else text for text, kind in factors
    ]
    found = texts[0]
    for text in texts[1:]:
        found += (r" \cdot " if text[0].isdigit() else r"\,") + text
    return found


def symbol(name):
    """Return the LaTeX of a name."""
    plain = name.rstrip("'")
    prime = "'" * (len(name) - len(plain))
    if plain in LETTERS:
        return LETTERS[plain] + prime
    if plain in GREEK:
        return rf"\{plain}{prime} "
    if plain in FUNCTIONS:
        return FUNCTIONS[plain] + prime
    if len(plain) == 1:
        return plain + prime
    if plain in WORDS:
        return rf"\text{{{plain}}}"
    raise NotAFormulaError(name)


def latex(text):
    """Return the LaTeX of a formula in plain text, None if it is something else.

    ``n=6`` is an argument, ``n = 6`` a formula.
    """
    if not re.search(r"[-+*/^²³(<>|=]|^(\w|Phi)$", text) or re.search(r"\w=", text):
        return None
    try:
        return _Parser(text).whole().strip()
    except NotAFormulaError:
        return None


def typeset(text):
    """Return a docstring with its formulas as LaTeX."""

    def formula(match):
        pieces = [latex(piece) for piece in " ".join(match[1].split()).split(", ")]
        whole = latex(" ".join(match[1].split()))
        if whole is None and None not in pieces:
            whole = r",\; ".join(pieces)
        return match[0] if whole is None else f":math:`{whole}`"

    return _CODE.sub(formula, text)


def plain(text):
    """Return a docstring in which ``|u|`` and ``test_`` outside of code are no markup."""
    parts = re.split(r"(``.+?``|`.+?`_*)", text, flags=re.DOTALL)
    parts[::2] = [re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)


def has_formulas(obj):
    """Return whether what is like a formula in an object's docstring is one."""
    obj = getattr(obj, "fget", obj)  # of a property
    module = getattr(obj, "__module__", None) or getattr(obj, "__name__", "")
    return f"{module}.".startswith(tuple(f"xpnn.{own}." for own in MODULES))


def _docstring(app, what, name, obj, options, lines):
    lines[:] = plain("\n".join(lines)).split("\n")
    if has_formulas(obj):
        lines[:] = typeset("\n".join(lines)).split("\n")


def mathml(text, **options):
    """Return the MathML of LaTeX, with functions as names: operators have space on both sides."""
    from latex2mathml.converter import convert

    return re.sub(r"<mo>(\w{2,})</mo>", r"<mi>\1</mi>", convert(text, **options))


def _inline(writer, node):
    from docutils import nodes

    markup = mathml(node.astext())
    # MathML doesn't break lines: a long formula scrolls in a box of its own, some only on a phone
    length = len(html.unescape(re.sub(r"<[^>]*>", "", markup)))
    kind = "formula" if length > 45 else "math long" if length > 27 else "math"
    writer.body.append(f'<span class="{kind}">{markup}</span>')
    raise nodes.SkipNode


def _display(writer, node):
    from docutils import nodes

    writer.body.append(f'<div class="formula">{mathml(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    """Connect to Sphinx: docstrings, and MathML for every formula of the site."""
    # before numpydoc, which has 500
    app.connect("autodoc-process-docstring", _docstring, priority=400)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_inline, None), block_renderers=(_display, None)
    )
