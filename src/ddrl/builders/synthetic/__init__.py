"""Synthetic data of a recipe: drawn from the base model, and selected."""
