"""HTTP -> decode -> batch -> model -> encode."""
