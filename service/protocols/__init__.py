"""Wire formats: one a file, decode and encode side by side."""
