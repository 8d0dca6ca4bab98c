"""For people who extend ddrl: the checks that every model adapter has to pass."""
