"""Data: where captioned media come from, and how they are dealt to iterations."""
