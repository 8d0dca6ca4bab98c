"""The embedded models: small enough for a CPU, complete enough to be real."""
