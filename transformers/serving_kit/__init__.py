"""What every KServe service here shares: protocol, limits, metrics, model server."""
