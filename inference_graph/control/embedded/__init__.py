"""The platform on one machine: the services of the manifests as local processes."""
