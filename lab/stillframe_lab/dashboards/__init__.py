"""Grafana's dashboards as they are shipped, and pictures of them from what Prometheus answers. Knows no daemon."""
