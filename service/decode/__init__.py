"""Bytes to values, with limits checked before anything is allocated."""
