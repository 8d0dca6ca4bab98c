"""The wire format between a trainer and a server of rewards."""
