"""Wan: text to video, image to video, one expert or two."""
