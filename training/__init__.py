"""Data to bundle: load, analyse, engineer features, validate data, split, build and fit, evaluate, publish."""
