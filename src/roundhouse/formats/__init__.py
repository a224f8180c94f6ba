"""What model files say about themselves, as `ports.ModelFacts`. Pure: bytes and streams in, values out."""
