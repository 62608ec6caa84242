"""The published study that xpnn reproduces: its figures, and how ours compare."""
