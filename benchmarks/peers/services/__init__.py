"""One small service a peer, as its users would tune it; each runs in an environment of its own.

All read ``PEER_MODEL`` (the ONNX file) and ``PEER_PORT`` and run one ONNX Runtime session of one thread a process. All
but Triton, which speaks its own protocol, answer ``{"rows": [...]}`` with the output rows.
"""
