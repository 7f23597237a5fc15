"""The simulator: work, servers, the loop that lets a rule drive them, and what is counted afterwards."""
