"""Importers: other programs' configurations in the words of ours, and what of them could not be said.

Each reads files of others and runs nothing. `choose` picks one, `writing` makes the text. Knows no command line.
"""
