"""The documents; `docs.generate` writes those of them that are made from the code."""
