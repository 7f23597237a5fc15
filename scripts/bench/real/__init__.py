"""The simulator's scenes in real time: real Celery workers on a real broker, work that only holds its slot."""
