"""A project that was written for stock Celery and adopted the order; docs/howto/adopt-in-a-celery-project.md."""
