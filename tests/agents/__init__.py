"""Coding agents of others before Roundhouse: `make test-agents`."""
