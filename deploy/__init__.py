"""What runs around the service: compose file, Prometheus, Grafana."""
