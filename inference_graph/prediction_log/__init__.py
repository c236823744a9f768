"""Every answer as a row: what is logged, the one writer, the reader, detectors' events."""
