"""The common parts of all adapters of pipelines, and adapters of a user's own."""
