"""Clients of others, each as a program of its own, against a Roundhouse with real models (`make test-clients`)."""
