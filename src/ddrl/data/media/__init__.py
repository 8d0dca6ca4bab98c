"""Media files to pixels: formats, colours, frames, sizes."""
