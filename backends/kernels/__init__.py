"""Compiled kernels for the places where the time goes."""
