"""Kubernetes manifests, and what writes the one of them that is made of other files."""
