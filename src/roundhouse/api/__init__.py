"""The endpoint: one request from its first byte to its last (gateway), what operators see and do (admin), and who may (auth)."""
