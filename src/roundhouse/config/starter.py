"""The configuration file that `roundhouse init` writes: loads as it is, and shows by comments what to add."""

STARTER = """\
# Roundhouse: which models there are, and where it listens.
# `roundhouse check` says whether this file is right and how each model will be run.
# Lines that begin with # and no blank are settings to take as examples: remove the #.

listen: [127.0.0.1:8002, "[::1]:8002"]   # this machine only; other addresses need keys

# Every model below this folder is listed under its file's or folder's name.
models_dir: ~/models

# Memory that models may share. Left out, it is detected.
#devices:
#  gpu0: 24GiB
#  ram: 32GiB

# For every model that does not say otherwise:
defaults:
  ttl: auto              # unloaded when idle: auto, never, or a time such as 30m
  profile: balanced      # fast-start, balanced or fast-answers

# Models with settings of their own. A path is enough; the engine is detected.
models: {}
#  my-model:
#    path: ~/models/my-model-Q4_K_M.gguf
#    context: 8192
#    aliases: [gpt-4o]         # other names for it
#    pinned: true              # never unloaded to make room
#
#  my-server:                  # any command that serves the OpenAI API
#    command: /opt/my-engine --port ${PORT}
#    health: /health
#    memory: 4GiB
#
#  elsewhere:                  # a server run by others
#    url: http://127.0.0.1:9000/v1
#    api_key: ${OTHER_SERVER_KEY}

# API keys, needed when listening on more than this machine. The hash is sha256: and
# what this prints: printf %s "$KEY" | sha256sum
#keys:
#  - {name: me, hash: "sha256:...", admin: true}
"""


def text() -> str:
    """The starter file."""
    return STARTER
