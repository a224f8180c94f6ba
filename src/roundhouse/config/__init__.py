"""The configuration file: what it may say (models), how it is read (load), what is found on disk (discover).

Knows files and the environment it is given, nothing of engines, processes or HTTP.
"""
