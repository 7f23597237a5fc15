"""How does a program submit jobs, follow them, and ask for answers at once? A small client of the HTTP API.

    from qosqueue.client import Client

    with Client("http://127.0.0.1:8080", key="qq_…") as qosqueue:
        job = qosqueue.submit({"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]})
        print(qosqueue.wait(job.id).text)

`AsyncClient` has the same methods, to be awaited. The unmodified `openai` package works with the same server; this
client has what that one does not know: jobs, their place in the queue, and why they waited.
"""

from qosqueue.client.answers import ApiError, Job, JobNotDone, Piece, Position
from qosqueue.client.asynchronous import AsyncClient
from qosqueue.client.synchronous import Client

__all__ = ["ApiError", "AsyncClient", "Client", "Job", "JobNotDone", "Piece", "Position"]
