"""The version and the arithmetic, for files that say what wrote them."""

__version__ = "0.1.0"

# The name of what reproducible runs compute. Another bit is another name: see docs/versions.md.
ARITHMETIC = "xpnn-1"
