"""The data of a recipe: found, encoded, held."""
