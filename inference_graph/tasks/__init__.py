"""How a rung of each task is opened for serving and measuring.

What lies in a ladder's folder identifies the task: ``nano.onnx`` is a detector,
``nano.json`` names an engine that reads text or listens to speech.
"""
