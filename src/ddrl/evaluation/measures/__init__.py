"""Numbers: what is measured of samples, with intervals."""
