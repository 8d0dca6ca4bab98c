"""Requests to servers: bounded, retried, through proxies, in any order."""
