"""Builders: the only code besides the command line that reads a recipe.

They turn its sections into the plain typed arguments that everything else takes.
"""
