"""Burnish: a graph compiler and executor for language models."""
