"""The sections of a recipe: every key with its type, bounds, default and description."""
