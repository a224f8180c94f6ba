"""Repeatable measurements of Roundhouse beside its peers, in one run on one machine: `make bench`."""
