"""Models from Hugging Face: what a repository offers (`offers`), the hub (`source`), files on disk (`fetch`)."""
