"""The scheduling rules that the simulator compares: qosqueue's own, and each rival as one small policy."""
