"""How does the stream of a response look? Named events with a number each, as OpenAI's client reads them here."""

from __future__ import annotations

from typing import Any

from qosqueue.policy.refusal import Refusal
from qosqueue.service.answers import output_message, output_text, response
from qosqueue.service.online import Chunk, Done
from qosqueue_web.api.errors import encode
from qosqueue_web.api.frames import Frame


class ResponseFrame(Frame):
    """One response: it begins empty, gets one message with one text, and ends whole.

    `head` and `asked` are those of `response`.
    """

    def __init__(self, head: dict[str, Any], asked: dict[str, Any]) -> None:
        self.id = str(head["id"])
        self._head = head
        self._asked = asked
        self._number = 0
        self._message_told = False
        self._text: list[str] = []

    def begin(self) -> str:
        begun = response(self._head, self._asked, "in_progress")
        return self._event("response.created", response=begun) + self._event("response.in_progress", response=begun)

    def detoured(self, model: str) -> None:
        self._head = {**self._head, "model": model}

    def chunk(self, event: Chunk) -> str:
        text = "".join(choice.get("delta", {}).get("content") or "" for choice in event.choices)
        if not text:
            return ""
        self._text.append(text)
        return self._message() + self._event("response.output_text.delta", **self._part(), delta=text, logprobs=[])

    def end(self, done: Done) -> str:
        self.is_complete = True
        (message,) = done.result["output"]
        text = message["content"][0]["text"]
        return (
            self._message()
            + self._event("response.output_text.done", **self._part(), text=text, logprobs=[])
            + self._event("response.content_part.done", **self._part(), part=output_text(text))
            + self._event("response.output_item.done", output_index=0, item=message)
            + self._event(f"response.{done.result['status']}", response=done.result)
        )

    def failure(self, refusal: Refusal) -> str:
        error = {"code": refusal.code, "message": refusal.message}
        output = [output_message(self.id, "".join(self._text), "incomplete")] if self._message_told else []
        failed = response(self._head, self._asked, "failed", output=output, error=error)
        return self._event("response.failed", response=failed)

    def _message(self) -> str:
        """The events before the first text."""
        if self._message_told:
            return ""
        self._message_told = True
        item = {**output_message(self.id, "", "in_progress"), "content": []}
        return self._event("response.output_item.added", output_index=0, item=item) + self._event(
            "response.content_part.added", **self._part(), part=output_text("")
        )

    def _part(self) -> dict[str, Any]:
        return {"item_id": output_message(self.id, "", "")["id"], "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **data: Any) -> str:
        told = {"type": kind, "sequence_number": self._number, **data}
        self._number += 1
        return f"event: {kind}\ndata: {encode(told)}\n\n"
