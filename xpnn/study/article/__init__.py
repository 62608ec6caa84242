"""The published study that xpnn reproduces: its definition, and what was published of it."""
