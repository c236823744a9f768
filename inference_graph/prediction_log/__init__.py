"""Every answer as a row: what is logged, the one writer, the reader, KServe's logger events."""
