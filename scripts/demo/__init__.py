"""What does qosqueue change? One mixed load, driven twice: first come first served, and with QoS."""
