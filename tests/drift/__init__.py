"""Drift on real data: how often it is a false alarm, and how soon a real one."""
