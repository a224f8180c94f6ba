"""What clients and engines say to one another, as bytes: pure, without I/O and without a clock.

Owns the wire shapes (SSE, OpenAI bodies, errors, status lines). Knows no model, no engine and no connection.
"""
