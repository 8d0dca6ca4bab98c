"""From a file, a name or a finished run to a recipe, and back to text."""
