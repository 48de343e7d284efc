"""Us and peers side by side in one run."""
