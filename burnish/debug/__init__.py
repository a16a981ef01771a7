"""Debugging tools: observers and controllers of the one door through which graphs change."""
