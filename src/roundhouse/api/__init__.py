"""The endpoint: one request from its first byte to its last (gateway), what operators do (admin), who may (auth)."""
