"""What a request costs, how many replicas that makes, and a simulated queue that measurements check."""
