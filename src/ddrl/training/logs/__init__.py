"""Logs a run while it trains: metrics, samples, dashboards, times."""
