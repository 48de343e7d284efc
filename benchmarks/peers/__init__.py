"""Us beside other servers with the same ONNX graph, in one run: ``make bench-peers``."""
