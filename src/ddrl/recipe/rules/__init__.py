"""Rules that tie several keys of a recipe together."""
