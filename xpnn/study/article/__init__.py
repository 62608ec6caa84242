"""The published study that xpnn reproduces: its definition, and its published results."""
