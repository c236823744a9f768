"""Floor 4: Kubeflow pipelines; one definition serves a cluster and this machine."""
