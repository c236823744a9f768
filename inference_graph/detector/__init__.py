"""One rung: an ONNX detector in process, and the KServe service that serves it."""

from inference_graph.detector.rung import Detector, DetectorConfig

__all__ = ["Detector", "DetectorConfig"]
