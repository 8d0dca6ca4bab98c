"""Media and captions as latents and embeddings, kept in a cache."""
