"""qosqueue: quality of service in front of model inference."""

__version__ = "0.1.0"
