"""Does unmodified Celery work on the transport? Celery's and Kombu's own integration tests, run through it."""
