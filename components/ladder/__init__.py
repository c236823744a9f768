"""The ladder's own making.

Training YOLOv8 n, s and l on the sample scenes, exporting them to ONNX small enough for a
repository, and measuring what came out.
"""
