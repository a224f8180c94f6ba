"""The demo: real models and a real llama.cpp server, fetched, checked and served with one command.

Knows where its files come from and what to try with them; the serving is the application's.
"""
