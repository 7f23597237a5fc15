"""Other task queues for Python, with the work of `scripts/bench/work.py`; each module is one program (program.py)."""
