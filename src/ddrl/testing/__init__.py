"""For people who extend ddrl: the checks that model adapters and rewards have to pass."""
