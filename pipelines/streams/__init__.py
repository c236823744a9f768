"""Kafka on this machine: a broker to try streams with."""
