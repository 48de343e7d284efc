"""Locust users whose every answer is checked."""
