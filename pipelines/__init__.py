"""Floor 4: Kubeflow pipelines, the same definition compiled for a cluster and run on one machine."""
