"""`roundhouse install`: Roundhouse as a systemd service of its own.

`units` and `polkit` write texts; `plan` says which files and commands an installation takes; `facts` looks at the
machine; `carry` carries a plan out and takes it back.
"""
