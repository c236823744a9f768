"""Grafana's dashboards as provisioned JSON, made by Grafana's own library."""
