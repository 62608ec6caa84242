"""What all other modules build on; it imports nothing of xpnn except `errors`."""
