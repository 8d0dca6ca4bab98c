"""Models: the only code that knows what a network looks like inside."""
