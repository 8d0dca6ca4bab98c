"""Configs of public releases, one JSON file each, so that runs are planned without a download."""
