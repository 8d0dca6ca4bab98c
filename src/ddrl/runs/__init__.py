"""Runs on disk: opened, described, exported, watched."""
